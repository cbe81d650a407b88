"""Versions up to 0.1.0 called the apps `workflows`, `throttling` and `dlq`, and named tables after that.

The migration 0000 of each app gives its tables their names of today (docs/adr/0024-one-package.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from django.db import connections
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.recorder import MigrationRecorder
from psycopg import sql

LOCK_TIMEOUT_S = 20


def rename(editor: BaseDatabaseSchemaEditor, migrations: str, models: Iterable[str]) -> list[str]:
    """Tables, their sequences, functions and content types get the label of today. Returns the tables' former names.

    `migrations` is the package of the app's migrations: what its first one `replaces` says how the app was called. It
    renames nothing where that was never applied to this database: where the database is new, where it was renamed, and
    in the wheel, whose migrations replace nothing (an app called `workflows` is another's there).
    """
    first = import_module(f"{migrations}.0001_initial").Migration
    if not first.replaces:
        return []
    ((former, name),) = first.replaces
    label = f"headrace_{former}"
    connection = connections[editor.connection.alias]
    if (former, name) not in MigrationRecorder(connection).applied_migrations():
        return []
    with connection.cursor() as cursor:
        # A worker that still goes on holds locks: give up with an error, rather than stand in the way of everybody.
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'")
        renamed = [model for model in models if _rename(cursor, f"{former}_{model}", f"{label}_{model}")]
        _rewrite_functions(cursor, former, label, renamed)
        _relabel(cursor, former, label, renamed)
    return [f"{former}_{model}" for model in renamed]


def _rename(cursor: Any, before: str, after: str) -> bool:
    """Whether there was such a table."""
    cursor.execute("SELECT to_regclass(%s), to_regclass(%s)", [f'"{before}"', f'"{after}"'])
    old, new = cursor.fetchone()
    if old is None or new is not None:
        return False
    cursor.execute(
        """SELECT s.relname FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
            WHERE d.refobjid = to_regclass(%s) AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')""",
        [f'"{before}"'],
    )
    for (sequence,) in cursor.fetchall():
        name = after + str(sequence).removeprefix(before)
        _alter(cursor, "SEQUENCE", sequence, name)
    _alter(cursor, "TABLE", before, after)
    return True


def _alter(cursor: Any, kind: str, before: str, after: str) -> None:
    statement = sql.SQL("ALTER {} {} RENAME TO {}")
    cursor.execute(statement.format(sql.SQL(kind), sql.Identifier(before), sql.Identifier(after)))  # type: ignore[arg-type]


def _rewrite_functions(cursor: Any, former: str, label: str, models: list[str]) -> None:
    """The functions of triggers name tables in their text."""
    names = re.compile(rf"\b{former}_({'|'.join(models)})\b")
    cursor.execute(
        """SELECT pg_get_functiondef(oid) FROM pg_proc
            WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'headrace\\_%' AND prokind = 'f'"""
    )
    for (definition,) in cursor.fetchall():
        rewritten = names.sub(rf"{label}_\1", definition)
        if rewritten != definition:
            cursor.execute(rewritten)


def _relabel(cursor: Any, former: str, label: str, models: list[str]) -> None:
    """Permissions and the log of the admin point at content types, so they follow."""
    cursor.execute("SELECT to_regclass('django_content_type')")
    if cursor.fetchone()[0] is not None:
        cursor.execute(
            "UPDATE django_content_type SET app_label = %s WHERE app_label = %s AND model = ANY(%s)",
            [label, former, models],
        )
