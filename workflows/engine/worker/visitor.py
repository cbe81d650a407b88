"""How a thread of a worker process performs the steps that it has claimed, and goes on with their successors."""

from __future__ import annotations

import time

import structlog

from workflows.engine.pipeline import batch_size, perform
from workflows.engine.pipeline.perform import Prepared, Visit
from workflows.engine.state.records import Claim, Verdict
from workflows.engine.telemetry import step_events, step_log
from workflows.engine.worker.in_flight import InFlight, VerdictQueue
from workflows.engine.worker.performers import Performers
from workflows.engine.worker.permits import Permits
from workflows.engine.worker.profile import WorkerProfile
from workflows.engine.worker.progress import Progress
from workflows.engine.worker.recorder import Recorder
from workflows.engine.worker.suspects import Suspects
from workflows.steps.outcome import HandBack
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
        verdicts: VerdictQueue,
        permits: Permits,
        progress: Progress,
        performers: Performers,
        suspects: Suspects,
        recorder: Recorder,
    ) -> None:
        self._profile = profile
        self._in_flight = in_flight
        self._verdicts = verdicts
        self._permits = permits
        self._progress = progress
        self._performers = performers
        self._suspects = suspects
        self._recorder = recorder

    def run(self, claims: list[Claim], asked: float) -> None:
        """Perform claimed steps that asked for their permits at `asked`; continue with what the gate hands over."""
        continue_until = time.monotonic() + CONTINUE_FOR_S
        while claims:
            verdicts: list[Verdict] = []
            try:
                self._perform_here(self._start_elsewhere(self._open(claims, asked), verdicts), verdicts)
            except BaseException as error:
                self._verdicts.leave_if_ending(error, claims, verdicts)
                log.exception("a visit failed; rescue will run its steps again", steps=len(claims))
                self._in_flight.forget(claim.id for claim in claims)
                return
            if not verdicts:
                return
            may_continue = time.monotonic() < continue_until and not self._in_flight.is_draining
            claims, asked = self._recorder.record(verdicts, self._profile.max_continued if may_continue else 0)

    def _open(self, claims: list[Claim], asked: float) -> list[Visit]:
        visits = perform.open_visits(claims)
        self._permits.set_start_by(visits, asked)
        step_log.log_configuration(visits)
        step_events.received((visit.claim, visit.flow.slug) for visit in visits)
        self._in_flight.add(visits)
        return visits

    def _start_elsewhere(self, visits: list[Visit], verdicts: list[Verdict]) -> list[Prepared]:
        """Start what runs elsewhere. Returns the steps that this thread performs; `verdicts` gets those of the steps
        that their preparation has decided."""
        here: list[Prepared] = []
        for visit in visits:
            if self._suspects.includes(visit):
                self._suspects.start(visit)
                continue
            prepared = perform.prepare(visit)
            if isinstance(prepared, Verdict):
                _close(visit, prepared, verdicts)
            elif self._belongs_here(prepared):
                here.append(prepared)
            else:
                self._performers.start(prepared)
        return here

    def _belongs_here(self, prepared: Prepared) -> bool:
        step = prepared.visit.step
        own_thread = self._profile.own_thread
        return step.mode is Mode.INLINE or (step.mode is Mode.THREAD and own_thread and not step.type.detached)

    def _perform_here(self, here: list[Prepared], verdicts: list[Verdict]) -> None:
        """Perform steps one after the other. Adds the verdicts that are still to be recorded to `verdicts`."""
        begun = flushed = time.monotonic()
        may_start = {prepared.visit.claim.id for prepared in here}
        for position, prepared in enumerate(here):
            started = time.monotonic()
            if begun + HAND_BACK_TAIL_AFTER_S < started and position:
                for unstarted in here[position:]:
                    _hand_back(unstarted.visit, verdicts)
                break
            if started > prepared.visit.start_by:
                may_start = self._permits.may_start([late.visit for late in here[position:]])
                started = time.monotonic()
            if prepared.visit.claim.id not in may_start:
                _hand_back(prepared.visit, verdicts)
                continue
            self._perform(prepared, started, verdicts)
            now = time.monotonic()
            batch_size.observe(prepared.visit.claim.version_id, prepared.visit.claim.key, now - started)
            if now - flushed > FLUSH_AFTER_S and position + 1 < len(here):
                for verdict in verdicts:
                    self._verdicts.put(verdict)
                verdicts.clear()
                flushed = now

    def _perform(self, prepared: Prepared, started: float, verdicts: list[Verdict]) -> None:
        visit = prepared.visit
        if visit.step.mode is Mode.THREAD:
            visit.performed_since = started
            prepared.context.deadline = visit.deadline
        visit.performs_here = True
        verdict = perform.perform(prepared)
        visit.performs_here = False
        self._progress.keep(visit, verdict)
        _close(visit, verdict, verdicts)


def _close(visit: Visit, verdict: Verdict, verdicts: list[Verdict]) -> None:
    if visit.close():
        verdicts.append(verdict)


def _hand_back(visit: Visit, verdicts: list[Verdict]) -> None:
    _close(visit, Verdict(claim=visit.claim, outcome=HandBack()), verdicts)
