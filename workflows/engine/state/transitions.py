"""The only writer of a status. Each verb is one set-based, guarded statement; what follows from it is in its rows.

`STEP_TRANSITIONS` and `RUN_TRANSITIONS` name every change that the statements make; the page
docs/reference/state_machine.md is generated from them.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from workflows.definitions.compiled import CompiledFlow, CompiledStep
from workflows.engine.state import database, flow_cache
from workflows.engine.state.records import (
    NOBODY,
    Claim,
    ClaimedBatch,
    MayContinue,
    ReadyStep,
    Recorded,
    Verdict,
    always,
)
from workflows.errors import UnloadableVersion
from workflows.payload import dump
from workflows.steps.outcome import (
    Cancelled,
    Completed,
    Failed,
    FanOut,
    HandBack,
    Outcome,
    Retry,
    Skipped,
    Sleep,
    StepError,
    WaitFor,
)
from workflows.steps.registry import pure_types

LEASE_S = max(2.0, float(os.environ.get("HEADRACE_LEASE_S", "10")))
MAX_LOSSES = 3
"""A step is given up after so many losses that count against it: it was alone in its process."""
MAX_ALL_LOSSES = 10
"""And after so many of any kind: one that takes its worker along with its own process is never seen alone."""


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
    Transition("wait", "running", "waiting"),
    Transition("met", "waiting", "completed"),
    Transition("fork (item taken over)", "", "completed"),
    Transition("met", "waiting", "failed"),
    Transition("wake", "waiting", "ready"),
    Transition("fork (memoized)", "", "completed"),
    Transition("fork (memoized)", "", "failed"),
    Transition("fork (memoized)", "", "skipped"),
    Transition("undo", "", "ready"),
    Transition("hand back", "running", "ready"),
    Transition("hand back (later)", "running", "waiting"),
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


def claim(
    batch: Sequence[tuple[str, int | None]], *, worker: UUID, lease: UUID | None = None, lease_s: float = LEASE_S
) -> ClaimedBatch:
    """ready → running for (step run id, attempt) pairs. What another worker has taken is missing from the answer."""
    lease = lease or uuid.uuid4()
    rows = database.fetch(
        "claim_steps",
        {
            "ids": [pair[0] for pair in batch],
            "attempts": [pair[1] for pair in batch],
            "lease": lease,
            "worker": worker,
            "lease_s": lease_s,
            "pure": pure_types(),
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
            type=step.type,
            path=step.path,
        ),
        outcome=Skipped(),
    )


@dataclass(kw_only=True)
class _Builder:
    """The parameters of `record_outcomes`, built up outcome by outcome."""

    queues: frozenset[str]
    budget: int
    may_continue: MayContinue
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)
    fails: bool = False
    company: bool = False
    may_end_with_output: bool = False

    def add(self, verdict: Verdict) -> None:
        claimed, outcome = verdict.claim, verdict.outcome
        flow, step = _compiled(claimed)
        status = _STATUS[type(outcome)]
        row: dict[str, Any] = {"id": str(claimed.id), "run": str(claimed.run_id), "status": status}
        if claimed.lease is not None:
            row["lease"] = str(claimed.lease)
        elif claimed.waited_for:
            row["waited_for"] = claimed.waited_for
        if verdict.output is not None:
            row["output"] = verdict.output
        if verdict.input is not None:
            row["input"] = verdict.input
        if verdict.logs is not None:
            row["logs"] = verdict.logs
        if step is not None and step.is_hook:
            row["hook"] = True
        if verdict.started is not None:
            row["ran"] = max(0.0, time.monotonic() - verdict.started)
        not_taken = frozenset[str]()
        stops_item = False
        if isinstance(outcome, Completed):
            not_taken = outcome.not_taken
        elif isinstance(outcome, Failed):
            self.fails = True
            stops = step is None or step.stops_run
            row |= {"error": _stored(outcome.error), "fatal": stops and not claimed.path}
            stops_item = stops and bool(claimed.path)
            not_taken = step.branch_targets if step else not_taken
        elif isinstance(outcome, Retry):
            row |= {"error": _stored(outcome.error), "waiting_for": "retry", "wake_in": outcome.delay_s,
                    "told": outcome.told, "spends": not outcome.told}  # fmt: skip
        elif isinstance(outcome, Sleep):
            row |= {"waiting_for": "sleep", "wake_in": outcome.seconds}
        elif isinstance(outcome, WaitFor):
            self.company = True
            row |= {"waiting_for": outcome.kind, "wake_in": outcome.timeout_s}
        elif isinstance(outcome, FanOut):
            self.company = True
            row["waiting_for"] = "items"
        elif isinstance(outcome, Skipped):
            row["reason"] = outcome.reason
        elif isinstance(outcome, HandBack) and outcome.after_s is not None:
            row |= {"status": "waiting", "waiting_for": "pause", "wake_in": outcome.after_s}
        self.outcomes.append(row)
        self.company = self.company or bool(claimed.path)
        if flow is not None and step is not None and status in _ENDED and not row.get("fatal") and not stops_item:
            if (step.is_sink or step.is_hook) and not claimed.path and flow.output is not None:
                self.may_end_with_output = True
            for key in step.successors:
                self._edge(flow, row["id"], flow.steps[key], _is_live(step, key, outcome), veto=key in not_taken)

    def _edge(self, flow: CompiledFlow, source: str, target: CompiledStep, live: bool, *, veto: bool) -> None:
        claims = self.budget > 0 and live and not veto and target.condition is None and target.type.queue in self.queues
        claims = claims and self.may_continue(flow.version_id, target.key)
        self.budget -= claims
        self.edges.append({
            "source": source, "target": target.key, "live": live, "veto": veto, "claim": claims,
            "publish": not claims and target.condition is None,
        })  # fmt: skip


def _is_live(step: CompiledStep, successor: str, outcome: Outcome) -> bool:
    """Whether the outcome lets a successor run. A fallback runs only after a failure, and stands in for it then."""
    if isinstance(outcome, Skipped):
        return False
    return step.fallback is None or (successor == step.fallback) == isinstance(outcome, Failed)


def _compiled(claim: Claim) -> tuple[CompiledFlow | None, CompiledStep | None]:
    """The step's definition; nothing for one that this process can't load (its failure stops the run then)."""
    flow = flow_cache.found(claim.version_id)
    if flow is None or claim.key not in flow.steps:
        return None, None
    return flow, flow.steps[claim.key]


def _stored(error: StepError) -> str:
    return dump(error.as_json(), what="The error")


_ENDED = frozenset({"completed", "failed", "skipped"})
_STATUS: dict[type[Any], str] = {
    Completed: "completed",
    Failed: "failed",
    Retry: "waiting",
    Sleep: "waiting",
    WaitFor: "waiting",
    FanOut: "waiting",
    Skipped: "skipped",
    Cancelled: "cancelled",
    HandBack: "ready",
}


class Recording(NamedTuple):
    """A prepared call of `record_outcomes`."""

    parameters: dict[str, Any]
    needs_company: bool
    """Other statements belong into its transaction: failures, waits, outputs of runs."""
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
    return Recording(parameters, builder.fails or builder.company or builder.may_end_with_output, lease)


def record(recording: Recording, cursor: database.Cursor | None = None) -> Recorded:
    """Write the outcomes and all that follows from them, in one statement."""
    result = Recorded(lease=recording.lease)
    for row in database.fetch("record_outcomes", recording.parameters, cursor):
        if row.kind == "landed":
            result.landed[row.id] = row.status
        elif row.kind == "next":
            if row.status == "running":
                result.claimed.append(Claim.of(row, recording.lease))
            else:
                result.ready.append(ReadyStep.of(row))
        elif row.stopping:
            result.versions[row.id] = row.version_id
            result.stopping.append(row.id)
        else:
            result.versions[row.id] = row.version_id
            result.ended.append((row.id, row.status))
            if row.run_id is not None:  # of a run: the one that started it
                result.children.append(row.id)
    return result


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What settling led to: (run, status) of those that ended, the steps that were ready and will not start, and those
    that are to undo others now."""

    ended: list[tuple[UUID, str]] = field(default_factory=list)
    withdrawn: list[UUID] = field(default_factory=list)
    ready: list[ReadyStep] = field(default_factory=list)


