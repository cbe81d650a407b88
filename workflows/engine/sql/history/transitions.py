"""The statements of `history` that set a status or insert runs or steps; for `state.transitions`."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class InsertRunHistoryRow(NamedTuple):
    id: UUID


def insert_run_history(*, rows: str, cursor: database.Cursor | None = None) -> list[InsertRunHistoryRow]:
    """Insert runs that have ended, from an export."""
    return database.fetch("insert_run_history", {"rows": rows}, InsertRunHistoryRow._make, cursor)


class InsertStepHistoryRow(NamedTuple):
    id: UUID


def insert_step_history(*, rows: str, cursor: database.Cursor | None = None) -> list[InsertStepHistoryRow]:
    """Insert step runs that have ended, from an export."""
    return database.fetch("insert_step_history", {"rows": rows}, InsertStepHistoryRow._make, cursor)
