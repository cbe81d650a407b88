"""Changes of the status of steps: claim, skip, record, wake, undo."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard
from uuid import UUID

from throttling.environment import step_lease_s
from workflows.definitions.compiled import NIL_UUID, CompiledFlow, CompiledStep
from workflows.engine.sql.claim import transitions as claim_sql
from workflows.engine.sql.leader import transitions as leader_sql
from workflows.engine.sql.record import transitions as record_sql
from workflows.engine.sql.record.transitions import RecordLoneRow, RecordOutcomesRow
from workflows.engine.state import database, flow_cache, needs, sealed
from workflows.engine.state.records import (
    Claim,
    ClaimedBatch,
    ClaimRow,
    MayContinue,
    ReadyRow,
    ReadyStep,
    Recorded,
    StepResult,
    always,
)
from workflows.models.run import DECIDED
from workflows.payload import dump
from workflows.steps.outcome import (
    Cancelled,
    Completed,
    Failed,
    FanOut,
    HandBack,
    Retry,
    Skipped,
    Sleep,
    StepError,
    Suspended,
    WaitFor,
)
from workflows.steps.registry import pure_types

LEASE_S = step_lease_s(os.environ)


def claim(
    batch: Sequence[tuple[str, int | None]], *, worker: UUID, lease: UUID | None = None, lease_s: float = LEASE_S
) -> ClaimedBatch:
    """ready → running for (step run id, attempt) pairs. What another worker has taken is missing from the answer."""
    lease = lease or uuid.uuid4()
    rows = claim_sql.claim_steps(
        ids=[pair[0] for pair in batch],
        attempts=[pair[1] for pair in batch],
        lease=lease,
        worker=worker,
        lease_s=lease_s,
        pure=pure_types(),
    )
    newest: dict[str, float] = {}
    for row in rows:
        if row.dispatched_at is not None and row.dispatched_at > newest.get(row.queue, 0.0):
            newest[row.queue] = row.dispatched_at
    claims = [
        Claim.of(
            row,
            lease,
            run_began=row.run_status == "queued",
            run_trigger=row.run_trigger,
            run_event=row.run_event,
            run_event_id=row.run_event_id,
        )
        for row in rows
    ]
    return ClaimedBatch(claims, newest, frozenset(row.run_id for row in rows if row.run_awaited))


def skip(step: ReadyStep, reason: str) -> StepResult:
    """The result that skips a ready step: `condition` or `needs_skipped`."""
    return StepResult(
        claim=Claim(
            id=step.id,
            run_id=step.run_id,
            version_id=step.version_id,
            org_id=NIL_UUID,
            key=step.key,
            attempt=step.attempt,
            wake_seq=0,
            losses=0,
            server_retry_waits=0,
            timeout_ms=0,
            queue=step.queue,
            all_needs_skipped=step.all_needs_skipped,
            lease=None,
            type=step.type,
            path=step.path,
        ),
        outcome=Skipped(reason=reason),
    )


def _row(result: StepResult, status: str, *, is_compensation: bool) -> dict[str, Any]:
    """The columns that are recorded of every result, whatever its outcome."""
    claimed = result.claim
    row: dict[str, Any] = {"id": str(claimed.id), "run": str(claimed.run_id), "status": status}
    if claimed.lease is not None:
        row["lease"] = str(claimed.lease)
    elif claimed.waited_for:
        row["waited_for"] = claimed.waited_for
    org_id = claimed.org_id
    kept = {
        "output": sealed.output(result.output, org_id, claimed.type),
        "input": sealed.maybe(result.input, org_id),
        "logs": sealed.logs(result.logs, org_id),
    }
    row |= {name: value for name, value in kept.items() if value is not None}
    if is_compensation:
        row["compensation"] = True
    if result.started is not None:
        row["ran"] = max(0.0, time.monotonic() - result.started)
    return row


@dataclass(kw_only=True)
class _Builder:
    """The parameters of `record_outcomes`, built up outcome by outcome."""

    queues: frozenset[str]
    max_continuations: int
    may_continue: MayContinue
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)
    fails: bool = False
    needs_transaction: bool = False
    may_end_with_output: bool = False

    def add(self, result: StepResult) -> None:
        claimed, outcome = result.claim, result.outcome
        flow, step = _compiled(claimed)
        status = _STATUS[type(outcome)]
        row = _row(result, status, is_compensation=step is not None and step.is_compensation)
        not_taken = frozenset[str]()
        stops_item = False
        if isinstance(outcome, Completed):
            not_taken = outcome.not_taken
        elif isinstance(outcome, Failed):
            self.fails = True
            stops = step is None or step.stops_run
            row |= {"error": _stored(outcome.error, claimed), "fatal": stops and not claimed.path}
            stops_item = stops and bool(claimed.path)
            not_taken = step.branch_targets if step else not_taken
        elif isinstance(outcome, Retry):
            row |= {"error": _stored(outcome.error, claimed), "waiting_for": "retry", "wake_in": outcome.delay_s,
                    "by_server": outcome.by_server, "spends": not outcome.by_server}  # fmt: skip
        elif isinstance(outcome, Sleep):
            row |= {"waiting_for": "sleep", "wake_in": outcome.seconds}
        elif isinstance(outcome, WaitFor):
            self.needs_transaction = True
            row |= {"waiting_for": outcome.kind, "wake_in": outcome.timeout_s}
        elif isinstance(outcome, FanOut):
            self.needs_transaction = True
            row["waiting_for"] = "items"
        elif isinstance(outcome, Suspended):
            self.needs_transaction = True
            row["waiting_for"] = "steps"
        elif isinstance(outcome, Skipped):
            row["reason"] = outcome.reason
        elif isinstance(outcome, HandBack) and outcome.after_s is not None:
            row |= {"status": "waiting", "waiting_for": "pause", "wake_in": outcome.after_s}
        self.outcomes.append(row)
        self.needs_transaction = self.needs_transaction or bool(claimed.path)
        if flow is not None and step is not None and status in DECIDED and not row.get("fatal") and not stops_item:
            if (step.is_sink or step.is_compensation) and not claimed.path and flow.output is not None:
                self.may_end_with_output = True
            for key in step.successors:
                weight = needs.weight(step, key, status=status, not_taken=not_taken)
                self._edge(flow, row["id"], flow.steps[key], weight)

    def _edge(self, flow: CompiledFlow, source: str, target: CompiledStep, weight: int) -> None:
        claims = (
            self.max_continuations > 0 and weight > 0 and target.condition is None and target.type.queue in self.queues
        )
        claims = claims and self.may_continue(flow.version_id, target.key)
        self.max_continuations -= claims
        self.edges.append({
            "source": source, "target": target.key, "weight": weight, "claim": claims,
            "publish": not claims and target.condition is None,
        })  # fmt: skip


def _compiled(claim: Claim) -> tuple[CompiledFlow | None, CompiledStep | None]:
    """The step's definition; nothing for one that this process can't load (its failure stops the run then)."""
    flow = flow_cache.find(claim.version_id)
    if flow is None or claim.key not in flow.steps:
        return None, None
    return flow, flow.steps[claim.key]


def _stored(error: StepError, claim: Claim) -> str | None:
    return sealed.error(dump(error.as_json(), what="The error"), claim.org_id)


_STATUS: dict[type[Any], str] = {
    Completed: "completed",
    Failed: "failed",
    Retry: "waiting",
    Sleep: "waiting",
    WaitFor: "waiting",
    FanOut: "waiting",
    Suspended: "waiting",
    Skipped: "skipped",
    Cancelled: "cancelled",
    HandBack: "ready",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lone:
    """A step that is recorded alone, with its only successor: a prepared call of `record_lone`."""

    result: StepResult
    row: dict[str, Any]
    edge: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A prepared call of `record_outcomes`; before it `record_lone` is tried, where the outcome is fit for that."""

    outcomes: list[dict[str, Any]]
    edges: list[dict[str, Any]]
    lone: _Lone | None
    needs_transaction: bool
    """Other statements belong into its transaction: failures, waits, outputs of runs."""
    lease: UUID
    worker: UUID
    lease_s: float


