"""The statements of `rescue` that set a status or insert runs or steps; for `state.transitions`."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class CloseOrphanStepsRow(NamedTuple):
    id: UUID


def close_orphan_steps(*, batch: int, cursor: database.Cursor | None = None) -> list[CloseOrphanStepsRow]:
    """Open steps of runs that have ended."""
    return database.fetch("close_orphan_steps", {"batch": batch}, CloseOrphanStepsRow._make, cursor)


class RescueDeadLeasesRow(NamedTuple):
    id: UUID
    run_id: UUID
    version_id: UUID
    org_id: UUID
    key: str
    path: str
    index: int | None  # type: ignore[assignment]
    container_id: UUID | None
    queue: str
    type: str
    priority: int
    attempt: int
    needs_total: int
    needs_met: int
    status: str
    losses: int
    wake_seq: int
    server_retry_waits: int
    timeout_ms: int
    queued_s: float
    needs_prepare: bool


def rescue_dead_leases(
    *,
    batch: int,
    max_losses: int,
    max_all_losses: int,
    lease: UUID,
    worker: UUID,
    lease_s: float,
    grace_s: float,
    silent_s: float,
    cursor: database.Cursor | None = None,
) -> list[RescueDeadLeasesRow]:
    """Running steps whose lease has run out."""
    parameters = {
        "batch": batch, "max_losses": max_losses, "max_all_losses": max_all_losses, "lease": lease, "worker": worker,
        "lease_s": lease_s, "grace_s": grace_s, "silent_s": silent_s
    }  # fmt: skip
    return database.fetch("rescue_dead_leases", parameters, RescueDeadLeasesRow._make, cursor)


class RescueUnmarkedRow(NamedTuple):
    id: UUID


def rescue_unmarked(*, batch: int, cursor: database.Cursor | None = None) -> list[RescueUnmarkedRow]:
    """Pending steps that have no need left."""
    return database.fetch("rescue_unmarked", {"batch": batch}, RescueUnmarkedRow._make, cursor)
