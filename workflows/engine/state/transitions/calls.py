"""Changes of the status of steps that functions ask for, and of the functions that wait for them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from workflows.definitions.compiled import NIL_UUID, CompiledStep
from workflows.engine.sql import calls as locks
from workflows.engine.sql.calls import transitions as sql
from workflows.engine.state import database, sealed
from workflows.engine.state.records import Claim, ReadyStep, StepResult
from workflows.engine.state.transitions.steps import LEASE_S
from workflows.steps.outcome import Suspended


@dataclass(frozen=True, kw_only=True)
class NewCall:
    """A step that a function asks for, and that its journal does not have. `key`: `name`, `name:1`, …"""

    id: UUID
    key: str
    position: int
    step: CompiledStep

    def row(self) -> dict[str, object]:
        return {
            "id": str(self.id),
            "key": self.key,
            "type": self.step.type.name,
            "queue": self.step.type.queue,
            "timeout_ms": self.step.timeout_ms,
            "position": self.position,
        }

    def ready(self, function: Claim) -> ReadyStep:
        """The step, as it asks for a permit."""
        return ReadyStep(
            id=self.id,
            run_id=function.run_id,
            version_id=function.version_id,
            key=self.key,
            queue=self.step.type.queue,
            type=self.step.type.name,
            attempt=1,
            needs_total=0,
            needs_met=0,
            needs_prepare=True,
            priority=function.priority,
            path=function.key,
        )

    def claim(self, function: Claim, lease: UUID) -> Claim:
        """The step, as the visit of its function has claimed it."""
        return Claim(
            id=self.id,
            run_id=function.run_id,
            version_id=function.version_id,
            org_id=function.org_id,
            key=self.key,
            attempt=1,
            wake_seq=0,
            losses=0,
            server_retry_waits=0,
            timeout_ms=self.step.timeout_ms,
            queue=self.step.type.queue,
            all_needs_skipped=False,
            lease=lease,
            type=self.step.type.name,
            priority=function.priority,
            path=function.key,
            container_id=function.id,
        )


def begin(
    function: Claim, call: NewCall, *, lease: UUID, worker: UUID, ended: StepResult | None, lease_s: float = LEASE_S
) -> bool:
    """New → running, for a step that the visit of the function performs itself; `ended`, the one that it has performed
    before, running → completed. False where the visit has lost its lease, or its run is to stop: nothing is changed
    then."""
    rows = sql.begin_calls(
        function=function.id,
        function_lease=function.lease or NIL_UUID,
        calls=json.dumps([call.row()]),
        status="running",
        lease=lease,
        worker=worker,
        lease_s=lease_s,
        ended=ended.claim.id if ended else None,
        ended_lease=ended.claim.lease if ended else None,
        output=sealed.output(ended.output, function.org_id, ended.claim.type) if ended else None,
        input=sealed.maybe(ended.input, function.org_id) if ended else None,
        logs=sealed.logs(ended.logs, function.org_id) if ended else None,
        ran=max(0.0, time.monotonic() - ended.started) if ended and ended.started is not None else None,
    )
    return any(row.is_new for row in rows)


def open_(function: Claim, calls: Sequence[NewCall]) -> list[ReadyStep]:
    """New → ready, for steps that are to be dispatched. Returns them; none where the visit has lost its lease, or its
    run is to stop."""
    rows = sql.begin_calls(
        function=function.id,
        function_lease=function.lease or NIL_UUID,
        calls=json.dumps([call.row() for call in calls]),
        status="ready",
        lease=NIL_UUID,
        worker=NIL_UUID,
        lease_s=0.0,
        ended=None,
        ended_lease=None,
        output=None,
        input=None,
        logs=None,
        ran=None,
    )
    inserted = {row.id for row in rows if row.is_new}
    return [call.ready(function) for call in calls if call.id in inserted]


def complete(claim: Claim, *, output: str | None, logs: str | None, ran_s: float) -> bool:
    """running → completed, in the caller's transaction. False where the step is another worker's by now, or its run is
    cancelled."""
    rows = sql.complete_call(
        id=claim.id,
        lease=claim.lease or NIL_UUID,
        output=sealed.output(output, claim.org_id, claim.type),
        logs=sealed.logs(logs, claim.org_id),
        ran=ran_s,
    )
    return bool(rows)


def suspend(results: Sequence[StepResult], cursor: database.Cursor) -> list[ReadyStep]:
    """Note what functions wait for whose visits have ended; waiting → ready where nothing is left to wait for."""
    functions = [
        {"id": str(result.claim.id), "awaited": [str(id_) for id_ in outcome.awaited], "any_of": outcome.any_of}
        for result in results
        if isinstance(outcome := result.outcome, Suspended)
    ]
    if not functions:
        return []
    return [ReadyStep.of(row) for row in sql.suspend_functions(functions=json.dumps(functions), cursor=cursor)]


def lock(function_ids: Iterable[UUID], cursor: database.Cursor | None = None) -> None:
    """Lock functions before the end of a step of theirs is recorded."""
    locks.lock_functions(functions=sorted(function_ids), cursor=cursor)


def wake(ended: Sequence[UUID], cursor: database.Cursor | None = None) -> list[ReadyStep]:
    """waiting → ready for functions whose awaited steps have ended with these, in the transaction that records them;
    they are locked since before that."""
    if not ended:
        return []
    return [ReadyStep.of(row) for row in sql.wake_functions(ended=ended, cursor=cursor)]


def wake_left_over(*, batch: int) -> list[ReadyStep]:
    """waiting → ready for functions that wait although no step of theirs is open."""
    return [ReadyStep.of(row) for row in sql.left_over_functions(batch=batch)]


def take_over(run_id: UUID, *, origin_id: UUID, key: str, until: int | None) -> None:
    """New → completed, for the steps of an earlier run that a repeated one takes over (or → failed, where the code of
    the flow has gone on after the failure). `until`: the position of the first that is left out."""
    sql.take_over_calls(run=run_id, origin=origin_id, key=key, until=until)