def prepare_recording(
    results: Sequence[StepResult],
    *,
    worker: UUID,
    queues: frozenset[str],
    max_continuations: int,
    may_continue: MayContinue = always,
    lease: UUID | None = None,
    lease_s: float = LEASE_S,
) -> Recording:
    """Lay the results out as parameters, ordered by step run.

    `max_continuations`: the most successors to continue with; `may_continue(version, key)` says which may be. `lease`:
    that of those; a new one, where none is given.
    """
    builder = _Builder(queues=queues, max_continuations=max_continuations, may_continue=may_continue)
    for result in sorted(results, key=lambda result: result.claim.id):
        builder.add(result)
    return Recording(
        outcomes=builder.outcomes,
        edges=builder.edges,
        lone=_lone(results, builder),
        needs_transaction=builder.fails or builder.needs_transaction or builder.may_end_with_output,
        lease=lease or uuid.uuid4(),
        worker=worker,
        lease_s=lease_s,
    )


def _lone(results: Sequence[StepResult], builder: _Builder) -> _Lone | None:
    """The outcome of a claimed step that has completed alone, and has one successor, which needs nothing else."""
    if len(results) != 1 or len(builder.edges) != 1 or builder.needs_transaction or builder.may_end_with_output:
        return None
    (result,), (row,), (edge,) = results, builder.outcomes, builder.edges
    flow, step = _compiled(result.claim)
    if flow is None or step is None or step.is_sink or step.is_compensation or result.claim.lease is None:
        return None
    if not isinstance(result.outcome, Completed) or edge["weight"] < 1 or len(flow.steps[edge["target"]].needs) != 1:
        return None
    return _Lone(result=result, row=row, edge=edge)


