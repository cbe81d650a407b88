"""The engine's connections and its named statements.

Each thread of the engine (`adopt`) has one long-lived connection of its own: Celery's Django fixup closes Django's
before and after every task. Everybody else (web, commands) uses Django's. A statement is a file of `sql/`; it is
prepared at its second use. On the engine's connections the planner is told to use indexes and nested loops only, since
every statement is made for them and the tables may just have been empty when it was planned (ADR 0004).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psycopg
from django.db import connection as django_connection
from django.db import connections
from django.db import transaction as django_transaction
from psycopg.types.json import JsonbLoader

from workflows import this_process
from workflows.sealing import envelope
from workflows.this_process.configuration import configuration

SQL_DIR = Path(__file__).parent.parent / "sql"
_SETTINGS = (
    "-c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off "
    "-c plan_cache_mode=force_generic_plan -c jit=off"
)
_local = threading.local()


class PayloadLoader(JsonbLoader):
    """Reads JSON, and opens what is sealed in it."""

    def load(self, data: Any) -> Any:
        text = bytes(data)
        return envelope.loads(text) if envelope.has_marker_bytes(text) else json.loads(text)


Cursor = psycopg.Cursor[Any]
Connection = psycopg.Connection[Any]
Row = TypeVar("Row")


@functools.cache
def _files() -> dict[str, str]:
    """All statements by their names, read at the first use of one: while a process runs, the files may become those of
    the next release."""
    return {path.stem: path.read_text(encoding="utf-8") for path in SQL_DIR.glob("*/*.sql")}


@functools.cache
def statement(name: str) -> str:
    """The SQL of `sql/<room>/<name>.sql`, without its comments."""
    lines = _files()[name].splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("--"))


_PARAMETER = re.compile(r"%\((\w+)\)s|%%")


class Numbered(NamedTuple):
    """A statement as Postgres takes it, and the names of its parameters in their order."""

    sql: bytes
    names: tuple[str, ...]


@functools.cache
def numbered(name: str) -> Numbered:
    """The statement of this name with numbered parameters ($1 …). (The driver would look for the named ones at each
    call: it remembers that of queries of at most 4,096 characters.)"""
    text = statement(name)
    names = list(dict.fromkeys(_PARAMETER.findall(text)))
    names = [each for each in names if each]
    sql = _PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}" if match[1] else "%", text)
    return Numbered(sql.encode(), tuple(names))


class StatementCounter:
    """Counts the statements that the engine sends; for the bench and for tests."""

    def __init__(self) -> None:
        self.by_name: dict[str, int] = {}

    def add(self, name: str) -> None:
        self.by_name[name] = self.by_name.get(name, 0) + 1


def counter() -> StatementCounter:
    """This process's counter."""
    return this_process.own(StatementCounter)


def parameters() -> dict[str, Any]:
    """The parameters of a connection to the database that Django uses, for the driver itself."""
    return {
        name: value
        for name, value in django_connection.get_connection_params().items()
        if name not in {"cursor_factory", "pool", "prepare_threshold", "context"}
    }


def connect() -> Connection:
    """A new connection to the database that Django uses, in autocommit mode.

    Behind a pooler that gives each transaction another connection, nothing may stay with a connection: no statement is
    prepared, and the settings are the pooler's to make (`connect_query`, see the how-to on production).
    """
    given = parameters()
    if configuration().db_pooler:
        return _opening(psycopg.connect(**given, autocommit=True, prepare_threshold=None))
    options = f"{given.pop('options', '')} {_SETTINGS}".strip()
    return _opening(psycopg.connect(**given, options=options, autocommit=True, prepare_threshold=1))


def _opening(new: Connection) -> Connection:
    new.adapters.register_loader("jsonb", PayloadLoader)
    return new


def connection() -> Connection:
    """This thread's connection; a lost one, or one from before a fork, is replaced."""
    current: Connection | None = getattr(_local, "connection", None)
    if current is None or connection_is_broken() or _local.pid != os.getpid():
        if current is not None and _local.pid == os.getpid():
            current.close()
        current = connect()
        _local.connection, _local.pid = current, os.getpid()
    return current


