"""Changes of the status of runs: insert, finish, stop, cancel."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from workflows.definitions.compiled import CompiledFlow
from workflows.edge import tags
from workflows.engine.sql import leader as leader_sql
from workflows.engine.sql import record as sql
from workflows.engine.sql.record import RunProgressRow
from workflows.engine.sql.record import transitions as record_sql
from workflows.engine.sql.repair import transitions as repair_sql
from workflows.engine.sql.trigger import transitions as trigger_sql
from workflows.engine.state import database, flow_cache, sealed
from workflows.engine.state.records import Candidate, Lineage, ReadyStep
from workflows.errors import UnloadableVersion
from workflows.models.run import ENDED_STEP
from workflows.payload import dump
from workflows.steps.outcome import StepError


def insert(
    flow: CompiledFlow,
    org_id: UUID,
    new: Sequence[Candidate],
    *,
    trigger: str,
    run_at: dt.datetime | None,
    lineage: Lineage,
) -> list[ReadyStep]:
    """Insert runs of a version that start at the same time. Returns their ready steps: at least one of each run.

    A run that is asked for by an API key is left out unless that key, and the version, are in force.
    """
    rows = trigger_sql.insert_runs(
        org=org_id,
        flow=flow.flow_id,
        version=flow.version_id,
        ids=[each.id for each in new],
        inputs=[sealed.run_input(each.text, org_id) for each in new],
        priorities=[each.priority for each in new],
        event_ids=[each.event_id for each in new],
        event_names=[each.event_name for each in new],
        user_ids=[each.user_id for each in new],
        gather_keys=[each.gather_key for each in new],
        gathered=[each.gathered for each in new],
        newest_at=[each.newest_at for each in new],
        singleton_keys=[each.singleton_key for each in new],
        tags=[tags.as_array(each.tags) for each in new],
        api_keys=[each.api_key for each in new],
        trigger=trigger,
        run_at=run_at,
        dispatched=True,
        sinks=flow.sinks,
        start_ms=flow.start_ms,
        finish_ms=flow.finish_ms,
        compensations=bool(flow.compensations),
        follow_up=_is_followed_up(flow, lineage),
        origin_id=lineage.origin_id,
        origin_kind=lineage.origin_kind,
        repair_root_id=lineage.repair_root_id,
        repair_number=lineage.repair_number,
        parent_id=lineage.parent_id,
        parent_policy=lineage.parent_policy,
        awaited=lineage.awaited,
    )
    return [ReadyStep.new(row) for row in rows]


def insert_fork(
    flow: CompiledFlow,
    org_id: UUID,
    *,
    run_id: UUID,
    text: str,
    priority: int,
    event_id: UUID | None,
    event_name: str,
    trigger: str,
    user_id: str,
    sinks: int,
    steps: str,
    lineage: Lineage,
    run_tags: Sequence[str],
) -> list[ReadyStep]:
    """Insert a run that takes over outcomes of an earlier one; `sinks` and `steps` say what is left to do.

    Returns its ready steps.
    """
    rows = repair_sql.insert_fork(
        id=run_id,
        input=sealed.run_input(text, org_id),
        priority=priority,
        event_id=event_id,
        steps=steps,
        org=org_id,
        flow=flow.flow_id,
        version=flow.version_id,
        event_name=event_name,
        trigger=trigger,
        user_id=user_id,
        sinks=sinks,
        start_ms=flow.start_ms,
        finish_ms=flow.finish_ms,
        compensations=bool(flow.compensations),
        follow_up=_is_followed_up(flow, lineage),
        origin_id=lineage.origin_id,
        origin_kind=lineage.origin_kind,
        repair_root_id=lineage.repair_root_id,
        repair_number=lineage.repair_number,
        parent_id=lineage.parent_id,
        parent_policy=lineage.parent_policy,
        awaited=lineage.awaited,
        tags=run_tags,
    )
    return [ReadyStep.new(row) for row in rows]


def _is_followed_up(flow: CompiledFlow, lineage: Lineage) -> bool:
    """Whether another flow handles the run's failure. A run that handles a failure is not handled itself."""
    return flow.on_failure is not None and lineage.origin_kind != "on_failure"


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """The consequences of stopping: (run, status) of runs that ended, ready steps that will not start, and
    compensations that became ready."""

    ended: list[tuple[UUID, str]] = field(default_factory=list)
    unstarted: list[UUID] = field(default_factory=list)
    ready: list[ReadyStep] = field(default_factory=list)


