"""How a worker process records verdicts: by the visiting thread itself, or in groups by the recorder thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from workflows.engine.pipeline import admit, publish
from workflows.engine.pipeline.record import record
from workflows.engine.state import database
from workflows.engine.state.records import Claim, Recorded, Verdict, always
from workflows.engine.telemetry import step_log
from workflows.engine.worker.in_flight import InFlight, VerdictQueue
from workflows.engine.worker.permits import Permits
from workflows.engine.worker.profile import WorkerProfile

log = structlog.get_logger(__name__)
VISITORS = 4


class Recorder:
    """Records verdicts in the calling thread, hands their permits over, and claims what the thread continues with."""

    def __init__(self, profile: WorkerProfile, in_flight: InFlight, verdicts: VerdictQueue, permits: Permits) -> None:
        self._profile = profile
        self._in_flight = in_flight
        self._verdicts = verdicts
        self._permits = permits

    def record(self, verdicts: list[Verdict], budget: int) -> tuple[list[Claim], float]:
        """Record the verdicts. Returns the steps with which this visit continues, at most `budget`, and when it asked
        for their permits."""
        asked = time.monotonic()
        try:
            result = record(
                verdicts,
                worker=self._profile.id,
                queues=self._profile.queues,
                budget=self._in_flight.room_for(budget) if admit.is_on() else budget,
                may_continue=admit.free_steps() if admit.is_on() else always,
            )
            step_log.log_steps(verdicts, result.landed)
        except BaseException as error:
            self._verdicts.leave_if_ending(error, (), verdicts)
            log.exception("outcomes could not be recorded; rescue will run the steps again", steps=len(verdicts))
            result = Recorded()
        finally:
            self._in_flight.forget(verdict.claim.id for verdict in verdicts)
        return self._go_on(result, verdicts, budget) or (result.claimed, asked)

    def _go_on(self, result: Recorded, verdicts: list[Verdict], budget: int) -> tuple[list[Claim], float] | None:
        """Go on with what became ready. What fails here, rescue makes good."""
        try:
            if admit.is_on():
                return self._permits.hand_over(result, verdicts, budget)
            if result.ready:
                publish.dispatch(result.ready)
        except BaseException as error:
            self._verdicts.leave_if_ending(error, result.claimed, ())
            log.exception("hand-over failed; rescue will go on", steps=len(result.ready))
            if admit.is_on():
                return [], 0.0
        return None


class RecorderThread:
    """Records the verdicts of the queue. No delay when idle: what comes while it writes forms the next group."""

    def __init__(
        self,
        profile: WorkerProfile,
        in_flight: InFlight,
        verdicts: VerdictQueue,
        recorder: Recorder,
        run: Callable[[list[Claim], float], None],
    ) -> None:
        """`run` performs the steps with which a group continues, and records them; a few threads of its own call it."""
        self._profile = profile
        self._in_flight = in_flight
        self._verdicts = verdicts
        self._recorder = recorder
        self._run = run
        self._visitors = ThreadPoolExecutor(
            max_workers=VISITORS, thread_name_prefix="visit", initializer=database.adopt
        )
        self._lock = threading.Lock()
        self._busy_visitors = 0

    def work(self) -> None:
        """Record until the end of the queue."""
        database.adopt()
        is_over = False
        while not is_over:
            verdicts, is_over = self._verdicts.next_group()
            if verdicts:
                self._record(verdicts)
        database.close()

    def close(self) -> None:
        """Continue with nothing any more."""
        self._visitors.shutdown(wait=False, cancel_futures=True)

    def _record(self, verdicts: list[Verdict]) -> None:
        # Only what a visitor takes up at once is taken: a claim that waits for one would lose its lease.
        has_visitor = self._busy_visitors < VISITORS and not self._in_flight.is_draining
        claims, asked = self._recorder.record(verdicts, self._profile.max_continued if has_visitor else 0)
        if claims:
            with self._lock:
                self._busy_visitors += 1
            with contextlib.suppress(RuntimeError):  # draining: nothing is taken any more; rescue will
                self._visitors.submit(self._continue, claims, asked)

    def _continue(self, claims: list[Claim], asked: float) -> None:
        try:
            self._run(claims, asked)
        except BaseException:
            log.exception("a visit failed; rescue will run its steps again", steps=len(claims))
        finally:
            with self._lock:
                self._busy_visitors -= 1
