"""The threads of blocking handlers: how many begin, who waits for whom, and when results are recorded."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from tests.support.workers import await_that
from workflows import this_process
from workflows.engine.pipeline import batch_size
from workflows.engine.pipeline.perform import RenderedStep
from workflows.engine.worker.blocking_pool import BlockingPool
from workflows.engine.worker.in_flight import InFlight
from workflows.engine.worker.profile import WorkerProfile

VERSION = UUID(int=1)
QUICK, SLOW, UNKNOWN = "quick", "slow", "unknown"


@pytest.fixture(autouse=True)
def durations() -> Iterator[None]:
    with this_process.replaced(batch_size.MeanDurations, batch_size.MeanDurations()):
        batch_size.observe_blocking(VERSION, QUICK, "probe", 0.000_01)
        batch_size.observe_blocking(VERSION, SLOW, "probe", 10.0)
        yield


def step(key: str = QUICK, number: int = 0) -> RenderedStep:
    claim = SimpleNamespace(version_id=VERSION, key=key, number=number, id=uuid4())
    return cast(RenderedStep, SimpleNamespace(visit=SimpleNamespace(claim=claim)))


def number_of(rendered: RenderedStep) -> int:
    return int(cast(Any, rendered.visit.claim).number)


class Done:
    """What became of steps, by number: the thread that performed each, and the groups in which results went on."""

    def __init__(self, threads: int = 4, handle: Callable[[int], object] = lambda _: None) -> None:
        self.by: dict[int, str] = {}
        self.groups: list[list[int]] = []
        self.put: list[Any] = []
        self.fails = False
        self.in_flight = InFlight(
            WorkerProfile(name="x", queues=frozenset(), slots=9, threads=threads, runs_in_task_thread=False, lanes={})
        )
        self._handle = handle
        self.pool = BlockingPool(threads, self.in_flight, self._perform, self._go_on, self.put.append)

    def _perform(self, rendered: RenderedStep) -> list[Any]:
        number = number_of(rendered)
        self._handle(number)
        assert number not in self.by, "performed twice"
        self.by[number] = threading.current_thread().name
        return [number]

    def _go_on(self, results: list[Any]) -> None:
        self.groups.append(results)
        if self.fails:
            raise RuntimeError("no")

    def recorded(self) -> Counter[int]:
        return Counter([*self.put, *(each for group in self.groups for each in group)])

    def await_recorded(self, count: int) -> None:
        await_that(lambda: sum(self.recorded().values()) >= count, 20, "results")
        assert self.recorded() == Counter(range(count))


@pytest.fixture
def made() -> Iterator[list[Done]]:
    found: list[Done] = []
    yield found
    for each in found:
        each.pool.close()


def test_quick_steps_are_performed_in_order_by_few_threads(made: list[Done]) -> None:
    done = Done(threads=16)
    made.append(done)
    done.pool.submit([step(number=number) for number in range(100)])
    done.await_recorded(100)
    assert list(done.by) == sorted(done.by)
    await_that(lambda: done.in_flight.threads_wanted == 0)
    assert done.in_flight.backlog == 0


@pytest.mark.parametrize("key", [UNKNOWN, SLOW])
def test_steps_that_are_slow_or_not_known_have_a_thread_each(made: list[Done], key: str) -> None:
    together = threading.Barrier(8)
    done = Done(threads=8, handle=lambda _: together.wait(20))
    made.append(done)
    done.pool.submit([step(key, number) for number in range(8)])
    done.await_recorded(8)
    assert len(set(done.by.values())) == 8


def test_no_more_threads_than_allowed_are_at_work(made: list[Done]) -> None:
    most, now, lock = 0, 0, threading.Lock()

    def handle(_: int) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.01)
        with lock:
            now -= 1

    done = Done(threads=3, handle=handle)
    made.append(done)
    done.pool.submit([step(UNKNOWN, number) for number in range(12)])
    assert done.in_flight.room_for(50) == 0, "a worker takes nothing along while its steps wait for threads"
    done.await_recorded(12)
    assert most == 3


def test_nobody_waits_behind_a_quick_step_that_is_slow_for_once(made: list[Done]) -> None:
    others_are_done = threading.Event()
    done = Done(threads=4, handle=lambda number: number == 10 and others_are_done.wait(20))
    made.append(done)
    done.pool.submit([step(number=number) for number in range(50)])
    await_that(lambda: len(done.by) == 49, 20, "the others")
    await_that(lambda: sum(done.recorded().values()) == 49, 20, "and their results")
    others_are_done.set()
    done.await_recorded(50)


def test_results_do_not_wait_for_a_last_step_that_is_slow_for_once(made: list[Done]) -> None:
    over = threading.Event()
    done = Done(threads=1, handle=lambda number: number == 19 and over.wait(20))
    made.append(done)
    done.pool.submit([step(number=number) for number in range(20)])
    await_that(lambda: sum(done.recorded().values()) == 19, 20, "the results before it")
    over.set()
    done.await_recorded(20)


def test_while_all_threads_stand_still_more_steps_may_come(made: list[Done]) -> None:
    over = threading.Event()
    done = Done(threads=2, handle=lambda number: number < 2 and over.wait(20))
    made.append(done)
    for number in range(30):
        done.pool.submit([step(number=number)])
    await_that(lambda: done.in_flight.threads_wanted >= 2)
    over.set()
    done.await_recorded(30)


def test_each_step_is_performed_once_whoever_hands_it_in(made: list[Done]) -> None:
    done = Done(threads=6)
    made.append(done)

    def hand_in(first: int) -> None:
        for number in range(first, first + 200, 2):
            done.pool.submit([step(QUICK, number), step(UNKNOWN, number + 1)])

    threads = [threading.Thread(target=hand_in, args=(200 * each,)) for each in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.await_recorded(1200)
    await_that(lambda: done.in_flight.threads_wanted == 0)


def test_a_thread_outlives_what_follows_its_steps(made: list[Done]) -> None:
    done = Done(threads=1)
    made.append(done)
    done.fails = True
    for number in range(3):
        done.pool.submit([step(number=number)])
        done.await_recorded(number + 1)
    assert len(set(done.by.values())) == 1


def test_after_its_end_no_step_begins_and_its_threads_end() -> None:
    over = threading.Event()
    done = Done(threads=2, handle=lambda number: number < 2 and over.wait(20))
    done.pool.submit([step(UNKNOWN, number) for number in range(10)])
    await_that(lambda: done.in_flight.backlog == 8)
    done.pool.close()
    done.pool.submit([step(number=11)])
    over.set()
    await_that(lambda: sum(done.recorded().values()) == 2)
    await_that(lambda: not [t for t in threading.enumerate() if t.name.startswith("step_") and t.is_alive()], 20)
    assert done.by.keys() == {0, 1}


def test_the_steps_that_begin_in_a_moment(made: list[Done]) -> None:
    over = threading.Event()
    done = Done(threads=1, handle=lambda _: over.wait(20))
    made.append(done)
    done.pool.submit([step(UNKNOWN, 0)])
    await_that(lambda: done.in_flight.backlog == 0)
    done.pool.submit([*(step(number=number) for number in range(1, 100)), step(SLOW, 100), step(SLOW, 101)])
    soon = [cast(Any, visit.claim).number for visit in done.pool.next_ones()]
    over.set()
    assert soon == list(range(1, 101)), "but none that waits until a slow one is over"
    done.await_recorded(102)


def test_a_backlog_lets_messages_wait_for_a_moment_only(made: list[Done]) -> None:
    over = threading.Event()
    done = Done(threads=1, handle=lambda _: over.wait(20))
    made.append(done)
    done.pool.submit([step(number=number) for number in range(100)])
    assert done.in_flight.backlog > 50
    assert done.in_flight.wait_for_room(), "what else comes does not wait for a handler that stands still"
    over.set()
    done.await_recorded(100)