def stop_runs(run_ids: Sequence[UUID]) -> Stopped:
    """Cancel what is open of runs that are bound to fail or cancelled, and end those of which nothing runs."""
    with database.transaction() as cursor:
        sql.lock_runs(ids=run_ids, cursor=cursor)
        unstarted = [row.id for row in record_sql.withdraw_open(ids=run_ids, cursor=cursor)]
        rows = record_sql.end_stopped_runs(ids=run_ids, cursor=cursor)
        compensating = {row.id: _compensate(row.id, cursor) for row in rows if row.status == "compensate"}
        compensated = [run_id for run_id, going_on in compensating.items() if going_on is None]
        if compensated:
            sql.close_compensations(ids=compensated, cursor=cursor)
            rows += record_sql.end_stopped_runs(ids=compensated, cursor=cursor)
    return Stopped(
        ended=[(row.id, row.status) for row in rows if row.status != "compensate"],
        unstarted=unstarted,
        ready=[step for steps in compensating.values() for step in steps or ()],
    )


def _compensate(run_id: UUID, cursor: database.Cursor) -> list[ReadyStep] | None:
    """Insert the next compensation: one at a time, that of the last step first.

    None where all is compensated; an empty list while a compensation is under way.
    """
    progress = sql.run_progress(run=run_id, cursor=cursor)
    compensations = {row.key: row.status for row in progress if row.is_compensation}
    if any(status not in ENDED_STEP for status in compensations.values()):
        return []
    if any(row.status == "running" for row in progress):
        return []
    for key in _compensations_due(progress):
        if key not in compensations:
            rows = record_sql.insert_compensation(run=run_id, key=key, cursor=cursor)
            return [ReadyStep.new(row) for row in rows]
    return None


def _compensations_due(progress: Sequence[RunProgressRow]) -> list[str]:
    """The compensations of the steps that had begun: the last step's first."""
    flow = _flow_with_compensations(progress[0].version_id) if progress else None
    if flow is None:
        return []
    steps = flow.steps
    begun = [
        row
        for row in progress
        if not row.is_compensation and row.begun and row.status != "skipped" and row.key in steps
    ]
    begun.sort(key=lambda row: row.position, reverse=True)
    which = (steps[row.key].on_failure if row.failed else steps[row.key].on_cancel for row in begun)
    return list(dict.fromkeys(key for keys in which for key in keys))


def _flow_with_compensations(version_id: UUID) -> CompiledFlow | None:
    """The flow; None where nobody knows what undoes its steps (a dead letter says why it can't be loaded), or nothing
    does. Raises UnloadableVersion where another process knows."""
    try:
        return flow_cache.find_or_leave(version_id)
    except UnloadableVersion as error:
        if error.undoes:
            raise
        return None


def set_output(
    run_id: UUID, org_id: UUID, *, output: str | None, error: StepError | None, cursor: database.Cursor
) -> None:
    """The rendered output of a run that this transaction has ended, or the failure of rendering it."""
    text = sealed.error(dump(error.as_json(), what="The error"), org_id) if error else None
    record_sql.set_run_output(id=run_id, output=sealed.maybe(output, org_id), error=text, cursor=cursor)


def finish(run_id: UUID, *, cursor: database.Cursor) -> UUID | None:
    """running → completed for a run whose steps have all ended. Returns its version; None where it has not changed."""
    rows = record_sql.finish_runs(ids=[run_id], cursor=cursor)
    return rows[0].version_id if rows else None


def expire(*, batch: int) -> list[UUID]:
    """Set the cancel flag of runs that have not started, or not ended, in time; `stop_runs` does the rest."""
    with database.transaction() as cursor:
        due = leader_sql.due_runs(batch=batch, cursor=cursor)
        expired: list[UUID] = []
        for org_id, started in sorted({(row.org_id, row.started) for row in due}):
            ids = [row.id for row in due if (row.org_id, row.started) == (org_id, started)]
            reason = "It did not end within timeouts.finish." if started else "It did not start within timeouts.start."
            rows = sql.request_cancel(org=org_id, ids=ids, reason=reason, cursor=cursor)
            expired += [row.id for row in rows]
    return expired


def request_cancel(org_id: UUID, run_ids: Sequence[UUID], *, reason: str) -> list[UUID]:
    """Set the cancel flag of live runs; `stop_runs` does the rest."""
    return [row.id for row in sql.request_cancel(org=org_id, ids=run_ids, reason=reason)]
