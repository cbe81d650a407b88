"""The statements of `claim` that set a status or insert runs or steps; for `state.transitions`."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class ClaimStepsRow(NamedTuple):
    id: UUID
    run_id: UUID
    version_id: UUID
    org_id: UUID
    key: str
    path: str
    index: int | None  # type: ignore[assignment]
    container_id: UUID | None
    attempt: int
    wake_seq: int
    losses: int
    server_retry_waits: int
    timeout_ms: int
    queue: str
    type: str
    priority: int
    queued_s: float
    needs_met: int
    needs_total: int
    dispatched_at: float | None
    run_status: str
    run_trigger: str
    run_event: str
    run_event_id: UUID | None
    run_awaited: bool


def claim_steps(
    *,
    pure: Iterable[str],
    ids: Iterable[str],
    attempts: Iterable[int | None],
    lease: UUID,
    worker: UUID,
    lease_s: float,
    cursor: database.Cursor | None = None,
) -> list[ClaimStepsRow]:
    """ready → running for a batch, with a fresh lease."""
    parameters = {
        "pure": list(pure), "ids": list(ids), "attempts": list(attempts), "lease": lease, "worker": worker,
        "lease_s": lease_s
    }  # fmt: skip
    return database.fetch("claim_steps", parameters, ClaimStepsRow._make, cursor)
