"""The steps that a function asks for, performed within its visit: one after the other, in the same thread.

Before a step begins, its predecessor is recorded: one statement completes that and inserts the step as running, while
the gate is asked for its permit. What the gate leaves goes back and is dispatched as any other step is.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from uuid import UUID

import structlog

from throttling.errors import EpochClosed, StoreUnavailable
from throttling.gate import Held
from workflows.engine.pipeline import admit, ahead, publish
from workflows.engine.pipeline.ahead import Ahead, Leases
from workflows.engine.pipeline.perform import Visit
from workflows.engine.state import database
from workflows.engine.state.records import Claim, ReadyStep, Recorded, StepResult
from workflows.engine.state.transitions import calls
from workflows.engine.state.transitions.calls import NewCall
from workflows.engine.telemetry import step_events, step_log
from workflows.engine.worker import ending
from workflows.engine.worker.in_flight import InFlight, ResultQueue
from workflows.engine.worker.permits import NOTHING, Permits
from workflows.engine.worker.profile import WorkerProfile
from workflows.engine.worker.progress import Progress
from workflows.engine.worker.recorder import Recorder
from workflows.steps.outcome import Completed

log = structlog.get_logger(__name__)
STALE_AFTER_S = 0.25
PERFORM_FOR_S = 30.0
"""Seconds within which a visit begins steps itself; then others get the worker, and the function another visit."""


@dataclass(kw_only=True)
class FunctionVisit:
    """The visit of a function that performs steps itself. Used by one thread at a time."""

    visit: Visit
    begun_at: float
    owed: Leases = field(default_factory=dict)
    """Permits of recorded steps, which are still to be given back."""
    _ended: StepResult | None = None
    _ended_at: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    @property
    def claim(self) -> Claim:
        return self.visit.claim

    def keep(self, result: StepResult) -> None:
        """Keep a step that has completed: it is recorded when the next one begins, or soon."""
        with self._lock:
            self._ended, self._ended_at = result, time.monotonic()

    def take(self, older_than_s: float = 0.0) -> StepResult | None:
        """The step that is to be recorded, for the caller to do so; None where there is none, or it came just now."""
        with self._lock:
            if self._ended is None or time.monotonic() < self._ended_at + older_than_s:
                return None
            ended, self._ended = self._ended, None
            return ended


class Inline:
    """Performs the steps of functions within their visits. Any number of visits may use it at once."""

    def __init__(
        self,
        profile: WorkerProfile,
        in_flight: InFlight,
        results: ResultQueue,
        permits: Permits,
        progress: Progress,
        recorder: Recorder,
    ) -> None:
        self._profile = profile
        self._in_flight = in_flight
        self._results = results
        self._permits = permits
        self._progress = progress
        self._recorder = recorder
        self._open: dict[UUID, FunctionVisit] = {}

    def visit_of(self, step_run_id: UUID) -> FunctionVisit | None:
        """What is known of the visit of a function in this process."""
        visit = self._in_flight.get(step_run_id)
        if visit is None:
            return None
        self._open[step_run_id] = function = FunctionVisit(visit=visit, begun_at=time.monotonic())
        return function

    def may_begin(self, function: FunctionVisit, call: NewCall) -> bool:
        """Whether the visit may perform another step itself."""
        return (
            not self._in_flight.is_draining
            and not function.visit.is_closed
            and call.step.type.queue in self._profile.queues
            and not self._profile.runs_in_task_thread
            and time.monotonic() < function.begun_at + PERFORM_FOR_S
        )

    def begin(self, function: FunctionVisit, call: NewCall) -> Visit | None:
        """Record the step before, and begin this one. None where it has no permit (it is dispatched when it gets one),
        where it has ended meanwhile, or where the visit has lost its lease or its run is being cancelled:
        `function.visit` is handed back then."""
        ended = function.take()
        with database.borrowed():
            asked = self._ask(function, call, ended)
            lease = asked.lease if asked else uuid.uuid4()
            try:
                is_begun = calls.begin(function.claim, call, lease=lease, worker=self._profile.id, ended=ended)
            except BaseException:
                self._abandon(asked, ended)
                raise
            if not is_begun:
                self._abandon(asked, ended)
                self._results.hand_back(function.visit)  # a run that is being cancelled ends by that
                return None
            self._note_recorded(ended)
            claim = call.claim(function.claim, lease)
            requested_at = self._started(function, claim, asked, ended)
            if requested_at is None:
                return None
            visit = Visit(
                claim=claim, flow=function.visit.flow, step=call.step, scope=function.visit.scope, around=function.visit
            )
            self._in_flight.add([visit])
        return visit if self._may_start(visit, requested_at) else None

    def _may_start(self, visit: Visit, requested_at: float) -> bool:
        """Whether a step that has begun may be performed now; else it went back, or another has ended it meanwhile."""
        try:
            self._permits.set_start_by([visit], requested_at)
            step_log.log_configuration([visit])
            step_events.received([(visit.claim, visit.flow.slug)])
            may_start = self._permits.may_start([visit])
        except BaseException as error:
            self._results.hand_back(visit)
            ending.raise_if_ending(error)
            log.warning("a step is handed back", step_run_id=str(visit.claim.id), exc_info=error)
            return False
        if not may_start:
            self._results.hand_back(visit)
            return False
        visit.performed_since = time.monotonic()
        return not visit.is_closed

    def _abandon(self, asked: Ahead | None, ended: StepResult | None) -> None:
        """The step does not begin: its permit goes back, and the one before is recorded by itself."""
        if asked is not None:
            asked.abandon()
            self._permits.give_back_soon(ahead.together(asked.owed, asked.permit))
        if ended is not None:
            self._results.put(ended)

    def _ask(self, function: FunctionVisit, call: NewCall, ended: StepResult | None) -> Ahead | None:
        """Ask for the permit of a step, where it may well get one."""
        if not admit.is_on():
            return None
        before = ended.claim if ended else function.claim
        owed, function.owed = function.owed, NOTHING
        owed = ahead.together(owed, self._permits.take_owed())
        try:
            if admit.limits_of(function.claim.version_id, call.key).problem:
                raise StoreUnavailable("a limit of the step is unknown: it fails in its try")
            step = call.ready(function.claim)
            return Ahead(step, Held(before.id.hex, str(before.lease)), owed)
        except (StoreUnavailable, EpochClosed) as error:
            log.info("no permit can be asked for ahead", step_run_id=str(call.id), reason=str(error))
            function.owed = owed
            return None

    def _started(
        self, function: FunctionVisit, claim: Claim, asked: Ahead | None, ended: StepResult | None
    ) -> float | None:
        """When the permit of the step was asked for; None where it has none: it went back."""
        if not admit.is_on():
            return time.monotonic()
        held: Leases = {str(ended.claim.lease): [ended.claim.id.hex]} if ended else NOTHING
        owed = function.owed
        if asked is not None:
            try:
                answer = asked.answer()
            except publish.GATE_ERRORS as error:
                log.info("the gate has not answered in time", step_run_id=str(asked.id), reason=str(error))
                owed = ahead.together(asked.owed, asked.permit)
            else:
                is_revised = admit.sync_revision(answer)
                if answer.granted:
                    publish.publish_granted(answer)
                if asked.id.hex in answer.taken and not asked.is_late:
                    function.owed = held
                    return float("-inf") if is_revised else asked.sent_at
                owed = asked.permit if asked.id.hex in answer.taken else NOTHING
        function.owed = NOTHING
        recorded = Recorded(lease=claim.lease or uuid.uuid4(), claimed=[claim])
        found = self._permits.hand_over(recorded, (), 0, ahead.together(owed, held))
        return found.requested_at if found.claims else None

    def _note_recorded(self, ended: StepResult | None) -> None:
        if ended is None:
            return
        statuses = {ended.claim.id: "completed"}
        step_log.log_steps([ended], statuses)
        step_events.ended([ended], statuses)
        self._in_flight.forget([ended.claim.id])

    def end(self, function: FunctionVisit, visit: Visit, result: StepResult) -> bool:
        """Take the result of a step that `begin` has begun. True where the function goes on with it: it has completed.

        Else it is recorded, now or by the recorder thread; False too where another has ended the step meanwhile (its
        time was up, or its run is cancelled).
        """
        self._progress.keep(visit, result)
        if not visit.close():
            return False
        if isinstance(result.outcome, Completed) and not function.visit.is_closed and result.pause_s == 0:
            function.keep(result)
            return True
        self._results.put(result)
        return False

    def recorded(self, function: FunctionVisit, visit: Visit, result: StepResult) -> None:
        """Go on after a step that its own transaction has recorded."""
        visit.close()
        self._note_recorded(result)
        held: Leases = {str(visit.claim.lease): [visit.claim.id.hex]}
        function.owed = ahead.together(function.owed, held)

    def record(self, function: FunctionVisit, visit: Visit, result: StepResult) -> bool:
        """Record a result at once, before the function goes on. False where another has ended the step meanwhile."""
        self._progress.keep(visit, result)
        if not visit.close():
            return False
        owed, function.owed = function.owed, NOTHING
        with database.borrowed():
            self._recorder.record([result], 0, owed)
        return True

    def close(self, function: FunctionVisit) -> None:
        """At the end of a visit: have what it still has recorded, and given back."""
        self._open.pop(function.claim.id, None)
        if (ended := function.take()) is not None:
            self._results.put(ended)
        owed, function.owed = function.owed, NOTHING
        self._permits.give_back_soon(owed)

    def record_stale(self, after_s: float = STALE_AFTER_S) -> None:
        """Have steps recorded that completed a while ago: their functions are long in asking for the next ones."""
        for function in list(self._open.values()):
            if (ended := function.take(older_than_s=after_s)) is not None:
                self._results.put(ended)


def open_steps(function: Claim, new: Sequence[NewCall]) -> list[UUID]:
    """Insert steps that are performed by visits of their own, and dispatch them. Returns those that were inserted."""
    with database.borrowed():
        ready: list[ReadyStep] = calls.open_(function, new)
        if ready:
            publish.dispatch(ready)
    return [step.id for step in ready]
