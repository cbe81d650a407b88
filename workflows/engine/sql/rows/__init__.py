"""The statements of `rows` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class AwaitRowsRow(NamedTuple):
    left_s: float


def await_rows(
    *, step: UUID, org: UUID, tables: Iterable[str], timeout_s: float, cursor: database.Cursor | None = None
) -> list[AwaitRowsRow]:
    """A step looks for a row of the application."""
    parameters = {"step": step, "org": org, "tables": list(tables), "timeout_s": timeout_s}
    return database.fetch("await_rows", parameters, AwaitRowsRow._make, cursor)


class AwaitedTablesRow(NamedTuple):
    table_name: str


def awaited_tables(cursor: database.Cursor | None = None) -> list[AwaitedTablesRow]:
    """The tables whose rows steps wait for, each once, however many do."""
    return database.fetch("awaited_tables", {}, AwaitedTablesRow._make, cursor)


class ForgetModelWaitsRow(NamedTuple):
    id: int


def forget_model_waits(*, batch: int, cursor: database.Cursor | None = None) -> list[ForgetModelWaitsRow]:
    """Delete what steps waited for that have ended."""
    return database.fetch("forget_model_waits", {"batch": batch}, ForgetModelWaitsRow._make, cursor)


class LookAfterChangesRow(NamedTuple):
    id: UUID


def look_after_changes(*, batch: int, cursor: database.Cursor | None = None) -> list[LookAfterChangesRow]:
    """Steps that began to wait for rows while those changed."""
    return database.fetch("look_after_changes", {"batch": batch}, LookAfterChangesRow._make, cursor)


class RowsChangedRow(NamedTuple):
    soon_s: float


def rows_changed(
    *, tables: Iterable[str], every_s: float, batch: int, cursor: database.Cursor | None = None
) -> list[RowsChangedRow]:
    """Rows of these tables have changed."""
    parameters = {"tables": list(tables), "every_s": every_s, "batch": batch}
    return database.fetch("rows_changed", parameters, RowsChangedRow._make, cursor)