def adopt() -> None:
    """Make this thread one of the engine's: it gets a connection of its own, which it must `close`."""
    _local.adopted = True


class SpareConnections(list[Connection]):
    """Connections that threads of the engine use in turn; the last one that was given back is the next one taken."""


@contextlib.contextmanager
def borrowed() -> Iterator[None]:
    """For a thread that talks to the database now and then: it has a connection of its own for as long as this is open,
    so that there are as many as are used at once, not as there are threads."""
    if getattr(_local, "connection", None) is not None:
        yield
        return
    spare = this_process.own(SpareConnections)
    with contextlib.suppress(IndexError):
        _local.connection, _local.pid = spare.pop(), os.getpid()
    try:
        yield
    finally:
        used: Connection | None = getattr(_local, "connection", None)
        _local.connection = None
        if used is not None:
            spare.append(used)


def close_spare() -> None:
    """Close the connections that nobody has borrowed."""
    spare = this_process.own(SpareConnections)
    while spare:
        spare.pop().close()


def is_adopted() -> bool:
    """Whether this thread is one of the engine's."""
    return getattr(_local, "adopted", False)


@contextlib.contextmanager
def borrowed_from_django() -> Iterator[None]:
    """For the ORM in a thread of the engine: the connection that Django opens for it is given back at once."""
    try:
        yield
    finally:
        if is_adopted() and any(each.connection is not None for each in connections.all(initialized_only=True)):
            connections.close_all()


def _is_own() -> bool:
    """Within a transaction of Django's, a statement belongs to that, in an engine's thread too."""
    return is_adopted() and not django_connection.in_atomic_block


def _current() -> Connection:
    """This thread's connection, or Django's."""
    if _is_own():
        return connection()
    django_connection.ensure_connection()
    found: Connection = django_connection.connection
    return found


def close() -> None:
    """Close this thread's connection."""
    current: Connection | None = getattr(_local, "connection", None)
    if current is not None and _local.pid == os.getpid():
        current.close()
    _local.connection = None


def _read_json(cursor: Cursor) -> None:
    """On Django's connection, which leaves JSON as text, for its own fields."""
    if cursor.connection is not getattr(_local, "connection", None):
        cursor.adapters.register_loader("jsonb", PayloadLoader)


@contextlib.contextmanager
def transaction() -> Iterator[Cursor]:
    """A transaction on this thread's connection, or (part of) one on Django's."""
    own = _is_own()
    with connection().transaction() if own else django_transaction.atomic(), psycopg.Cursor(_current()) as cursor:
        _read_json(cursor)
        yield cursor


def fetch(
    name: str, parameters: Mapping[str, Any], make: Callable[[Iterable[Any]], Row], cursor: Cursor | None = None
) -> list[Row]:
    """Run a named statement and return its rows as `make` makes them; by itself, or on the cursor of a transaction.

    Only the typed functions of `workflows.engine.sql` call this. By itself a statement is tried once more where the
    connection turns out to have been ended meanwhile. That is safe even if the first try had been committed: every
    statement is guarded, so the second one changes nothing, and what follows from the first is found by rescue.
    """
    counter().add(name)
    if cursor is not None:
        return _execute(cursor.connection, name, parameters, make)
    try:
        return _execute(_current(), name, parameters, make)
    except psycopg.OperationalError:
        if not _is_own() or not connection_is_broken():
            raise
    return _execute(_current(), name, parameters, make)


def connection_is_broken() -> bool:
    current: Connection | None = getattr(_local, "connection", None)
    return current is None or current.closed or current.broken


def _execute(
    connection: Connection, name: str, parameters: Mapping[str, Any], make: Callable[[Iterable[Any]], Row]
) -> list[Row]:
    sql, names = numbered(name)
    with psycopg.RawCursor(connection, row_factory=lambda _: make) as cursor:
        _read_json(cursor)
        cursor.execute(sql, [parameters[each] for each in names])
        return cursor.fetchall() if cursor.description else []
