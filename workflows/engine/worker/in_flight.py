"""The visits that a worker process has in flight, and the queue of their results."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from uuid import UUID

from workflows.engine.pipeline.perform import Visit
from workflows.engine.state.records import Claim, StepResult
from workflows.engine.state.transitions.steps import LEASE_S
from workflows.engine.worker import ending
from workflows.engine.worker.profile import WorkerProfile
from workflows.steps.outcome import HandBack

BLIND_AFTER_S = LEASE_S * 0.8
MAX_GROUP = 500
MAX_BACKLOG = 50
BACKLOG_FOR_S = 0.020
MAX_GROUP_BYTES = 8 * 1024 * 1024


class InFlight:
    """The visits of a process, from their claim to their record, with the lock over them and the room that is left."""

    def __init__(self, profile: WorkerProfile) -> None:
        self.unclaimed = 0
        """Messages that wait for room, or whose steps are being claimed."""
        self.visiting = 0
        """Messages whose steps are being performed."""
        self.threads_wanted = 0
        """Of the pool of blocking handlers: those that perform, and those that what waits for them is worth."""
        self.backlog = 0
        """Blocking steps that wait for a thread."""
        self._profile = profile
        self._visits: dict[UUID, Visit] = {}
        self._watching = 0
        self._room = threading.Condition()
        self._last_seen = time.monotonic()
        self._draining = threading.Event()

    def __len__(self) -> int:
        return len(self._visits)

    @property
    def executing(self) -> int:
        """How many of the visits take a slot: those that only watch work elsewhere take none."""
        return len(self._visits) - self._watching

    def visits(self) -> list[Visit]:
        """All of them, as they are now."""
        return list(self._visits.values())

    def get(self, step_run_id: UUID) -> Visit | None:
        """The visit of a step; None where it is not begun, or recorded already."""
        return self._visits.get(step_run_id)

    def add(self, visits: Iterable[Visit]) -> None:
        """Take up visits that have been opened."""
        with self._room:
            for visit in visits:
                before = self._visits.get(visit.claim.id)
                self._watching += visit.step.type.watches - (before is not None and before.step.type.watches)
                self._visits[visit.claim.id] = visit

    def forget(self, step_run_ids: Iterable[UUID]) -> None:
        """Drop visits that are recorded, or given up. Threads that wait for room look again."""
        with self._room:
            for step_run_id in step_run_ids:
                visit = self._visits.pop(step_run_id, None)
                self._watching -= visit is not None and visit.step.type.watches
            self._room.notify_all()

    @contextlib.contextmanager
    def counted_as_unclaimed(self) -> Iterator[None]:
        """Count a message until its steps are claimed: the drain waits for it."""
        with self._room:
            self.unclaimed += 1
        try:
            yield
        finally:
            with self._room:
                self.unclaimed -= 1

    @contextlib.contextmanager
    def counted_as_visiting(self) -> Iterator[None]:
        """Count a message while its steps are performed."""
        with self._room:
            self.visiting += 1
        try:
            yield
        finally:
            with self._room:
                self.visiting -= 1

    def note_beat(self) -> None:
        """Remember that the database has just been reached: without that, no message is taken."""
        self._last_seen = time.monotonic()

    def wait_for_room(self) -> bool:
        """True as soon as a message may be taken; False where the process drains.

        While many blocking steps wait here for a thread, it waits for a moment: where they are quick they are soon
        done, and no permit gets old. Where they are not, what else comes does not wait for them.
        """
        patient_until = time.monotonic() + BACKLOG_FOR_S
        with self._room:
            while not self.is_draining:
                now = time.monotonic()
                has_backlog = self.backlog >= MAX_BACKLOG and now < patient_until
                has_room = self.executing < self._profile.slots and now - self._last_seen < BLIND_AFTER_S
                if has_room and not has_backlog:
                    return True
                self._room.wait(patient_until - now if has_backlog and has_room else 0.25)
        return False

    def room_for(self, max_continuations: int) -> int:
        """How many steps this worker can take at once: none while its blocking handlers wait for threads."""
        if self._profile.runs_in_task_thread:
            return min(max_continuations, 1)
        if self.threads_wanted >= self._profile.threads:
            return 0
        return max(0, min(max_continuations, self._profile.slots - self.executing))

    @property
    def is_draining(self) -> bool:
        return self._draining.is_set()

    def drain(self, patience_s: float) -> None:
        """Take no message any more, and wait until all visits have ended, or the patience has."""
        self._draining.set()
        deadline = time.monotonic() + patience_s
        with self._room:
            self._room.notify_all()
            while (self._visits or self.unclaimed) and time.monotonic() < deadline:
                self._room.wait(0.05)


class ResultQueue:
    """The results that wait for the recorder thread."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._waiting: queue.SimpleQueue[StepResult | None] = queue.SimpleQueue()
        self._recording = threading.Lock()
        self._recorder_has_group = False

    def is_empty(self) -> bool:
        """Whether no result waits."""
        return self._waiting.empty()

    @contextlib.contextmanager
    def recorded_in_group(self) -> Iterator[None]:
        """The recorder thread records a group; nobody records beside it."""
        self._recorder_has_group = True
        try:
            with self._recording:
                yield
        finally:
            self._recorder_has_group = False

    def begin_alone(self) -> bool:
        """Whether the calling thread may record its own results, and none is recorded or waits; `end_alone` follows."""
        return not self._recorder_has_group and self.is_empty() and self._recording.acquire(blocking=False)

    def end_alone(self) -> None:
        """Let others record."""
        self._recording.release()

    def put(self, result: StepResult) -> None:
        """Have a result recorded whose visit is closed, or was never opened."""
        self._waiting.put(result)

    def finish(self, visit: Visit, result: StepResult) -> None:
        """Close a visit and have its result recorded; a second one of the same visit is dropped."""
        if visit.close():
            self._waiting.put(result)

    def hand_back(self, visit: Visit) -> None:
        """Close a visit without an attempt: another worker may take its step."""
        self.finish(visit, visit.handed_back())

    def end(self) -> None:
        """Say that no result follows."""
        self._waiting.put(None)

    def get_nowait(self) -> StepResult | None:
        """The next result; None is the end. Raises queue.Empty where none waits."""
        return self._waiting.get_nowait()

    def next_group(self) -> tuple[list[StepResult], bool]:
        """Wait for a result. Returns it with those that have come meanwhile, and whether the end has."""
        group = [self._waiting.get()]
        size = _size(group[0])
        while len(group) < MAX_GROUP and size < MAX_GROUP_BYTES:
            try:
                group.append(self._waiting.get_nowait())
            except queue.Empty:
                break
            size += _size(group[-1])
        results = [result for result in group if result is not None]
        return results, len(results) < len(group)

    def leave_if_ending(self, error: BaseException, claims: Iterable[Claim], results: Iterable[StepResult]) -> None:
        """Where a signal ends this process: what has been performed is recorded, what has not goes back, and the error
        goes on its way. What other threads perform is left to the drain."""
        try:
            ending.raise_if_ending(error)
        except SystemExit:
            for result in results:
                self.put(result)
            for claim in claims:
                visit = self._in_flight.get(claim.id)
                if visit is None:  # not begun; or recorded already, and then its lease is over
                    self.put(StepResult(claim=claim, outcome=HandBack()))
                elif not visit.is_elsewhere:
                    self.hand_back(visit)
            raise


def _size(result: StepResult | None) -> int:
    return len(result.output or "") + len(result.input or "") if result else 0
