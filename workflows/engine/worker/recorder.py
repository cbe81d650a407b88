"""How a worker process records results: by the visiting thread itself, or in groups by the recorder thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from workflows.engine.pipeline import admit, ahead, publish
from workflows.engine.pipeline.ahead import Leases
from workflows.engine.pipeline.record import record
from workflows.engine.state import database, flow_cache
from workflows.engine.state.records import Claim, MayContinue, Recorded, StepResult, always
from workflows.engine.telemetry import step_log
from workflows.engine.worker.in_flight import InFlight, ResultQueue
from workflows.engine.worker.permits import NOTHING, Continuation, Permits
from workflows.engine.worker.profile import WorkerProfile
from workflows.steps.registry import Mode

log = structlog.get_logger(__name__)
VISITORS = 4


class Recorder:
    """Records results in the calling thread, hands their permits over, and claims what the thread continues with."""

    def __init__(self, profile: WorkerProfile, in_flight: InFlight, results: ResultQueue, permits: Permits) -> None:
        self._profile = profile
        self._in_flight = in_flight
        self._results = results
        self._permits = permits

    def record(self, results: list[StepResult], max_continuations: int, owed: Leases = NOTHING) -> Continuation:
        """Record the results. Returns the steps with which this visit continues, at most `max_continuations`.

        `owed`: permits of steps that were recorded before, which are given back by the way.
        """
        requested_at = time.monotonic()
        room = self._in_flight.room_for(max_continuations) if admit.is_on() else max_continuations
        may_continue = admit.free_steps() if admit.is_on() else always
        asked = self._ask_ahead(results, may_continue, owed) if room and admit.is_on() else None
        try:
            recorded = record(
                results,
                worker=self._profile.id,
                queues=self._profile.queues,
                max_continuations=room,
                may_continue=may_continue,
                lease=asked.lease if asked else None,
            )
            step_log.log_steps(results, recorded.statuses)
        except BaseException as error:
            if asked:
                asked.abandon()
            self._results.leave_if_ending(error, (), results)
            log.exception("outcomes could not be recorded; rescue will run the steps again", steps=len(results))
            recorded = Recorded()
        finally:
            self._in_flight.forget(result.claim.id for result in results)
        return self._continue_with(recorded, results, max_continuations, asked, owed) or Continuation(
            recorded.claimed, requested_at
        )

    def _ask_ahead(self, results: list[StepResult], may_continue: MayContinue, owed: Leases) -> ahead.Ahead | None:
        asked, others = None, self._permits.take_owed()
        try:
            asked = ahead.ask(
                results, queues=self._profile.queues, may_continue=may_continue, owed=ahead.together(owed, others)
            )
        except BaseException as error:  # whatever it is, the outcomes are recorded without it
            self._results.leave_if_ending(error, (), results)
            log.exception("no permit could be asked for ahead")
        if asked is None:
            self._permits.give_back_soon(others)
        return asked

    def _continue_with(
        self,
        recorded: Recorded,
        results: list[StepResult],
        max_continuations: int,
        asked: ahead.Ahead | None,
        owed: Leases,
    ) -> Continuation | None:
        """Go on with what became ready. What fails here, rescue makes good."""
        try:
            if not admit.is_on():
                if recorded.ready:
                    publish.dispatch(recorded.ready)
                return None
            if asked and (found := self._permits.taken_ahead(asked, recorded)):
                return found
            if asked:  # what it may have taken goes back before the claimed steps ask
                owed = ahead.together(asked.owed, asked.permit)
            return self._permits.hand_over(recorded, results, max_continuations, owed)
        except BaseException as error:
            self._results.leave_if_ending(error, recorded.claimed, ())
            log.exception("hand-over failed; rescue will go on", steps=len(recorded.ready))
            return Continuation([], 0.0) if admit.is_on() else None


class RecorderThread:
    """Records the results of the queue. No delay when idle: what comes while it writes forms the next group."""

    def __init__(
        self,
        profile: WorkerProfile,
        in_flight: InFlight,
        results: ResultQueue,
        recorder: Recorder,
        run: Callable[[Continuation], None],
    ) -> None:
        """`run` performs the steps with which a group continues, and records them; a few threads of its own call it."""
        self._profile = profile
        self._in_flight = in_flight
        self._results = results
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
            results, is_over = self._results.next_group()
            if results:
                self._record(results)
        database.close()

    def close(self) -> None:
        """Continue with nothing any more."""
        self._visitors.shutdown(wait=False, cancel_futures=True)

    def _record(self, results: list[StepResult]) -> None:
        # Only what a visitor takes up at once is taken: a claim that waits for one would lose its lease.
        has_visitor = self._busy_visitors < VISITORS and not self._in_flight.is_draining
        with self._results.recorded_in_group():
            found = self._recorder.record(results, self._profile.max_continued if has_visitor else 0)
        if not found.claims:
            return
        with self._lock:
            self._busy_visitors += 1
        if len(found.claims) == 1 and self._results.is_empty() and self._runs_elsewhere(found.claims[0]):
            self._continue(found)  # it is only started, which takes no time
            return
        with contextlib.suppress(RuntimeError):  # draining: nothing is taken any more; rescue will
            self._visitors.submit(self._continue, found)

    def _runs_elsewhere(self, claim: Claim) -> bool:
        """Whether the thread that begins with the step only starts it: on the event loop, or in the pool."""
        flow = flow_cache.find(claim.version_id)
        step = flow.steps.get(claim.key) if flow is not None else None
        return step is not None and step.mode is not Mode.INLINE and not self._profile.runs_in_task_thread

    def _continue(self, found: Continuation) -> None:
        try:
            self._run(found)
        except BaseException:
            log.exception("a visit failed; rescue will run its steps again", steps=len(found.claims))
        finally:
            with self._lock:
                self._busy_visitors -= 1