def settle(run_ids: Sequence[UUID]) -> Settled:
    """Cancel what is open of runs that are bound to fail or cancelled, and end those of which nothing runs."""
    with database.transaction() as cursor:
        database.fetch("lock_runs", {"ids": list(run_ids)}, cursor)
        withdrawn = [row.id for row in database.fetch("withdraw_open", {"ids": list(run_ids)}, cursor)]
        rows = database.fetch("settle_runs", {"ids": list(run_ids)}, cursor)
        undo = {row.id: _undo(row.id, cursor) for row in rows if row.status == "undo"}
        undone = [run_id for run_id, going_on in undo.items() if going_on is None]
        if undone:
            database.fetch("close_hooks", {"ids": undone}, cursor)
            rows += database.fetch("settle_runs", {"ids": undone}, cursor)
    return Settled(
        ended=[(row.id, row.status) for row in rows if row.status != "undo"],
        withdrawn=withdrawn,
        ready=[step for steps in undo.values() for step in steps or ()],
    )


def _undo(run_id: UUID, cursor: database.Cursor) -> list[ReadyStep] | None:
    """The next step that undoes another becomes ready: one at a time, those of the last steps first.

    None where there is nothing (more) to undo; an empty list while one is under way.
    """
    progress = database.fetch("run_progress", {"run": run_id}, cursor)
    hooks = {row.key: row.status for row in progress if row.is_hook}
    if any(status not in _ENDED | {"cancelled"} for status in hooks.values()):
        return []
    if any(row.status == "running" for row in progress):
        return []
    for key in _hooks_due(progress):
        if key not in hooks:
            rows = database.fetch("insert_hook", {"run": run_id, "key": key}, cursor)
            return [ReadyStep.of(row) for row in rows]
    return None


