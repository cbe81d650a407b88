"""Stopping runs: their flag is committed first, then what is open is cancelled, and undone where a step asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import structlog

from workflows.edge.unavailable import is_database_away
from workflows.engine.pipeline import dispatcher, publish, record
from workflows.engine.state.records import Recorded
from workflows.engine.state.transitions import runs as run_transitions
from workflows.engine.waits import resolve, waits
from workflows.engine.worker import ending

log = structlog.get_logger(__name__)
GROUP = 100


def stop_runs(run_ids: Sequence[UUID]) -> None:
    """Cancel what is open of runs that are bound to stop, give their permits back, and start what undoes their steps.

    What fails here, rescue makes good.
    """
    for first in range(0, len(run_ids), GROUP):
        _stop_apart(run_ids[first : first + GROUP])


def _stop_apart(run_ids: Sequence[UUID]) -> None:
    """Stop the runs, in halves where they can't be together, so that a bad one keeps no other from its end."""
    try:
        stop_together(run_ids)
    except BaseException as error:
        ending.raise_if_ending(error)
        if is_database_away(error):
            raise
        if len(run_ids) == 1:
            log.warning("a run can't be stopped now; rescue will", run_id=str(run_ids[0]), exc_info=error)
            return
        middle = len(run_ids) // 2
        _stop_apart(run_ids[:middle])
        _stop_apart(run_ids[middle:])


def stop_together(run_ids: Sequence[UUID]) -> None:
    """Stop runs; raises where one of them keeps the others from it."""
    stopped = run_transitions.stop_runs(sorted(run_ids))
    record.report(Recorded(ended=stopped.ended))
    publish.withdraw(stopped.unstarted, [run_id for run_id, _ in stopped.ended])
    if stopped.ready:
        dispatcher.start(stopped.ready)
    resolve.resolve(waits.take_for_runs([run_id for run_id, _ in stopped.ended]))


def expire(*, batch: int) -> None:
    """Cancel the runs whose timeouts have passed."""
    expired = run_transitions.expire(batch=batch)
    if expired:
        stop_runs(expired)
