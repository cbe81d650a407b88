"""Changes of the status of steps in containers: their items open, and stop."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from workflows.engine.sql.containers import transitions as sql
from workflows.engine.sql.containers.transitions import CancelOrphanStepsRow
from workflows.engine.state import database
from workflows.engine.state.records import ReadyStep


def begin(fan_outs: str, *, cursor: database.Cursor) -> list[UUID]:
    """Store containers and their items, given as JSON text; what a resumed run takes over has ended already.

    Returns the containers that are new.
    """
    return [row.step_run_id for row in sql.insert_fan_outs(fan_outs=fan_outs, cursor=cursor)]


def open_items(container_ids: Sequence[UUID], *, paused: bool, cursor: database.Cursor) -> list[ReadyStep]:
    """Open as many items of containers as there is room for. Returns the steps that are ready.

    `paused`: an item has ended before, so that a container's pause counts.
    """
    rows = sql.open_items(ids=container_ids, paused=paused, cursor=cursor) if container_ids else []
    return [ReadyStep.new(row, path=row.path) for row in rows]


def cancel_items(container_id: UUID, indexes: Sequence[int] | None, *, cursor: database.Cursor) -> list[UUID]:
    """Cancel the open steps of a container (None), or of some of its items. Returns those that were ready."""
    return [row.id for row in sql.cancel_items(id=container_id, indexes=indexes, cursor=cursor) if row.was_ready]


def cancel_orphan_steps(step_run_ids: Sequence[UUID], *, cursor: database.Cursor) -> list[CancelOrphanStepsRow]:
    """Cancel those of these steps whose items or containers have ended or are to stop. Returns them."""
    return sql.cancel_orphan_steps(ids=step_run_ids, cursor=cursor) if step_run_ids else []
