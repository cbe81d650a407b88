"""The engine within one worker process: its parts, put together, started and drained.

A Celery task brings a batch; `visit` claims it. Inline handlers run in the visiting thread and their outcomes are
recorded there, by one statement that also claims the successors; asynchronous handlers run on one event loop, blocking
ones in a bounded pool, and their outcomes go to the recorder thread, which groups what has come while it was writing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from uuid import uuid4

import structlog

from workflows import this_process
from workflows.engine.calls.inline import Inline
from workflows.engine.celery_tasks import watcher
from workflows.engine.pipeline import admit, batch_size, publish
from workflows.engine.pipeline.ahead import Confirming
from workflows.engine.sql import leader as leader_sql
from workflows.engine.state import database
from workflows.engine.state.records import Claim, StepResult
from workflows.engine.telemetry import step_events
from workflows.engine.worker import vital
from workflows.engine.worker.alone.suspects import Suspects
from workflows.engine.worker.claims import Claimer
from workflows.engine.worker.heartbeat import Heartbeat
from workflows.engine.worker.in_flight import InFlight, ResultQueue
from workflows.engine.worker.performers import EventLoop, Performers
from workflows.engine.worker.permits import Continuation, Permits
from workflows.engine.worker.profile import WorkerProfile
from workflows.engine.worker.progress import Progress
from workflows.engine.worker.recorder import Recorder, RecorderThread
from workflows.engine.worker.visitor import Visitor
from workflows.models.worker import FORGOTTEN_AFTER_S
from workflows.steps import sandbox
from workflows.steps.context import WorkerIdentity
from workflows.steps.django_tasks import finished
from workflows.steps.registry import StepType

log = structlog.get_logger(__name__)


class Runtime:
    """One per worker process. Made and started after a fork, never before."""

    def __init__(self, profile: WorkerProfile) -> None:
        self.profile = profile
        this_process.own(WorkerIdentity).id = profile.id
        self.in_flight = InFlight(profile)
        self.results = ResultQueue(self.in_flight)
        self._claimer = Claimer(profile, self.results)
        self._permits = Permits(profile, self.in_flight, self._claimer)
        self.loop = EventLoop()
        shared = (profile, self.in_flight, self.results, self._permits)
        progress = Progress(self.in_flight)
        self.suspects = Suspects(*shared)
        self._performers = Performers(*shared, progress, self.loop, self._go_on)
        recorder = Recorder(*shared)
        self.inline = Inline(*shared, progress, recorder)
        self._visitor = Visitor(*shared, progress, self._performers, self.suspects, recorder)
        self._recorder_thread = RecorderThread(profile, self.in_flight, self.results, recorder, self._visitor.run)
        self.heartbeat = Heartbeat(
            profile,
            self.in_flight,
            self.results,
            self._claimer,
            self._permits,
            progress,
            self.inline,
            self.loop,
            self.drain,
        )
        self._background: list[threading.Thread] = []

    def _go_on(self, results: list[StepResult]) -> None:
        self._visitor.go_on(results)

    def start(self) -> None:
        """Announce the worker, and start the recorder and the heartbeat."""
        database.adopt()
        self.heartbeat.report()
        for name, work in (
            ("recorder", self._recorder_thread.work),
            ("heartbeat", self.heartbeat.work),
            ("permits", self._permits.work),
        ):
            self._background.append(vital.start(name, work))

    def visit(self, step_type: StepType, message: Sequence[tuple[str, int]]) -> None:
        """Take a message: wait for room, claim its steps, and perform or hand them over. Called by Celery tasks.

        Who has sent it may not know how long its steps take: what is too much for this worker goes on to the next one.
        """
        database.adopt()
        batch = self._divided(step_type, message)
        claims: list[Claim] = []
        confirming: Confirming | None = None
        with self.in_flight.counted_as_unclaimed():
            try:
                if not self.in_flight.wait_for_room():
                    return  # draining: the steps stay ready, and rescue publishes them again
                lease, asked = uuid4(), time.monotonic()
                confirming = Confirming([id_ for id_, _ in batch], lease) if admit.is_on() else None
                claims = self._claimer.claim(batch, lease)
                if confirming is not None:
                    claims = self._permits.confirm(claims, lease, confirming)
            except BaseException as error:
                if confirming is not None:
                    confirming.abandon()
                self.results.leave_if_ending(error, claims, ())
                raise
        with self.in_flight.counted_as_visiting():
            self._visitor.run(Continuation(claims, asked))

    def _divided(self, step_type: StepType, message: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
        fit = batch_size.fit(step_type)
        if len(message) <= fit:
            return message
        try:
            publish.send_on(step_type, message[fit:], fit)
        except publish.PUBLISH_ERRORS as error:
            log.info("a message can't be divided, all of it is taken", steps=len(message), reason=str(error))
            return message
        return message[:fit]

    def drain(self, patience_s: float) -> None:
        """Let what runs end for a while, hand the rest back, record everything, and say goodbye."""
        for visit in self.in_flight.visits():  # what is done elsewhere goes on there; another worker watches it
            if visit.step.type.watches:
                self.results.hand_back(visit)
        self.in_flight.drain(patience_s)
        self._performers.close()  # nothing starts any more …
        self._recorder_thread.close()
        self.inline.record_stale(0.0)
        for visit in self.in_flight.visits():  # … before it is handed back
            self.results.hand_back(visit)
        self.suspects.end()
        self.heartbeat.stop()
        self.results.end()
        self._permits.end()
        for thread in self._background:
            thread.join(timeout=5)
        database.close_spare()
        self.loop.stop()
        sandbox.close()
        finished.stop()
        step_events.stop()
        watcher.stop()
        leader_sql.forget_workers(id=self.profile.id, silent_s=FORGOTTEN_AFTER_S)
