"""The two places beside the visiting thread in which a worker process performs steps: an event loop, and a pool of
threads for blocking handlers. A thread of the pool records its result itself where nobody else records; what else comes
goes to the recorder thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog
from django.db import connections

from workflows.engine.pipeline import batch_size, perform
from workflows.engine.pipeline.perform import RenderedStep, Visit
from workflows.engine.state.records import StepResult
from workflows.engine.worker import vital
from workflows.engine.worker.blocking_pool import BlockingPool
from workflows.engine.worker.in_flight import InFlight, ResultQueue
from workflows.engine.worker.permits import RENEW_FOR_S, Permits
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
        go_on: Callable[[list[StepResult]], None],
    ) -> None:
        """`go_on` records the results of visits that are closed, in the thread of the pool that has them."""
        self._results = results
        self._permits = permits
        self._progress = progress
        self._loop = loop
        self._starts = ThreadPoolExecutor(1, "starts")
        self._pool = BlockingPool(profile.threads, in_flight, self._perform_in_pool, go_on, results.put)

    def start(self, steps: Sequence[RenderedStep]) -> None:
        """Begin with steps: on the event loop, or in the pool."""
        blocking = []
        for rendered in steps:
            rendered.visit.is_elsewhere = True
            if rendered.visit.step.mode is Mode.ASYNC:
                self._loop.call_soon(self._perform_on_loop(rendered))
            else:
                blocking.append(rendered)
        if blocking:
            self._pool.submit(blocking)

    def close(self) -> None:
        """Start no blocking handler any more. Those that run are not waited for."""
        self._pool.close()
        self._starts.shutdown(wait=False)

    def perform_next(self, rendered: RenderedStep) -> list[StepResult]:
        """Perform a step in a thread of the pool, after another one. Returns its result; nothing where another has
        it."""
        rendered.visit.is_elsewhere = True
        with self._pool.busy():
            return self._perform_in_pool(rendered)

    def _perform_in_pool(self, rendered: RenderedStep) -> list[StepResult]:
        """Raises nothing: what fails around the handler hands the step back."""
        try:
            result = self._perform_blocking(rendered)
            return [result] if result is not None else []
        except BaseException as error:
            self._give_up(rendered.visit, error)
            return []

    def _perform_blocking(self, rendered: RenderedStep) -> StepResult | None:
        visit = rendered.visit
        if visit.is_closed:
            return None  # handed back meanwhile
        if time.monotonic() > visit.start_by:
            self._start_again(visit)
            if visit.is_closed:
                return None
        visit.performed_since = time.monotonic()
        rendered.context.deadline = visit.deadline
        try:
            result = perform.perform(rendered)
            took_s = time.monotonic() - visit.performed_since
            batch_size.observe_blocking(visit.claim.version_id, visit.claim.key, visit.claim.type, took_s)
            self._progress.keep(visit, result)
        finally:
            connections.close_all()  # handlers may use Django's connections; they go back to the pool at once
        return result if visit.close() else None

    def _start_again(self, visit: Visit) -> None:
        """Confirm a step whose stamp is too old, and those that wait behind it and are late too. What may not start is
        handed back."""
        now = time.monotonic()
        late = [visit, *(each for each in self._pool.next_ones() if now > each.start_by)]
        may_start = self._permits.may_start(late)
        for each in late:
            if each.claim.id not in may_start:
                self._results.hand_back(each)

    async def _perform_on_loop(self, rendered: RenderedStep) -> None:
        rendered.visit.task = asyncio.current_task()
        try:
            if not await self._may_start(rendered.visit):
                self._results.hand_back(rendered.visit)
                return
            began = time.monotonic()
            result = await perform.perform_async(rendered)
            claim = rendered.visit.claim
            batch_size.observe_awaited(claim.version_id, claim.key, time.monotonic() - began)
            self._results.finish(rendered.visit, result)
        except BaseException as error:
            self._give_up(rendered.visit, error)

    async def _may_start(self, visit: Visit) -> bool:
        """Whether a step may start now. The gate is waited for by a thread: the other steps of the loop go on."""
        until = time.monotonic() + RENEW_FOR_S
        while time.monotonic() > visit.start_by:
            if time.monotonic() > until:  # it is renewed each time, and too old when the loop comes to it
                self._permits.leave_alone(visit)
                return False
            if not await asyncio.get_running_loop().run_in_executor(self._starts, self._ask_again, visit):
                return False
        return not visit.is_closed

    def _ask_again(self, visit: Visit) -> bool:
        try:
            return bool(self._permits.may_start([visit]))
        finally:
            connections.close_all()

    def _give_up(self, visit: Visit, error: BaseException) -> None:
        """Something around the handler failed (the gate's answer, say): the step is handed back, and no other is."""
        log.warning("a step is handed back", step_run_id=str(visit.claim.id), exc_info=error)
        self._results.hand_back(visit)
