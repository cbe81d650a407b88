"""What the runs of a kit share: time, events, secrets, stubs, and the runs that they start."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from throttling.overrides import Snapshot
from throttling.policy import Policies, StepFacts
from throttling.retry import Jitter, RetryPolicy
from workflows import this_process
from workflows.definitions.compiled import NIL_UUID
from workflows.engine.events.names import patterns
from workflows.engine.pipeline.facts import event_facts
from workflows.engine.repair import on_failure
from workflows.engine.state.records import StepResult
from workflows.engine.waits import waits
from workflows.errors import InvalidInput, NonRetriable, WorkflowsError
from workflows.expressions import compile_expression
from workflows.expressions.equality import MISSING, hash_of, value_at
from workflows.functions import flows, payloads
from workflows.functions.failures import Nondeterminism
from workflows.functions.flows import FunctionFlow
from workflows.functions.replay.check import Replayer, Versions
from workflows.functions.replay.recorded import RecordedRun, StepRecord
from workflows.functions.testing.execution import Execution
from workflows.functions.testing.rows import Row, SentEvent, StepCall
from workflows.functions.testing.stubs import FlowTestError, NotStubbed, Stubs
from workflows.payload import dump
from workflows.steps.context import StepContext
from workflows.steps.outcome import Completed, Failed, WaitFor
from workflows.steps.types import publish_event

MAX_TURNS = 1_000_000


class _Steady(Policies):
    """The shipped policies, with delays that are not spread: a test knows when a step is tried again."""

    def retry(self, facts: StepFacts) -> RetryPolicy:
        return _steady(super().retry(facts))


def _steady(policy: RetryPolicy) -> RetryPolicy:
    by_category = tuple((name, replace(each, jitter=Jitter.NONE)) for name, each in policy.by_category)
    return replace(policy, jitter=Jitter.NONE, by_category=by_category)


@dataclass(frozen=True, kw_only=True)
class _WaitEnd:
    """How a wait has ended."""

    taken_by: str
    kind: str
    options: Any
    answer: Any = None
    event_id: UUID | None = None
    event_name: str | None = None
    event_data: Any = None
    event_user: Any = None
    event_ts: dt.datetime | None = None
    child_id: UUID | None = None
    child_status: str | None = None
    child_output: Any = None
    child_error: Any = None


class World:
    """All that is in a kit."""

    def __init__(self, now: dt.datetime) -> None:
        self.now = now
        self.versions = Versions()
        self.stubs = Stubs()
        self.secrets: dict[str, str] = {}
        self.calls: list[tuple[Execution, StepCall]] = []
        self.events: list[SentEvent] = []
        self.executions: dict[UUID, Execution] = {}
        self.listening: list[FunctionFlow] = []
        self.own_types: Mapping[str, Callable[[Execution, Any, StepContext], Any]] = {
            "invoke_flow": self._invoke,
            "publish_event": self._publish,
        }
        self._number = 0
        self._problem: BaseException | None = None
        self._policies = Snapshot(_Steady(revision=10**9))

    def clock(self) -> dt.datetime:
        return self.now

    def next_number(self) -> int:
        """The place of something in the order of all that happens."""
        self._number += 1
        return self._number

    # --- runs ---------------------------------------------------------------------------------------------------------

    def start(self, flow: FunctionFlow, event: dict[str, Any], parent: UUID | None = None) -> Execution:
        """A new run. Raises InvalidInput where its data does not fit the flow's model."""
        try:
            payloads.typed(event["data"], flow.model_of(event["name"]))
        except NonRetriable as error:
            raise InvalidInput(str(error)) from None
        run_id = uuid.uuid5(NIL_UUID, f"{flow.slug}:{len(self.executions)}")
        execution = Execution(self, flow, run_id, event, parent=parent)
        self.executions[run_id] = execution
        return execution

    def scope_of(self, execution: Execution, event: dict[str, Any]) -> dict[str, Any]:
        """What expressions read of a run."""
        return {
            "callbacks": {},
            "input": event["data"],
            "event": event,
            "steps": {},
            "run": {
                "id": str(execution.id),
                "flow": execution.flow.slug,
                "trigger": "event",
                "userId": str(event["user"].get("id", "")),
                "priority": 0,
                "createdAt": self.now.isoformat(),
                "error": None,
                "cancelReason": "",
            },
            "org": {"id": str(NIL_UUID), "slug": "default"},
        }

    def facts(self, name: str, data: Any, user: Any = None, id_: str | UUID | None = None) -> dict[str, Any]:
        """The facts of an event. Raises InvalidOutput for data that is no JSON."""
        plain = json.loads(dump(payloads.plain(data), what=f"The data of {name or 'the run'}"))
        found = id_ or uuid.uuid5(NIL_UUID, f"event:{self.next_number()}")
        return event_facts(id_=UUID(str(found)), name=name, data=plain, user=user, ts=self.now)

    def settle(self) -> None:
        """Go on with all runs until each has ended or waits. Raises what the kit has found wrong."""
        self._check_loop()
        for _ in range(MAX_TURNS):
            went_on = [execution.go_on() for execution in list(self.executions.values())]
            if not any(went_on):
                return
        raise FlowTestError("The runs go on without an end.")

    def _check_loop(self) -> None:
        """Raises FlowTestError where the thread has an event loop: that of an async flow can't run in it."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise FlowTestError(
            "The kit is used within an async test. Make that a plain one (def), for async flows too; or call the kit "
            "in a thread: await asyncio.to_thread(kit.start, flow, data)."
        )

    def judged(self, work: Callable[[], StepResult]) -> StepResult:
        """Perform; a fault of the code against its journal, or of the test, is raised here rather than recorded."""
        with this_process.replaced(Snapshot, self._policies):
            result = work()
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem
        return result

    def fault(self, error: BaseException) -> None:
        """Note what the test is to be told of."""
        self._problem = self._problem or error

    def check_replay(self, execution: Execution) -> None:
        """Go through the whole journal once more: the code has to give the same output. Raises Nondeterminism."""
        verdict = Replayer(self.secrets).check(execution.flow, self.recorded(execution), compare_output=True)
        if not verdict.fits:
            raise Nondeterminism(verdict.sentence)

    def recorded(self, execution: Execution) -> RecordedRun:
        """The run as an export has it."""
        rows = sorted(execution.rows.values(), key=lambda row: row.position)
        return RecordedRun(
            id=execution.id,
            flow=execution.flow.slug,
            version=0,
            digest=execution.flow.digest,
            status=execution.status if not execution.is_live else "running",
            attempt=execution.attempt,
            created_at=execution.began_at,
            scope=execution.scope,
            steps=tuple(StepRecord.of(row) for row in rows),
            output=execution.output,
        )

    def has_ended(self, execution: Execution) -> None:
        """A run has ended: its parent goes on, and what it has started is cancelled with it."""
        for other in list(self.executions.values()):
            for row in list(other.rows.values()):
                if row.wait is not None and row.wait.child_id == execution.id:
                    self.take(other, row, by="run")
            if other.parent == execution.id and other.is_live and execution.status == "cancelled":
                other.end("cancelled", reason="Its parent was cancelled.")
        follower = flows.find(execution.version.on_failure or "")
        if execution.status == "failed" and follower is not None:
            self.start(follower, self.facts(on_failure.EVENT, self._facts_of_failure(execution)))

    def _facts_of_failure(self, execution: Execution) -> dict[str, Any]:
        run = execution.scope["run"]
        kept = {name: run[name] for name in ("id", "flow", "trigger", "userId", "createdAt")}
        return {
            "error": execution.error,
            "event": execution.scope["event"],
            "run": {**kept, "endedAt": self.now.isoformat()},
        }

    # --- waits --------------------------------------------------------------------------------------------------------

    def has_begun_to_wait(self, execution: Execution, row: Row) -> None:
        """Look at what has happened already."""
        wait = row.wait
        if wait is None:
            return
        if wait.kind == "run" and wait.child_id is not None:
            child = self.executions.get(wait.child_id)
            if child is not None and not child.is_live:
                self.take(execution, row, by="run")
        elif wait.kind == "event":
            since = row.ready_at - dt.timedelta(seconds=wait.lookback_s)
            for event in self.events:
                counts = (
                    event.number > execution.began_number
                    if wait.since_run
                    else event.number > row.ready_number or (wait.lookback_s > 0 and event.at >= since)
                )
                if counts and self._fits(execution, wait, event):
                    self.take(execution, row, by="event", event=event)
                    return

    def deliver(self, facts: dict[str, Any]) -> list[Execution]:
        """An event has come: end the waits for it, cancel by it, start the flows that listen. Returns their runs."""
        event = SentEvent(facts=facts, at=self.now, number=self.next_number())
        self.events.append(event)
        for execution in list(self.executions.values()):
            self._cancel_by(execution, event)
            for row in list(execution.rows.values()):
                if row.wait is not None and row.wait.kind == "event" and self._fits(execution, row.wait, event):
                    self.take(execution, row, by="event", event=event)
        return [self.start(flow, facts) for flow in self.listening if self.hears(flow, facts)]

    def hears(self, flow: FunctionFlow, facts: dict[str, Any]) -> bool:
        """Whether an event starts a flow: by its name and its filter."""
        names = patterns(facts["name"])
        for trigger in self.versions.spec_of(flow).on:
            if getattr(trigger, "event", None) in names:
                condition = trigger.condition
                if condition is None or compile_expression(condition).is_true({"event": facts}):
                    return True
        return False

    def _cancel_by(self, execution: Execution, event: SentEvent) -> None:
        for rule in self.versions.spec_of(execution.flow).cancel_on:
            if not execution.is_live or rule.event not in patterns(event.name):
                continue
            if rule.timeout is not None and self.now > execution.began_at + dt.timedelta(milliseconds=rule.timeout):
                continue
            if rule.match is not None:
                own = value_at(execution.scope["event"], rule.match)
                if own is MISSING or hash_of(own) != _hash_at(event.facts, rule.match):
                    continue
            if rule.condition is not None and not compile_expression(rule.condition).is_true(
                {**execution.scope, "async": event.facts}
            ):
                continue
            execution.end("cancelled", reason=f"by the event {event.name} {event.facts['id']}")

    def _fits(self, execution: Execution, wait: WaitFor, event: SentEvent) -> bool:
        if wait.event_name not in patterns(event.name):
            return False
        if wait.match_path and _hash_at(event.facts, wait.match_path) != wait.value_hash:
            return False
        if not wait.condition:
            return True
        try:
            return compile_expression(wait.condition).is_true({**execution.scope, "async": event.facts})
        except WorkflowsError as error:
            raise FlowTestError(f"The condition `{wait.condition}` of a wait fails for {event.name}: {error}") from None

    def take(
        self, execution: Execution, row: Row, *, by: str, event: SentEvent | None = None, answer: Any = None
    ) -> None:
        """End a wait, by the rules of the engine."""
        wait = row.wait
        assert wait is not None
        child = self.executions.get(wait.child_id) if wait.child_id is not None else None
        facts = event.facts if event is not None else {}
        taken = _WaitEnd(
            taken_by=by,
            kind=wait.kind,
            options=wait.options,
            answer=answer,
            event_id=UUID(facts["id"]) if facts else None,
            event_name=facts.get("name"),
            event_data=facts.get("data"),
            event_user=facts.get("user"),
            event_ts=dt.datetime.fromtimestamp(facts["ts"] / 1000, dt.UTC) if facts else None,
            child_id=wait.child_id,
            child_status=child.status if child is not None else None,
            child_output=child.output if child is not None else None,
            child_error=child.error if child is not None else None,
        )
        outcome = waits.outcome_of(taken)
        if isinstance(outcome, Failed):
            execution.end_row(row, "failed", error=outcome.error.as_json())
        elif isinstance(outcome, Completed):
            execution.end_row(row, "completed", output=outcome.output)

    # --- steps that the kit performs itself ---------------------------------------------------------------------------

    def _invoke(self, execution: Execution, config: Any, context: StepContext) -> Any:
        flow = flows.find(config.flow)
        if flow is None:
            raise NotStubbed(
                f"The step {context.key!r} runs the flow {config.flow!r}, which is no flow in Python that this process "
                f"knows. Say what it gives: stub({context.key!r}, …)."
            )
        child = self.start(flow, self.facts("", config.data), parent=execution.id if config.wait else None)
        if not config.wait:
            return {"runId": str(child.id)}
        return WaitFor(
            kind="run",
            timeout_s=config.timeout / 1000 if config.timeout else None,
            child_id=child.id,
            options={"on_timeout": config.on_timeout, "on_failure": config.on_failure},
        )

    def _publish(self, execution: Execution, config: Any, context: StepContext) -> Any:
        for id_, event in config.sent(context.step_run_id):
            self.deliver(self.facts(event.name, event.data, event.user, id_=id_))
        return publish_event.output_of(config, context.step_run_id)


def _hash_at(facts: Mapping[str, Any], path: str) -> str:
    value = value_at(facts, path)
    return "" if value is MISSING else hash_of(value)
