"""The statements of `leader` that set a status or insert runs or steps; for `state.transitions`."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class WakeStepsRow(NamedTuple):
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


def wake_steps(*, batch: int, cursor: database.Cursor | None = None) -> list[WakeStepsRow]:
    """waiting → ready for every timer that is due."""
    return database.fetch("wake_steps", {"batch": batch}, WakeStepsRow._make, cursor)
