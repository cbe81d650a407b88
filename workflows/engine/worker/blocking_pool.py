"""The threads of blocking handlers, and how many of them are at work.

Python changes between threads that compute at a price. So steps that lately took no time are performed by one thread,
one after the other: as many threads begin as the work that waits is worth, one for each `THREAD_WORTH_S` of it by how
long its steps took before, and one for each step of which nobody knows that. Where the threads at work stand still,
more of them begin: nobody waits for long behind a handler that is slow for once, and no result does.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import structlog

from workflows.engine.pipeline import batch_size
from workflows.engine.pipeline.perform import RenderedStep, Visit
from workflows.engine.state import database
from workflows.engine.state.records import StepResult
from workflows.engine.worker import vital
from workflows.engine.worker.in_flight import InFlight

log = structlog.get_logger(__name__)
THREAD_WORTH_S = 0.005
KEPT_FOR_S = 0.005
"""How long results are kept to be recorded together."""
LOOK_AFTER_S = 0.002
TAKEN_LATELY_S = 0.001
SOON_LOAD = 2.0


def _share(step: RenderedStep) -> float:
    """Of the work that a thread is begun for, what this step is: 1 at most, and where nobody knows."""
    claim = step.visit.claim
    seconds = batch_size.mean_s(claim.version_id, claim.key)
    return 1.0 if seconds is None else min(1.0, seconds / THREAD_WORTH_S)


class BlockingPool:
    """Performs steps in threads of its own, which begin when they are needed."""

    def __init__(
        self,
        threads: int,
        in_flight: InFlight,
        perform: Callable[[RenderedStep], list[StepResult]],
        go_on: Callable[[list[StepResult]], None],
        put: Callable[[StepResult], None],
    ) -> None:
        """`threads`: at most. `perform` returns a step's result, or nothing where another has it. Results go to `put`
        while more steps wait, else to `go_on` in the thread that has them."""
        self._most = threads
        self._in_flight = in_flight
        self._perform, self._go_on, self._put = perform, go_on, put
        self._waiting: deque[tuple[RenderedStep, float]] = deque()
        self._load = 0.0
        """The shares of all that wait."""
        self._done: list[StepResult] = []
        self._kept_since = 0.0
        self._busy = 0
        self._made = 0
        self._resting = 0
        """Threads that perform nothing; those that are called are among them until they come."""
        self._calls = 0
        self._taken = 0
        self._taken_at = 0.0
        self._lock = threading.Lock()
        self._called = threading.Condition(self._lock)
        self._look_soon = threading.Event()
        self._watch: threading.Thread | None = None
        self._is_over = False

    def submit(self, steps: Sequence[RenderedStep]) -> None:
        """Perform the steps as soon as there are threads for them."""
        waiting = [(step, _share(step)) for step in steps]
        with self._lock:
            if self._is_over:
                return  # draining: what has not begun is handed back
            self._waiting.extend(waiting)
            self._load += sum(share for _, share in waiting)
            is_taking = self._busy > 0 and time.monotonic() < self._taken_at + TAKEN_LATELY_S
            self._call(math.ceil(self._load) - is_taking)
            if len(self._waiting) > self._calls:
                self._have_a_look()
            self._note()

    def next_ones(self) -> list[Visit]:
        """The visits of the steps that begin in a moment, if they take as long as the ones before."""
        found, load = [], 0.0
        with self._lock:
            for step, share in self._waiting:
                load += share
                if load > SOON_LOAD:
                    break
                found.append(step.visit)
        return found

    def close(self) -> None:
        """Begin with no step any more. Threads end with what they perform."""
        with self._lock:
            self._is_over = True
            self._waiting.clear()
            self._load = 0.0
            kept = self._take_done()
            self._called.notify_all()
        self._look_soon.set()
        for result in kept:
            self._put(result)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Count one of the threads as performing, which goes on by itself."""
        with self._lock:
            self._busy += 1
            self._note()
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                self._note()

    def _note(self) -> None:
        self._in_flight.backlog = len(self._waiting)
        self._in_flight.threads_wanted = self._busy + math.ceil(self._load)

    def _call(self, count: int) -> None:
        """Call so many threads more, where there are as many, and not more than there are steps."""
        for _ in range(min(count, len(self._waiting) - self._calls)):
            if self._calls == self._resting:
                if self._made == self._most:
                    return
                threading.Thread(target=self._run, name=f"step_{self._made}", daemon=True).start()
                self._made += 1
                self._resting += 1
            self._calls += 1
            self._called.notify()

    def _run(self) -> None:
        database.adopt()
        while self._is_called():
            try:
                self._perform_waiting()
            except BaseException:
                log.exception("a thread could not go on after its steps; rescue will")
            with self._lock:
                self._resting += 1

    def _is_called(self) -> bool:
        with self._lock:
            while not self._calls and not self._is_over:
                self._called.wait()
            if self._is_over:
                return False
            self._calls -= 1
            self._resting -= 1
            return True

    def _perform_waiting(self) -> None:
        step, results = self._next(None)
        while step is not None:
            for result in results:
                self._put(result)
            step, results = self._next(self._perform(step))
        if results:
            self._go_on(results)

    def _next(self, performed: list[StepResult] | None) -> tuple[RenderedStep | None, list[StepResult]]:
        """The step that the calling thread performs next, and the results that are to be recorded now. `performed`:
        those of the step before; None where it begins."""
        with self._lock:
            now = time.monotonic()
            if performed is None:
                self._kept_since = self._kept_since if self._busy else now
                self._busy += 1
            else:
                self._done += performed
            step: RenderedStep | None = None
            if self._waiting:
                step, share = self._waiting.popleft()
                self._load = self._load - share if self._waiting else 0.0
                self._taken, self._taken_at = self._taken + 1, now
            else:
                self._busy -= 1
            is_due = step is None or now > self._kept_since + KEPT_FOR_S
            results = self._take_done() if is_due else []
            if self._done:
                self._have_a_look()
            self._note()
        return step, results

    def _take_done(self) -> list[StepResult]:
        done, self._done, self._kept_since = self._done, [], time.monotonic()
        return done

    def _have_a_look(self) -> None:
        if self._watch is None:
            self._watch = vital.start("blocking", self._look)
        if not self._look_soon.is_set():
            self._look_soon.set()

    def _look(self) -> None:
        """Where nobody has taken a step for a moment, record what is kept, and call more threads: twice as many each
        time."""
        while not self._is_over:
            self._look_soon.wait()
            self._look_soon.clear()
            more, taken, is_needed = 1, -1, True
            while is_needed and not self._is_over:
                time.sleep(LOOK_AFTER_S)
                kept: list[StepResult] = []
                with self._lock:
                    if taken == self._taken:
                        kept = self._take_done()
                        self._call(more)
                        more *= 2
                    else:
                        more = 1
                    taken = self._taken
                    has_threads = self._calls < self._resting or self._made < self._most
                    is_needed = bool(self._done) or (bool(self._waiting) and has_threads)
                for result in kept:
                    self._put(result)
