"""One run in the kit: the code is visited by the real drivers; what the engine does with Postgres, this does in memory.

Each visit performs one step itself, as a worker may, and leaves the next to a visit of its own: so the code is replayed
from its journal at every step, and both ways of performing one are taken.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from workflows.engine.calls.inline import FunctionVisit
from workflows.engine.pipeline import perform
from workflows.engine.pipeline.perform import Handler, RenderedStep, Visit
from workflows.engine.state.records import Claim, StepResult
from workflows.engine.state.transitions.calls import NewCall
from workflows.functions.failures import Nondeterminism, TargetDone
from workflows.functions.flows import MAIN, FunctionFlow
from workflows.functions.journal import Journal
from workflows.functions.replay.check import drive, function_claim
from workflows.functions.testing.rows import Row
from workflows.functions.testing.surroundings import Performer, Surroundings
from workflows.functions.visits import FunctionRun
from workflows.steps.masking import Secrets
from workflows.steps.outcome import (
    Completed,
    Failed,
    Outcome,
    Retry,
    Sleep,
    StepError,
    Suspended,
    WaitFor,
)
from workflows.steps.registry import StepConfig
from workflows.steps.types.delay import handle as wake_up

if TYPE_CHECKING:
    from workflows.functions.testing.world import World

MAX_VISITS = 50_000


class Execution:
    """A run: the function, its steps, and what they wait for."""

    def __init__(
        self, world: World, flow: FunctionFlow, run_id: UUID, event: dict[str, Any], *, parent: UUID | None = None
    ) -> None:
        self.world = world
        self.flow = flow
        self.id = run_id
        self.parent = parent
        self.began_at = world.now
        self.began_number = world.next_number()
        self.version = world.versions.of(flow)
        self.function_id = uuid.uuid5(run_id, MAIN)
        self.scope = world.scope_of(self, event)
        self.rows: dict[str, Row] = {}
        self._ends: list[UUID] = []
        """The steps that have ended, in that order: many do at the same time of the clock."""
        self.status = "ready"
        self.attempt = 1
        self.told_waits = 0
        self.visits = 0
        self.wake_at: dt.datetime | None = None
        self.due_at: dt.datetime | None = None
        if self.version.finish_ms is not None:
            self.due_at = world.now + dt.timedelta(milliseconds=self.version.finish_ms)
        self.output: Any = None
        self.error: dict[str, Any] | None = None
        self.cancel_reason = ""
        self.progress: dict[str, Any] | None = None
        self.logs: list[dict[str, str]] = []
        self.looks: dict[UUID, dt.datetime] = {}
        """When steps began to wait for rows."""
        self._awaited: tuple[UUID, ...] = ()
        self._any_of = False

    # --- what a visit asks of it --------------------------------------------------------------------------------------

    def add(self, call: NewCall) -> Row:
        """Insert a step that the code has asked for."""
        row = Row(
            id=call.id,
            key=call.key,
            position=call.position,
            step=call.step,
            ready_at=self.world.now,
            ready_number=self.world.next_number(),
        )
        self.rows[call.key] = row
        return row

    def row_of(self, step_run_id: UUID) -> Row:
        return next(row for row in self.rows.values() if row.id == step_run_id)

    def open_visit(self, claim: Claim, row: Row) -> Visit:
        """The visit of one of its steps."""
        return Visit(claim=claim, flow=self.version, step=row.step, scope=self.scope)

    # --- going on -----------------------------------------------------------------------------------------------------

    @property
    def is_live(self) -> bool:
        return self.status not in {"completed", "failed", "cancelled"}

    def go_on(self) -> bool:
        """Perform what is ready, and visit the function where it is. False where there is nothing to do."""
        ready = [row for row in self.rows.values() if row.status == "ready"] if self.is_live else []
        for row in ready:
            if self.is_live and row.status == "ready":
                self._perform(row)
        if ready:
            return True
        if self.status != "ready":
            return False
        self._visit()
        return True

    def _visit(self) -> None:
        self.visits += 1
        if self.visits > MAX_VISITS:
            raise Nondeterminism(f"The flow {self.flow.slug!r} was visited {MAX_VISITS:,} times and does not end.")
        self.status, self.wake_at = "running", None
        claim = function_claim(
            self.version, self.id, self.function_id, attempt=self.attempt,
            wake_seq=self.visits - 1, server_retry_waits=self.told_waits,
        )  # fmt: skip
        config = self.version.steps[MAIN].constant
        rendered = self._rendered(Visit(claim=claim, flow=self.version, step=self.version.steps[MAIN]), config)
        worker = Performer(self)
        run = self._function_run(rendered, worker=worker, visit=FunctionVisit(visit=rendered.visit, begun_at=0.0))
        result = self.world.judged(lambda: perform.perform(rendered, lambda _: self._drive(run)))
        self.logs += rendered.context.log.lines
        self.progress = rendered.visit.progress or self.progress
        self._end_visit(result)

    def _rendered(self, visit: Visit, config: StepConfig | None) -> RenderedStep:
        visit.scope, secrets = self.scope, Secrets()
        context = perform.context_of(visit, config or StepConfig(), secrets)
        context.now = self.world.clock
        return RenderedStep(visit=visit, context=context, input=None, secrets=secrets)

    def _function_run(self, rendered: RenderedStep, **more: Any) -> FunctionRun:
        rows = sorted(self.rows.values(), key=lambda row: row.position)
        return FunctionRun(
            flow=self.flow,
            context=rendered.context,
            journal=Journal(rows, began_at=self.began_at, ends=self._ends),
            is_same_code=True,
            function_id=self.function_id,
            around=Surroundings(self),
            **more,
        )

    def _perform(self, row: Row) -> None:
        """A step by a visit of its own: the code goes through the journal up to it, and it alone is performed."""
        claim = self._claim_of(row)
        row.status, row.wake_at = "running", None
        rendered = self._rendered(self.open_visit(claim, row), None)
        handler: Handler
        if row.type == "delay" and row.wake_seq > 0:
            handler = wake_up
        else:
            run = self._function_run(rendered, target=row.id)
            handler = lambda _: self._at_target(run, row)  # noqa: E731
        self.record(row, self.world.judged(lambda: perform.perform(rendered, handler)))

    def _at_target(self, run: FunctionRun, row: Row) -> Any:
        try:
            self._drive(run)
        except TargetDone as done:
            if done.error is not None:
                raise done.error from None
            return done.value
        gone = Nondeterminism(f"The code does not ask for the step {row.key!r} any more when it is replayed.")
        self.world.fault(gone)
        raise gone

    def _drive(self, run: FunctionRun) -> Outcome:
        try:
            outcome = drive(run)
            if not isinstance(outcome, Completed):
                run.journal.check_passed()
            return outcome
        except Nondeterminism as error:
            self.world.fault(error)
            raise

    def _claim_of(self, row: Row) -> Claim:
        call = NewCall(id=row.id, key=row.key, position=row.position, step=row.step)
        function = function_claim(self.version, self.id, self.function_id, attempt=self.attempt)
        claim = call.claim(function, uuid.uuid4())
        return replace(claim, attempt=row.attempt, wake_seq=row.wake_seq, server_retry_waits=row.told_waits)

    # --- what visits came to ------------------------------------------------------------------------------------------

    def record(self, row: Row, result: StepResult) -> None:
        """A step's try has ended."""
        outcome, now = result.outcome, self.world.now
        if not self.is_live:
            return
        match outcome:
            case Completed():
                self.end_row(row, "completed", output=None if result.output is None else json.loads(result.output))
            case Failed(error=error):
                self.end_row(row, "failed", error=error.as_json())
            case Retry(error=error, delay_s=delay_s, by_server=by_server):
                row.error = error.as_json()
                row.attempt += 0 if by_server else 1
                row.told_waits += int(by_server)
                row.status, row.sleeps, row.wake_at = "waiting", False, now + dt.timedelta(seconds=delay_s)
            case Sleep(seconds=seconds):
                row.status, row.sleeps, row.wake_at = "waiting", True, now + dt.timedelta(seconds=seconds)
            case WaitFor():
                row.status, row.wait = "waiting", outcome
                if outcome.timeout_s is not None:
                    row.wake_at = now + dt.timedelta(seconds=outcome.timeout_s)
                self.world.has_begun_to_wait(self, row)
            case _:
                raise AssertionError(f"the kit does not know what {outcome!r} of {row.key!r} means")

    def end_row(self, row: Row, status: str, *, output: Any = None, error: Any = None) -> None:
        """A step has ended; the function goes on where it has waited for that."""
        row.status, row.output, row.error = status, output, error if status == "failed" else row.error
        row.ended_at, row.wake_at, row.wait = self.world.now, None, None
        self._ends.append(row.id)
        self.world.next_number()
        self._wake_function()

    def _wake_function(self) -> None:
        if self.status != "waiting" or not self._awaited:
            return
        ended = [not row.is_open for row in self.rows.values() if row.id in self._awaited]
        if any(ended) if self._any_of else all(ended):
            self.status, self._awaited = "ready", ()

    def _end_visit(self, result: StepResult) -> None:
        outcome: Outcome = result.outcome
        if not self.is_live:  # an event that it has sent itself has cancelled it
            return
        match outcome:
            case Suspended(awaited=awaited, any_of=any_of):
                self.status, self._awaited, self._any_of = "waiting" if awaited else "ready", awaited, any_of
                self._wake_function()
            case Completed():
                self.end("completed", output=None if result.output is None else json.loads(result.output))
                self.world.check_replay(self)
            case Failed(error=error):
                self.end("failed", error=error)
            case Retry(error=error, delay_s=delay_s, by_server=by_server):
                self.error = error.as_json()
                self.attempt += 0 if by_server else 1
                self.told_waits += int(by_server)
                self.status, self.wake_at = "waiting", self.world.now + dt.timedelta(seconds=delay_s)
            case _:
                raise AssertionError(f"the kit does not know what {outcome!r} of a function means")

    def end(self, status: str, *, output: Any = None, error: StepError | None = None, reason: str = "") -> None:
        """The run has ended; what is open of it is cancelled."""
        self.status, self.output = status, output
        self.error = {**error.as_json(), "step": MAIN} if error else None
        self.cancel_reason, self.wake_at, self.due_at = reason, None, None
        for row in self.rows.values():
            if row.is_open:
                row.status, row.wake_at, row.wait = "cancelled", None, None
        self.world.has_ended(self)

    # --- time ---------------------------------------------------------------------------------------------------------

    def timers(self) -> Sequence[dt.datetime]:
        """When something of it is due."""
        if not self.is_live:
            return []
        own = [self.wake_at, self.due_at, *(row.wake_at for row in self.rows.values() if row.status == "waiting")]
        return [at for at in own if at is not None]

    def fire(self) -> None:
        """Do what is due now."""
        now = self.world.now
        if self.is_live and self.due_at is not None and self.due_at <= now:
            self.end("cancelled", reason="It did not end within timeouts.finish.")
            return
        for row in list(self.rows.values()):
            if row.status == "waiting" and row.wake_at is not None and row.wake_at <= now:
                if row.wait is not None:
                    self.world.take(self, row, by="timeout")
                else:
                    row.wake_seq += int(row.sleeps)
                    row.status, row.wake_at = "ready", None
        if self.status == "waiting" and self.wake_at is not None and self.wake_at <= now:
            self.status, self.wake_at = "ready", None
