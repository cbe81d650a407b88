"""Recording what waits came to, and starting what follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import Protocol
from uuid import UUID

import structlog

from workflows.edge.unavailable import is_database_away
from workflows.engine.containers import fan_out
from workflows.engine.maintenance import sweeps
from workflows.engine.pipeline import dispatcher, publish, record
from workflows.engine.pipeline.retry_decision import describe
from workflows.engine.run_controls import sleepers
from workflows.engine.sql import waits as sql
from workflows.engine.state import flow_cache
from workflows.engine.state.records import StepResult
from workflows.engine.waits import waits
from workflows.engine.worker import ending
from workflows.steps.outcome import Failed

log = structlog.get_logger(__name__)
GROUP = 200
BATCH = 1_000


def resolve(step_run_ids: Sequence[UUID]) -> None:
    """Record the outcomes of waits that are taken, and start what became ready. Rescue makes good what fails."""
    for first in range(0, len(step_run_ids), GROUP):
        group = step_run_ids[first : first + GROUP]
        try:
            _resolve(group)
        except BaseException as error:
            ending.raise_if_ending(error)
            if is_database_away(error):
                raise
            log.warning("the ends of waits can't be recorded together", steps=len(group), exc_info=error)
            middle = len(group) // 2
            for half in (group[:middle], group[middle:]) if middle else ():
                resolve(half)


def _resolve(step_run_ids: Sequence[UUID]) -> None:
    results = waits.results(step_run_ids)
    _, refused = flow_cache.divide([result.claim for result in results])
    newer = {claim.id: error for claim, error in refused if flow_cache.is_newer(error)}
    mine = [result for result in results if result.claim.id not in newer]
    statuses = _record(mine)
    waits.drop([result.claim.id for result in mine if result.claim.id in statuses])
    for error in newer.values():
        raise error  # they are left to others
    if len(mine) > len(statuses) and len(mine) > 1:
        raise NotAllRecorded


class NotAllRecorded(RuntimeError):
    """Some of the group were recorded; the others are looked at by themselves."""


def _record(results: Sequence[StepResult]) -> Set[UUID]:
    """Record, and go on. Returns the step runs whose results counted."""
    recorded = record.record(results)
    ended = [run_id for run_id, _ in recorded.ended]
    busy = {*ended, *(step.run_id for step in recorded.ready)}
    waiting = sleepers.after(results, recorded.statuses, busy=busy)
    publish.withdraw(recorded.unstarted, ended, sleepers=waiting)
    if recorded.ready:
        dispatcher.start(recorded.ready)
    return recorded.statuses.keys()


def conclude(step_run_ids: Sequence[UUID]) -> None:
    """Record what containers whose items have ended came to, and go on with their loops. Raises UnloadableVersion,
    before anything is done, where only another process can."""
    results, ready = fan_out.conclude(step_run_ids)
    statuses = _record(results)
    if ready:
        dispatcher.start(ready)
    unrecorded = {result.claim.id for result in results} - statuses
    fan_out.close([id_ for id_ in step_run_ids if id_ not in unrecorded or len(results) == 1])
    if unrecorded and len(results) > 1:
        raise NotAllRecorded


def expire() -> bool:
    """End the waits whose time is up. Returns whether there may be more."""
    due = [row.step_run_id for row in sql.expire_waits(batch=BATCH)]
    resolve(due)
    return len(due) == BATCH


# --- for processes that died ----------------------------------------------------------------------------------------

NOT_LOOKED_BACK = "waits that have not looked back"
TAKEN_WAITS = "ends of waits"
OVER_CONTAINERS = "ends of containers"
ENDED_CHILDREN = "ends of awaited runs"


def rescue() -> None:
    """Make good for processes that died: after a wait was stored, after it was taken, after a run's end."""
    for sweep in (look_back_late, resolve_late, conclude_late, resolve_for_ended):
        sweep()


def look_back_late() -> None:
    """Waits that were stored, and whose look at what came before did not happen."""
    _sweep(
        NOT_LOOKED_BACK,
        _rows(sql.waits_to_look_back(grace_s=waits.GRACE_S, batch=BATCH, put_off=_put_off(NOT_LOOKED_BACK))),
        lambda ids: resolve(waits.look_back(ids)),
        give_up=lambda id_, _: sql.looked_back(ids=[id_]),  # it waits for what is still to come
    )


def resolve_late() -> None:
    """Waits that were taken, and whose ends were not recorded."""
    rows = sql.left_over_waits(grace_s=waits.GRACE_S, batch=BATCH, put_off=_put_off(TAKEN_WAITS))
    _sweep(TAKEN_WAITS, _rows(rows), _resolve, give_up=_fail_wait)


def _fail_wait(step_run_id: UUID, error: BaseException) -> None:
    """Its end can't be recorded as it is: its step fails, and its dead letter says why."""
    failed = Failed(error=describe(error))
    _record([replace(each, outcome=failed, output=None) for each in waits.results([step_run_id])])
    waits.drop([step_run_id])


def conclude_late() -> None:
    """Containers whose items have ended, and whose own ends were not recorded."""
    rows = sql.left_over_fan_outs(grace_s=waits.GRACE_S, batch=BATCH, put_off=_put_off(OVER_CONTAINERS))
    _sweep(OVER_CONTAINERS, _rows(rows), conclude, give_up=None)


def resolve_for_ended() -> None:
    """Waits for runs that have ended, and that were not taken."""
    rows = sql.ended_children(batch=BATCH, put_off=_put_off(ENDED_CHILDREN))
    _sweep(ENDED_CHILDREN, _rows(rows), lambda ids: resolve(waits.take_for_runs(ids)), give_up=None)


def _put_off(sweep: str) -> list[UUID]:
    """The items that are not to be tried now."""
    return sweeps.ledger().put_off(sweep)


class _Row(Protocol):
    @property
    def id(self) -> UUID: ...
    @property
    def org_id(self) -> UUID: ...


def _rows(rows: Sequence[_Row]) -> list[sweeps.Row]:
    return [sweeps.Row(row.id, row.org_id) for row in rows]


def _sweep(
    name: str,
    rows: Sequence[sweeps.Row],
    work: Callable[[Sequence[UUID]], object],
    *,
    give_up: Callable[[UUID, BaseException], object] | None,
) -> None:
    sweeps.isolated(
        sweeps.Items(
            name=name,
            work=lambda some: work([row.id for row in some]),
            key=sweeps.row_id,
            org=sweeps.row_org,
            group=GROUP,
            give_up=(lambda row, error: give_up(row.id, error)) if give_up else None,
            stays=flow_cache.is_newer,
        ),
        rows,
    )