class _NextRow(ReadyRow, ClaimRow, Protocol):
    """A row of a step that is ready or running now: nothing in it is null but its place in a container."""

    @property
    def status(self) -> str: ...


def _is_next(row: RecordOutcomesRow | RecordLoneRow) -> TypeGuard[_NextRow]:
    return row.kind == "next"


def record(recording: Recording, cursor: database.Cursor | None = None) -> Recorded:
    """Write the outcomes and all that follows from them, in one statement."""
    recorded = Recorded(lease=recording.lease)
    rows: Sequence[RecordLoneRow | RecordOutcomesRow] = ()
    if recording.lone is not None:
        rows = _record_lone(recording, recording.lone, cursor)
    for row in rows or _record_outcomes(recording, cursor):
        if row.kind == "recorded":
            recorded.statuses[row.id] = row.status
        elif _is_next(row):
            if row.status == "running":
                recorded.claimed.append(Claim.of(row, recording.lease))
            else:
                recorded.ready.append(ReadyStep.of(row))
        else:
            assert row.version_id is not None
            recorded.versions[row.id] = row.version_id
            if row.stopping:
                recorded.runs_to_stop.append(row.id)
            else:
                recorded.ended.append((row.id, row.status))
                if row.run_id is not None:  # of a run: the one that started it
                    recorded.ended_child_runs.append(row.id)
    return recorded


def _record_outcomes(recording: Recording, cursor: database.Cursor | None) -> list[RecordOutcomesRow]:
    return record_sql.record_outcomes(
        outcomes=json.dumps(recording.outcomes),
        edges=json.dumps(recording.edges),
        lease=recording.lease,
        worker=recording.worker,
        lease_s=recording.lease_s,
        cursor=cursor,
    )


def _record_lone(recording: Recording, lone: _Lone, cursor: database.Cursor | None) -> list[RecordLoneRow]:
    claim, edge = lone.result.claim, lone.edge
    assert claim.lease is not None
    return record_sql.record_lone(
        id=claim.id,
        lease=claim.lease,
        output=lone.row.get("output"),
        input=lone.row.get("input"),
        logs=lone.row.get("logs"),
        ran=lone.row.get("ran"),
        target=edge["target"],
        weight=edge["weight"],
        claim=edge["claim"],
        publish=edge["publish"],
        next_lease=recording.lease,
        worker=recording.worker,
        lease_s=recording.lease_s,
        cursor=cursor,
    )


def plan_visit() -> None:
    """Have this thread's connection plan the statements that claim and record: they change nothing here.

    A new connection reads the catalog and plans for some 30 ms of CPU: the first steps of a thread would wait for it.
    """
    for _ in range(2):  # the second use prepares
        claim([], worker=NIL_UUID)
        record_sql.record_lone(
            id=NIL_UUID,
            lease=NIL_UUID,
            output=None,
            input=None,
            logs=None,
            ran=None,
            target="",
            weight=1,
            claim=True,
            publish=False,
            next_lease=NIL_UUID,
            worker=NIL_UUID,
            lease_s=0,
        )
        record(prepare_recording((), worker=NIL_UUID, queues=frozenset(), max_continuations=0))


def compensate_failed(results: Sequence[StepResult], cursor: database.Cursor) -> list[ReadyStep]:
    """Insert the compensations of failed steps that do not stop their runs, before the failures are recorded."""
    failed = [
        {"step": str(result.claim.id), "lease": str(result.claim.lease) if result.claim.lease else None, "key": key}
        for result in results
        if isinstance(result.outcome, Failed) and (step := _compiled(result.claim)[1]) and not step.stops_run
        for key in step.on_failure
    ]
    rows = record_sql.insert_own_compensations(failed=json.dumps(failed), cursor=cursor) if failed else []
    return [ReadyStep.new(row) for row in rows]


def wake(*, batch: int) -> list[ReadyStep]:
    """waiting → ready for the timers that are due."""
    return [ReadyStep.of(row) for row in leader_sql.wake_steps(batch=batch)]
