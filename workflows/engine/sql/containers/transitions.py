"""The statements of `containers` that set a status or insert runs or steps; for `state.transitions`."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class CancelItemsRow(NamedTuple):
    id: UUID
    was_ready: bool


def cancel_items(
    *, id: UUID, indexes: Iterable[int] | None, cursor: database.Cursor | None = None
) -> list[CancelItemsRow]:
    """Cancel what is open and not executing within a container, and within the containers in it."""
    parameters = {"id": id, "indexes": None if indexes is None else list(indexes)}
    return database.fetch("cancel_items", parameters, CancelItemsRow._make, cursor)


class CancelOrphanStepsRow(NamedTuple):
    id: UUID
    was_ready: bool
    container_id: UUID


def cancel_orphan_steps(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[CancelOrphanStepsRow]:
    """Steps in containers that are recorded without an end (they wait, or are ready again) although their item or a
    container around them has ended or is to stop."""
    return database.fetch("cancel_orphan_steps", {"ids": list(ids)}, CancelOrphanStepsRow._make, cursor)


class InsertFanOutsRow(NamedTuple):
    step_run_id: UUID


def insert_fan_outs(*, fan_outs: str, cursor: database.Cursor | None = None) -> list[InsertFanOutsRow]:
    """Containers begin, in the transaction that makes them wait."""
    return database.fetch("insert_fan_outs", {"fan_outs": fan_outs}, InsertFanOutsRow._make, cursor)


class OpenItemsRow(NamedTuple):
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
    needs_prepare: bool


def open_items(*, ids: Iterable[UUID], paused: bool, cursor: database.Cursor | None = None) -> list[OpenItemsRow]:
    """Open the next items of containers, as many as they have room for."""
    return database.fetch("open_items", {"ids": list(ids), "paused": paused}, OpenItemsRow._make, cursor)