def undo_failed(verdicts: Sequence[Verdict], cursor: database.Cursor) -> list[ReadyStep]:
    """Before failures are recorded that do not stop their runs: what undoes the failed steps becomes ready."""
    failed = [
        {"step": str(verdict.claim.id), "lease": str(verdict.claim.lease) if verdict.claim.lease else None, "key": key}
        for verdict in verdicts
        if isinstance(verdict.outcome, Failed) and (step := _compiled(verdict.claim)[1]) and not step.stops_run
        for key in step.on_failure
    ]
    rows = database.fetch("insert_own_hooks", {"failed": json.dumps(failed)}, cursor) if failed else []
    return [ReadyStep.of(row) for row in rows]


def _hooks_due(progress: Sequence[Any]) -> list[str]:
    """What undoes the steps that had begun, by the run's end: the last step's first."""
    flow = _flow_with_hooks(progress[0].version_id) if progress else None
    if flow is None:
        return []
    steps = flow.steps
    begun = [row for row in progress if not row.is_hook and row.begun and row.status != "skipped" and row.key in steps]
    begun.sort(key=lambda row: row.position, reverse=True)
    which = (steps[row.key].on_failure if row.failed else steps[row.key].on_cancel for row in begun)
    return list(dict.fromkeys(key for keys in which for key in keys))


def _flow_with_hooks(version_id: UUID) -> CompiledFlow | None:
    """The flow; None where nobody knows what undoes its steps (a dead letter says why it can't be loaded), or nothing
    does. Raises UnloadableVersion where another process knows."""
    try:
        return flow_cache.found_by_anybody(version_id)
    except UnloadableVersion as error:
        if error.undoes:
            raise
        return None


def wake(*, batch: int) -> list[ReadyStep]:
    """waiting → ready for the timers that are due."""
    return [ReadyStep.of(row) for row in database.fetch("wake_steps", {"batch": batch})]


def set_output(run_id: UUID, *, output: str | None, error: StepError | None, cursor: database.Cursor) -> None:
    """The rendered output of a run that this transaction has ended, or the failure of rendering it."""
    text = dump(error.as_json(), what="The error") if error else None
    database.fetch("set_run_output", {"id": run_id, "output": output, "error": text}, cursor)


def expire(*, batch: int) -> list[UUID]:
    """Set the cancel flag of runs that have not started, or not ended, in time; `settle` does the rest."""
    with database.transaction() as cursor:
        due = database.fetch("due_runs", {"batch": batch}, cursor)
        expired: list[UUID] = []
        for org_id, started in sorted({(row.org_id, row.started) for row in due}):
            ids = [row.id for row in due if (row.org_id, row.started) == (org_id, started)]
            reason = "It did not end within timeouts.finish." if started else "It did not start within timeouts.start."
            rows = database.fetch("request_cancel", {"org": org_id, "ids": ids, "reason": reason}, cursor)
            expired += [row.id for row in rows]
    return expired


def request_cancel(org_id: UUID, run_ids: Sequence[UUID], *, reason: str) -> list[UUID]:
    """Set the cancel flag of live runs; `settle` does the rest."""
    return [row.id for row in database.fetch("request_cancel", {"org": org_id, "ids": list(run_ids), "reason": reason})]
