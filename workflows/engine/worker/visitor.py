"""How a thread of a worker process performs the steps that it has claimed, and goes on with their successors."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from workflows.engine.pipeline import batch_size, perform
from workflows.engine.pipeline.ahead import Leases
from workflows.engine.pipeline.perform import RenderedStep, Visit
from workflows.engine.state import database
from workflows.engine.state.records import Claim, StepResult
from workflows.engine.telemetry import step_events, step_log
from workflows.engine.worker.alone.suspects import Suspects
from workflows.engine.worker.in_flight import InFlight, ResultQueue
from workflows.engine.worker.performers import Performers
from workflows.engine.worker.permits import NOTHING, Continuation, Permits
from workflows.engine.worker.profile import WorkerProfile
from workflows.engine.worker.progress import Progress
from workflows.engine.worker.recorder import Recorder
from workflows.steps.registry import Mode

log = structlog.get_logger(__name__)

FLUSH_AFTER_S = 0.005
HAND_BACK_TAIL_AFTER_S = 0.250
CONTINUE_FOR_S = 1.0


class Visitor:
    """Performs claimed steps in the calling thread, or starts them elsewhere. Any number of threads may use it."""

    def __init__(
        self,
        profile: WorkerProfile,
        in_flight: InFlight,
        results: ResultQueue,
        permits: Permits,
        progress: Progress,
        performers: Performers,
        suspects: Suspects,
        recorder: Recorder,
    ) -> None:
        self._profile = profile
        self._in_flight = in_flight
        self._results = results
        self._permits = permits
        self._progress = progress
        self._performers = performers
        self._suspects = suspects
        self._recorder = recorder

    def run(self, found: Continuation) -> None:
        """Perform claimed steps; continue with what the gate grants."""
        continue_until = time.monotonic() + CONTINUE_FOR_S
        while found.claims:
            results: list[StepResult] = []
            try:
                here = self._start_elsewhere(self._open(found.claims, found.requested_at), results)
                owed = self._give_back_soon(found.owed, here)
                self._perform_here(here, results)
            except BaseException as error:
                self._results.leave_if_ending(error, found.claims, results)
                log.exception("a visit failed; rescue will run its steps again", steps=len(found.claims))
                self._in_flight.forget(claim.id for claim in found.claims)
                self._permits.give_back_soon(found.owed)
                return
            if not results:
                self._permits.give_back_soon(owed)
                return
            may_continue = time.monotonic() < continue_until and not self._in_flight.is_draining
            found = self._recorder.record(results, self._profile.max_continued if may_continue else 0, owed)

    def go_on(self, results: list[StepResult]) -> None:
        """In a thread of the pool: record its results where nobody else records, and perform what follows. Else the
        recorder thread does, with what else has come."""
        owed, found = NOTHING, Continuation([], 0.0)
        try:
            while results:
                if not self._results.begin_alone():
                    for each in results:
                        self._results.put(each)
                    break
                blocking: list[RenderedStep] = []
                try:
                    with database.borrowed():
                        most = 0 if self._in_flight.is_draining else self._profile.max_continued
                        found = self._recorder.record(results, most, owed)
                        results, owed = [], found.owed
                        visits = self._open(found.claims, found.requested_at)
                        here = self._start_elsewhere(visits, results, blocking)
                finally:
                    self._results.end_alone()
                owed = self._give_back_soon(owed, here)
                self._perform_here(here, results)
                for rendered in blocking:
                    results += self._performers.perform_next(rendered)
        except BaseException:
            log.exception("a visit failed; rescue will run its steps again", steps=len(found.claims))
            self._in_flight.forget(claim.id for claim in found.claims)
        self._permits.give_back_soon(owed)

    def _give_back_soon(self, owed: Leases, here: Sequence[RenderedStep]) -> Leases:
        """Have owed permits given back now where the next call of this thread may be long in coming. Returns what is
        still owed: after steps that take no time the call that they end with gives it back."""
        if owed and not (here and all(rendered.visit.step.mode is Mode.INLINE for rendered in here)):
            self._permits.give_back_soon(owed)
            return NOTHING
        return owed

    def _open(self, claims: list[Claim], requested_at: float) -> list[Visit]:
        visits = perform.open_visits(claims)
        self._permits.set_start_by(visits, requested_at)
        step_log.log_configuration(visits)
        step_events.received((visit.claim, visit.flow.slug) for visit in visits)
        self._in_flight.add(visits)
        return visits

    def _start_elsewhere(
        self, visits: list[Visit], results: list[StepResult], blocking: list[RenderedStep] | None = None
    ) -> list[RenderedStep]:
        """Start what runs elsewhere. Returns the steps that this thread performs; `results` gets those of the steps
        that their preparation has decided. `blocking`: given by a thread of the pool, it gets the step that this thread
        performs, where it is the only one."""
        here: list[RenderedStep] = []
        elsewhere: list[RenderedStep] = []
        for visit in visits:
            if self._suspects.includes(visit):
                self._suspects.start(visit)
                continue
            rendered = perform.render(visit)
            if isinstance(rendered, StepResult):
                _close(visit, rendered, results)
            elif self._belongs_here(rendered):
                here.append(rendered)
            elif blocking is not None and len(visits) == 1 and visit.step.mode is Mode.THREAD:
                blocking.append(rendered)
            else:
                elsewhere.append(rendered)
        if elsewhere:
            self._performers.start(elsewhere)
        return here

    def _belongs_here(self, rendered: RenderedStep) -> bool:
        step = rendered.visit.step
        runs_in_task_thread = self._profile.runs_in_task_thread
        return step.mode is Mode.INLINE or (step.mode is Mode.THREAD and runs_in_task_thread and not step.type.detached)

    def _perform_here(self, here: list[RenderedStep], results: list[StepResult]) -> None:
        """Perform steps one after the other. Adds the results that are still to be recorded to `results`."""
        begun = flushed = time.monotonic()
        may_start = {rendered.visit.claim.id for rendered in here}
        for position, rendered in enumerate(here):
            started = time.monotonic()
            if begun + HAND_BACK_TAIL_AFTER_S < started and position:
                for unstarted in here[position:]:
                    _hand_back(unstarted.visit, results)
                break
            if started > rendered.visit.start_by:
                may_start = self._permits.may_start([late.visit for late in here[position:]])
                started = time.monotonic()
            if rendered.visit.claim.id not in may_start:
                _hand_back(rendered.visit, results)
                continue
            self._perform(rendered, started, results)
            now = time.monotonic()
            batch_size.observe(rendered.visit.claim.version_id, rendered.visit.claim.key, now - started)
            if now - flushed > FLUSH_AFTER_S and position + 1 < len(here):
                for result in results:
                    self._results.put(result)
                results.clear()
                flushed = now

    def _perform(self, rendered: RenderedStep, started: float, results: list[StepResult]) -> None:
        visit = rendered.visit
        if visit.step.mode is Mode.THREAD:
            visit.performed_since = started
            rendered.context.deadline = visit.deadline
        visit.performs_here = True
        result = perform.perform(rendered)
        visit.performs_here = False
        self._progress.keep(visit, result)
        _close(visit, result, results)


def _close(visit: Visit, result: StepResult, results: list[StepResult]) -> None:
    if visit.close():
        results.append(result)


def _hand_back(visit: Visit, results: list[StepResult]) -> None:
    _close(visit, visit.handed_back(), results)
