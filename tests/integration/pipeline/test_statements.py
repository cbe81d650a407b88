"""What Postgres says of the SQL files: their headers name the columns that come, in their order, with their types."""

from __future__ import annotations

import re

import pytest
from django.db import connection

from devtools import statements
from devtools.statements import Item, Statement

NAMES = {
    "integer": "int",
    "bigint": "bigint",
    "double precision": "float8",
    "boolean": "bool",
    "character varying": "text",
    "timestamp with time zone": "timestamptz",
}


@pytest.mark.usefixtures("live_db")
@pytest.mark.parametrize("statement", statements.read_all(), ids=lambda each: each.name)
def test_the_header_says_what_comes(statement: Statement) -> None:
    connection.ensure_connection()
    raw = connection.connection
    names = [item.name for item in statement.parameters]
    text = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", statement.sql).replace("%%", "%")
    prepared = raw.pgconn.prepare(b"", text.encode())
    assert not prepared.error_message
    described = raw.pgconn.describe_prepared(b"")
    with connection.cursor() as cursor:
        cursor.execute("SELECT oid::int, format_type(oid, NULL) FROM pg_type")
        types = dict(cursor.fetchall())
    columns = [(described.fname(n).decode(), _type(types[described.ftype(n)])) for n in range(described.nfields)]
    assert [column for column in columns if column[1] != "void"] == [_said(item) for item in statement.columns]


def _said(item: Item) -> tuple[str, str]:
    return item.name, f"{item.type}[]" if item.is_array else item.type


def _type(name: str) -> str:
    base = name.removesuffix("[]")
    return NAMES.get(base, base) + name[len(base) :]
