"""Stopping runs: their flag is committed first, then what is open is cancelled, and undone where a step asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from workflows.engine import dispatch, meeting, transitions, waits
from workflows.engine.rows import ReadyStep

SETTLE_GROUP = 100


def settle(run_ids: Sequence[UUID], *, start: Callable[[Sequence[ReadyStep]], None] = dispatch.dispatch) -> None:
    """Cancel what is open of runs that are bound to stop, give their permits back, and `start` what undoes their steps.

    What fails here, rescue makes good.
    """
    for first in range(0, len(run_ids), SETTLE_GROUP):
        settled = transitions.settle(sorted(run_ids[first : first + SETTLE_GROUP]))
        dispatch.withdraw(settled.withdrawn, [run_id for run_id, _ in settled.ended])
        if settled.ready:
            start(settled.ready)
        meeting.resolve(waits.take_for_runs([run_id for run_id, _ in settled.ended]), start=start)


def expire(*, batch: int) -> None:
    """Cancel the runs whose timeouts have passed."""
    expired = transitions.expire(batch=batch)
    if expired:
        settle(expired)
