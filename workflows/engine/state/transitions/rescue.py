"""Changes of the status of steps whose processes died."""

from __future__ import annotations

import uuid
from typing import NamedTuple
from uuid import UUID

from workflows.engine.sql.rescue import transitions as sql
from workflows.engine.state.records import Claim, ReadyStep
from workflows.engine.state.transitions.steps import LEASE_S

MAX_LOSSES = 3
"""A step is given up after so many losses that count against it: it was alone in its process."""
MAX_ALL_LOSSES = 10
"""And after so many of any kind: one that takes its worker along with its own process is never seen alone."""


class Lost(NamedTuple):
    """Steps that have lost their worker."""

    ready: list[ReadyStep]
    given_up: list[Claim]
    """Those that were lost too often, under a new lease, for the caller to record their failures."""


def take_from_lost_workers(*, worker: UUID, batch: int) -> Lost:
    """running → ready for steps whose leases have run out; those that were lost too often are claimed by `worker`."""
    lease = uuid.uuid4()
    rows = sql.rescue_dead_leases(
        batch=batch,
        max_losses=MAX_LOSSES,
        max_all_losses=MAX_ALL_LOSSES,
        lease=lease,
        worker=worker,
        lease_s=LEASE_S,
        grace_s=LEASE_S / 2,
        silent_s=LEASE_S / 2,
    )
    return Lost(
        ready=[ReadyStep.of(row) for row in rows if row.status == "ready"],
        given_up=[Claim.of(row, lease) for row in rows if row.status == "running"],
    )


def ready_unmarked(*, batch: int) -> list[UUID]:
    """pending → ready for steps that have no need left. Returns them."""
    return [row.id for row in sql.rescue_unmarked(batch=batch)]


def close_orphans(*, batch: int) -> list[UUID]:
    """Cancel the open steps of runs that have ended. Returns them."""
    return [row.id for row in sql.close_orphan_steps(batch=batch)]
