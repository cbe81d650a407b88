"""Recording what waits came to, and starting what follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

import psycopg
import structlog

from workflows.engine import dispatch, fan_out, recording, store, waits
from workflows.engine.rows import ReadyStep, Verdict

log = structlog.get_logger(__name__)
GROUP = 200
BATCH = 1_000


def resolve(step_run_ids: Sequence[UUID], *, start: Callable[[Sequence[ReadyStep]], None] = dispatch.dispatch) -> None:
    """Record the outcomes of waits that are taken, and `start` what became ready. Rescue makes good what fails."""
    for first in range(0, len(step_run_ids), GROUP):
        group = step_run_ids[first : first + GROUP]
        try:
            _resolve(group, start)
        except psycopg.OperationalError:
            raise
        except Exception:
            log.exception("the ends of waits can't be recorded together", steps=len(group))
            for step_run_id in group if len(group) > 1 else ():
                resolve([step_run_id], start=start)


def _resolve(step_run_ids: Sequence[UUID], start: Callable[[Sequence[ReadyStep]], None]) -> None:
    verdicts = waits.verdicts(step_run_ids)
    _record(verdicts, start)
    waits.drop([verdict.claim.id for verdict in verdicts])


def _record(verdicts: Sequence[Verdict], start: Callable[[Sequence[ReadyStep]], None]) -> None:
    recorded = recording.record(verdicts)
    dispatch.withdraw(recorded.withdrawn, [run_id for run_id, _ in recorded.ended])
    if recorded.ready:
        start(recorded.ready)


def conclude(step_run_ids: Sequence[UUID]) -> None:
    """Record what containers whose items have ended came to, and go on with their loops."""
    verdicts, ready = fan_out.conclude(step_run_ids)
    _record(verdicts, dispatch.dispatch)
    fan_out.close(step_run_ids)
    if ready:
        dispatch.dispatch(ready)


def expire() -> bool:
    """End the waits whose time is up. Returns whether there may be more."""
    due = [row.step_run_id for row in store.fetch("expire_waits", {"batch": BATCH})]
    resolve(due)
    return len(due) == BATCH


def rescue() -> None:
    """Make good for processes that died: after a wait was stored, after it was taken, after a run's end."""
    late = {"grace_s": waits.GRACE_S, "batch": BATCH}
    resolve(waits.look_back([row.step_run_id for row in store.fetch("waits_to_look_back", late)]))
    resolve([row.step_run_id for row in store.fetch("left_over_waits", late)])
    conclude([row.step_run_id for row in store.fetch("left_over_fan_outs", late)])
    resolve(waits.take_for_runs([row.child_id for row in store.fetch("ended_children", {"batch": BATCH})]))
