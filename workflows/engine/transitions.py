"""The only writer of a status. Each verb is one set-based, guarded statement; what follows from it is in its rows.

`STEP_TRANSITIONS` and `RUN_TRANSITIONS` name every change that the statements make; the page
docs/reference/state_machine.md is generated from them.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from workflows.definitions.compiled import CompiledFlow, CompiledStep
from workflows.engine import catalog, store
from workflows.engine.outcome import Cancelled, Completed, Failed, HandBack, Outcome, Retry, Skipped, Sleep, StepError
from workflows.errors import WorkflowsError
from workflows.payload import dump

NOBODY = UUID(int=0)
LEASE_S = max(2.0, float(os.environ.get("HEADRACE_LEASE_S", "10")))
MAX_LOSSES = 3


class Transition(NamedTuple):
    """A change of status: `source` is empty for a new row."""

    verb: str
    source: str
    target: str


STEP_TRANSITIONS: tuple[Transition, ...] = (
    Transition("trigger", "", "pending"),
    Transition("trigger", "", "ready"),
    Transition("trigger (delayed)", "", "waiting"),
    Transition("needs met", "pending", "ready"),
    Transition("continue", "pending", "running"),
    Transition("claim", "ready", "running"),
    Transition("skip", "ready", "skipped"),
    Transition("skip", "running", "skipped"),
    Transition("complete", "running", "completed"),
    Transition("fail", "running", "failed"),
    Transition("retry", "running", "waiting"),
    Transition("sleep", "running", "waiting"),
    Transition("wake", "waiting", "ready"),
    Transition("hand back", "running", "ready"),
    Transition("rescue", "running", "ready"),
    Transition("cancel", "running", "cancelled"),
    Transition("cancel", "pending", "cancelled"),
    Transition("cancel", "ready", "cancelled"),
    Transition("cancel", "waiting", "cancelled"),
)
RUN_TRANSITIONS: tuple[Transition, ...] = (
    Transition("trigger", "", "queued"),
    Transition("first claim", "queued", "running"),
    Transition("last sink recorded", "running", "completed"),
    Transition("all steps skipped", "queued", "completed"),
    Transition("critical step failed", "running", "failed"),
    Transition("output can't be rendered", "completed", "failed"),
    Transition("cancel", "queued", "cancelled"),
    Transition("cancel", "running", "cancelled"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyStep:
    """A step that wants to be prepared (its condition evaluated, unless that is done) and published."""

    id: UUID
    run_id: UUID
    version_id: UUID
    key: str
    queue: str
    type: str
    attempt: int
    needs_total: int
    needs_met: int
    unprepared: bool
    priority: int = 0
    alone: bool = False
    """Travels in a message of its own: its worker was lost before."""

    @classmethod
    def of(cls, row: Any) -> ReadyStep:
        return cls(
            id=row.id,
            run_id=row.run_id,
            version_id=row.version_id,
            key=row.key,
            queue=row.queue,
            type=row.type,
            attempt=row.attempt,
            needs_total=row.needs_total,
            needs_met=row.needs_met,
            unprepared=row.unprepared,
            priority=row.priority,
            alone=getattr(row, "losses", 0) > 0,
        )

    @property
    def all_needs_skipped(self) -> bool:
        return self.needs_total > 0 and self.needs_met <= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A running step under this worker's lease."""

    id: UUID
    run_id: UUID
    version_id: UUID
    org_id: UUID
    key: str
    attempt: int
    wake_seq: int
    losses: int
    told_waits: int
    timeout_ms: int
    queue: str
    all_needs_skipped: bool
    lease: UUID | None
    type: str = ""
    priority: int = 0
    queued_s: float = 0.0
    """How long the step was ready before this try."""
    run_began: bool = False

    @classmethod
    def of(cls, row: Any, lease: UUID) -> Claim:
        return cls(
            id=row.id,
            run_id=row.run_id,
            version_id=row.version_id,
            org_id=row.org_id,
            key=row.key,
            attempt=row.attempt,
            wake_seq=row.wake_seq,
            losses=row.losses,
            told_waits=row.told_waits,
            timeout_ms=row.timeout_ms,
            queue=row.queue,
            lease=lease,
            type=row.type,
            priority=row.priority,
            queued_s=row.queued_s,
            all_needs_skipped=row.needs_total > 0 and row.needs_met <= 0,
            run_began=getattr(row, "run_status", "") == "queued",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An outcome to be recorded, its output and input already as JSON text that can be stored."""

    claim: Claim
    outcome: Outcome
    output: str | None = None
    input: str | None = None
    started: float | None = None
    """When its handler began, by the monotonic clock."""
    pause_s: float = 0.0
    """How long the other side wants to be left alone."""


@dataclass(kw_only=True)
class Recorded:
    """What a group of outcomes led to. `lease`: under which its `claimed` were claimed."""

    lease: UUID = NOBODY
    landed: set[UUID] = field(default_factory=set)
    ready: list[ReadyStep] = field(default_factory=list)
    claimed: list[Claim] = field(default_factory=list)
    ended: list[tuple[UUID, str]] = field(default_factory=list)
    stopping: list[UUID] = field(default_factory=list)
    withdrawn: list[UUID] = field(default_factory=list)
    """Steps that were ready and will not start: their runs stop."""


@dataclass(frozen=True, kw_only=True)
class StepFailed:
    """A failure for good, as it is announced to dead letters within the recording transaction."""

    org_id: UUID
    run_id: UUID
    step_run_id: UUID
    step_key: str
    step_type: str
    flow_id: UUID
    attempts: int
    error: StepError


class ClaimedBatch(NamedTuple):
    claims: list[Claim]
    newest_dispatch: dict[str, float]
    """By queue: the latest dispatch time (epoch seconds) among the claimed steps."""


def claim(
    batch: Sequence[tuple[str, int | None]], *, worker: UUID, lease: UUID | None = None, lease_s: float = LEASE_S
) -> ClaimedBatch:
    """ready → running for (step run id, attempt) pairs. What another worker has taken is missing from the answer."""
    lease = lease or uuid.uuid4()
    rows = store.fetch(
        "claim_steps",
        {
            "ids": [pair[0] for pair in batch],
            "attempts": [pair[1] for pair in batch],
            "lease": lease,
            "worker": worker,
            "lease_s": lease_s,
        },
    )
    newest: dict[str, float] = {}
    for row in rows:
        if row.dispatched_at is not None and row.dispatched_at > newest.get(row.queue, 0.0):
            newest[row.queue] = row.dispatched_at
    return ClaimedBatch([Claim.of(row, lease) for row in rows], newest)


def skip(step: ReadyStep) -> Verdict:
    """The verdict that skips a ready step."""
    return Verdict(
        claim=Claim(
            id=step.id,
            run_id=step.run_id,
            version_id=step.version_id,
            org_id=NOBODY,
            key=step.key,
            attempt=step.attempt,
            wake_seq=0,
            losses=0,
            told_waits=0,
            timeout_ms=0,
            queue=step.queue,
            all_needs_skipped=step.all_needs_skipped,
            lease=None,
        ),
        outcome=Skipped(),
    )


MayContinue = Callable[[UUID, str], bool]


def always(version_id: UUID, key: str) -> bool:
    return True


@dataclass(kw_only=True)
class _Builder:
    """The parameters of `record_outcomes`, built up outcome by outcome."""

    queues: frozenset[str]
    budget: int
    may_continue: MayContinue
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)
    fails: bool = False
    may_end_with_output: bool = False

    def add(self, verdict: Verdict) -> None:
        claimed, outcome = verdict.claim, verdict.outcome
        flow, step = _compiled(claimed)
        status = _STATUS[type(outcome)]
        row: dict[str, Any] = {"id": str(claimed.id), "status": status}
        if claimed.lease is not None:
            row["lease"] = str(claimed.lease)
        if verdict.output is not None:
            row["output"] = verdict.output
        if verdict.input is not None:
            row["input"] = verdict.input
        if verdict.started is not None:
            row["ran"] = max(0.0, time.monotonic() - verdict.started)
        live, not_taken = True, frozenset[str]()
        if isinstance(outcome, Completed):
            not_taken = outcome.not_taken
        elif isinstance(outcome, Failed):
            self.fails = True
            row |= {"error": _stored(outcome.error), "fatal": step is None or step.stops_run}
            not_taken = step.branch_targets if step else not_taken
        elif isinstance(outcome, Retry):
            row |= {"error": _stored(outcome.error), "waiting_for": "retry", "wake_in": outcome.delay_s,
                    "told": outcome.told, "spends": not outcome.told}  # fmt: skip
        elif isinstance(outcome, Sleep):
            row |= {"waiting_for": "sleep", "wake_in": outcome.seconds}
        elif isinstance(outcome, Skipped):
            live = False
        self.outcomes.append(row)
        if flow is not None and step is not None and status in _ENDED and not row.get("fatal"):
            if step.is_sink and flow.output is not None:
                self.may_end_with_output = True
            for key in step.successors:
                self._edge(flow, row["id"], flow.steps[key], live, veto=key in not_taken)

    def _edge(self, flow: CompiledFlow, source: str, target: CompiledStep, live: bool, *, veto: bool) -> None:
        claims = self.budget > 0 and live and not veto and target.condition is None and target.type.queue in self.queues
        claims = claims and self.may_continue(flow.version_id, target.key)
        self.budget -= claims
        self.edges.append({
            "source": source, "target": target.key, "live": live, "veto": veto, "claim": claims,
            "publish": not claims and target.condition is None,
        })  # fmt: skip


def _compiled(claim: Claim) -> tuple[CompiledFlow | None, CompiledStep | None]:
    """The step's definition; nothing for one that this process can't load (its failure stops the run then)."""
    try:
        flow = catalog.flow_of(claim.version_id)
        return flow, flow.steps[claim.key]
    except (KeyError, ValueError, WorkflowsError):
        return None, None


def _stored(error: StepError) -> str:
    return dump(error.as_json(), what="The error")


_ENDED = frozenset({"completed", "failed", "skipped"})
_STATUS: dict[type[Any], str] = {
    Completed: "completed",
    Failed: "failed",
    Retry: "waiting",
    Sleep: "waiting",
    Skipped: "skipped",
    Cancelled: "cancelled",
    HandBack: "ready",
}


class Recording(NamedTuple):
    """A prepared call of `record_outcomes`."""

    parameters: dict[str, Any]
    fails: bool
    may_end_with_output: bool
    lease: UUID


def prepare_recording(
    verdicts: Iterable[Verdict],
    *,
    worker: UUID,
    queues: frozenset[str],
    budget: int,
    may_continue: MayContinue = always,
    lease_s: float = LEASE_S,
) -> Recording:
    """Lay the verdicts out as parameters, ordered by step run.

    `budget`: how many successors to continue with, of those steps of which `may_continue(version, key)` holds.
    """
    builder = _Builder(queues=queues, budget=budget, may_continue=may_continue)
    for verdict in sorted(verdicts, key=lambda verdict: verdict.claim.id):
        builder.add(verdict)
    lease = uuid.uuid4()
    parameters = {
        "outcomes": json.dumps(builder.outcomes), "edges": json.dumps(builder.edges), "lease": lease,
        "worker": worker, "lease_s": lease_s,
    }  # fmt: skip
    return Recording(parameters, builder.fails, builder.may_end_with_output, lease)


def record(recording: Recording, cursor: store.Cursor | None = None) -> Recorded:
    """Write the outcomes and all that follows from them, in one statement."""
    result = Recorded(lease=recording.lease)
    for row in store.fetch("record_outcomes", recording.parameters, cursor):
        if row.kind == "landed":
            result.landed.add(row.id)
        elif row.kind == "next":
            if row.status == "running":
                result.claimed.append(Claim.of(row, recording.lease))
            else:
                result.ready.append(ReadyStep.of(row))
        elif row.stopping:
            result.stopping.append(row.id)
        else:
            result.ended.append((row.id, row.status))
    return result


class Settled(NamedTuple):
    """What settling led to: (run, status) of those that ended, and the steps that were ready and will not start."""

    ended: list[tuple[UUID, str]]
    withdrawn: list[UUID]


def settle(run_ids: Sequence[UUID]) -> Settled:
    """Cancel what is open of runs that are bound to fail or cancelled, and end those of which nothing runs."""
    with store.transaction() as cursor:
        store.fetch("lock_runs", {"ids": list(run_ids)}, cursor)
        rows = store.fetch("settle_runs", {"ids": list(run_ids)}, cursor)
    return Settled(
        ended=[(row.id, row.status) for row in rows if row.status != "withdrawn"],
        withdrawn=[row.id for row in rows if row.status == "withdrawn"],
    )


def wake(*, batch: int) -> list[ReadyStep]:
    """waiting → ready for the timers that are due."""
    return [ReadyStep.of(row) for row in store.fetch("wake_steps", {"batch": batch})]


def set_output(run_id: UUID, *, output: str | None, error: StepError | None, cursor: store.Cursor) -> None:
    """The rendered output of a run that this transaction has ended, or the failure of rendering it."""
    text = dump(error.as_json(), what="The error") if error else None
    store.fetch("set_run_output", {"id": run_id, "output": output, "error": text}, cursor)


def request_cancel(org_id: UUID, run_ids: Sequence[UUID], *, reason: str) -> list[UUID]:
    """Set the cancel flag of live runs; `settle` does the rest."""
    return [row.id for row in store.fetch("request_cancel", {"org": org_id, "ids": list(run_ids), "reason": reason})]
