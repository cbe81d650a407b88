"""The statements of `publish` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class MarkDispatchedRow(NamedTuple):
    id: UUID
    run_id: UUID
    version_id: UUID
    key: str
    path: str
    queue: str
    type: str
    priority: int
    attempt: int
    needs_total: int
    needs_met: int
    losses: int
    needs_prepare: bool


def mark_dispatched(
    *, ids: Iterable[UUID], published: bool, cursor: database.Cursor | None = None
) -> list[MarkDispatchedRow]:
    """Note that ready steps are being published, or with `published` false that it failed."""
    parameters = {"ids": list(ids), "published": published}
    return database.fetch("mark_dispatched", parameters, MarkDispatchedRow._make, cursor)


def mark_parked(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> None:
    """Note that ready steps wait for a limit, so that no sweep takes them for lost."""
    database.fetch("mark_parked", {"ids": list(ids)}, tuple, cursor)
