"""The two places beside the visiting thread in which a worker process performs steps: an event loop, and a pool of
threads for blocking handlers. A thread of the pool records its result itself where nobody else records; what else comes
goes to the recorder thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog
from django.db import connections

from workflows.engine.pipeline import perform
from workflows.engine.pipeline.perform import RenderedStep, Visit
from workflows.engine.state import database
from workflows.engine.state.records import StepResult
from workflows.engine.worker import vital
from workflows.engine.worker.in_flight import InFlight, ResultQueue
from workflows.engine.worker.permits import Permits
from workflows.engine.worker.profile import WorkerProfile
from workflows.engine.worker.progress import Progress
from workflows.steps.http import client
from workflows.steps.registry import Mode

log = structlog.get_logger(__name__)
T = TypeVar("T")


class EventLoop:
    """The event loop of asynchronous handlers, on a thread of its own. It starts with the first of them."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._is_over = False

    def call_soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it on the loop."""
        asyncio.run_coroutine_threadsafe(work, self._running())

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                vital.start("loop", self._run)
            return self._loop

    def result_of(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it on the loop, and wait for what it returns. From another thread."""
        return asyncio.run_coroutine_threadsafe(work, self._running()).result()

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancel a task of the loop, from another thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(task.cancel)

    def stop(self) -> None:
        """Close the HTTP client of the loop, and end it."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(client.close(), self._loop).result(2)
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        """What a task of a handler raises out of the loop (SystemExit, say) ends that task only."""
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        while not self._is_over:
            try:
                self._loop.run_forever()
                self._is_over = True
            except BaseException:
                log.exception("a handler's task would have ended the event loop; it goes on")


class Performers:
    """Performs rendered steps beside the visiting thread."""

    def __init__(
        self,
        profile: WorkerProfile,
        in_flight: InFlight,
        results: ResultQueue,
        permits: Permits,
        progress: Progress,
        loop: EventLoop,
        go_on: Callable[[StepResult], None],
    ) -> None:
        """`go_on` records the result of a visit that is closed, in the thread of the pool that has it."""
        self._go_on = go_on
        self._in_flight = in_flight
        self._results = results
        self._permits = permits
        self._progress = progress
        self._loop = loop
        self._pool = ThreadPoolExecutor(
            max_workers=profile.threads, thread_name_prefix="step", initializer=database.adopt
        )

    def start(self, rendered: RenderedStep) -> None:
        """Begin with a step: on the event loop, or in the pool."""
        rendered.visit.is_elsewhere = True
        if rendered.visit.step.mode is Mode.ASYNC:
            self._loop.call_soon(self._perform_on_loop(rendered))
        else:
            self._in_flight.begin_blocking()
            self._pool.submit(self._perform_in_pool, rendered)

    def close(self) -> None:
        """Start no blocking handler any more. Those that run are not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _perform_in_pool(self, rendered: RenderedStep) -> None:
        for result in self._perform_counted(rendered):
            self._go_on(result)

    def perform_next(self, rendered: RenderedStep) -> list[StepResult]:
        """Perform a step in a thread of the pool, after another one. Returns its result; nothing where another has
        it."""
        rendered.visit.is_elsewhere = True
        self._in_flight.begin_blocking()
        return self._perform_counted(rendered)

    def _perform_counted(self, rendered: RenderedStep) -> list[StepResult]:
        try:
            result = self._perform_blocking(rendered)
            return [result] if result is not None else []
        except BaseException as error:
            self._give_up(rendered.visit, error)
            return []
        finally:
            self._in_flight.end_blocking()

    def _perform_blocking(self, rendered: RenderedStep) -> StepResult | None:
        visit = rendered.visit
        if visit.is_closed:
            return None  # handed back meanwhile
        if not self._permits.may_start([visit]):
            self._results.hand_back(visit)
            return None
        visit.performed_since = time.monotonic()
        rendered.context.deadline = visit.deadline
        try:
            result = perform.perform(rendered)
            self._progress.keep(visit, result)
        finally:
            connections.close_all()  # handlers may use Django's connections; they go back to the pool at once
        return result if visit.close() else None

    async def _perform_on_loop(self, rendered: RenderedStep) -> None:
        rendered.visit.task = asyncio.current_task()
        try:
            if not self._permits.may_start([rendered.visit]):
                self._results.hand_back(rendered.visit)
                return
            self._results.finish(rendered.visit, await perform.perform_async(rendered))
        except BaseException as error:
            self._give_up(rendered.visit, error)

    def _give_up(self, visit: Visit, error: BaseException) -> None:
        """Something around the handler failed (the gate's answer, say): the step is handed back, and no other is."""
        log.warning("a step is handed back", step_run_id=str(visit.claim.id), exc_info=error)
        self._results.hand_back(visit)
