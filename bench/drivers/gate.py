"""The gate by itself: what admitting and handing over cost, by the number of limits of a step and of keys in use."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator

from throttling.gate import Capacity, Gate, Request
from throttling.limits import ConcurrencyLimit, Limit, LimitSet, RateLimit
from throttling.names import LimitName
from workflows.this_process.configuration import configuration

LIMITS = (1, 4, 8)
KEYS = (1, 1_000, 1_000_000)
BATCHES = (1, 50)
STEPS = 1_000
LANE = "bench"


def _limits(count: int, room: int) -> list[Limit]:
    """The first has room for so many; then one rate, the rest concurrency, so high that none blocks."""
    found = [Limit(name=LimitName.parse(f"full{room}"), bound=ConcurrencyLimit(max_running=room), base=str(room))]
    for number in range(1, count):
        bound = RateLimit(max_executions=10**6, per_ms=60_000) if number == 1 else ConcurrencyLimit(max_running=10**6)
        found.append(Limit(name=LimitName.parse(f"l{number}"), bound=bound, base=bound.value, key="k"))
    return found


def _requests(limits: list[Limit], keys: Iterator[int], count: int) -> list[Request]:
    def request() -> Request:
        pairs = [(limit, str(next(keys)) if limit.key else None) for limit in limits]
        return Request(uuid.uuid4().hex, LimitSet.of(pairs), "t", LANE)

    return [request() for _ in range(count)]


def _fill(gate: Gate, generation: str, keys: int) -> None:
    """So many keys in use, beside those that are measured."""
    for start in range(0, keys, 10_000):
        pipeline = gate.client.pipeline(transaction=False)
        for number in range(start, min(start + 10_000, keys)):
            pipeline.set(f"{gate.prefix}{generation}:u:c:l2@{number}", 1, ex=600)
        pipeline.execute()


def measure() -> dict[str, float]:
    """Times per step in µs, of the caller and of the store's CPU, by keys in use, limits of a step, batch."""
    found: dict[str, float] = {}
    for keys in KEYS:
        gate = Gate(configuration().redis_url, prefix=f"bench-{uuid.uuid4().hex[:6]}")
        generation = gate.begin_epoch()[0]
        gate.open_epoch(generation, 1)
        _fill(gate, generation, keys)
        for limits, batch in itertools.product(LIMITS, BATCHES):
            for name, value in _measure(gate, limits, keys, batch).items():
                found[f"{name} keys={keys} limits={limits} batch={batch}"] = value
        gate.begin_epoch(anew=True)
        gate.sweep()
        gate.close()
    return found


def _measure(gate: Gate, limits: int, keys: int, batch: int) -> dict[str, float]:
    numbers = itertools.cycle(range(keys))
    take = Capacity(count=batch, lanes=(LANE,), lease="l")
    # Admit what has room, and give it back unmeasured.
    asked = [_requests(_limits(limits, 10**6), numbers, batch) for _ in range(STEPS // batch)]
    admit = _Stopwatch(gate)
    for requests in asked:
        gate.admit(requests, take=take)
    admit.stop()
    gate.release({"l": [request.id for requests in asked for request in requests]})
    # One batch runs, all others wait for it: each release hands over to the next.
    waiting = _requests(_limits(limits, batch), numbers, STEPS)
    running = gate.admit(waiting, take=take).taken
    hand_over = _Stopwatch(gate)
    while running:
        running = gate.release({"l": running}, take=take).taken
    hand_over.stop()
    return {
        "admit_us": admit.seconds / STEPS * 1e6,
        "admit_cpu_us": admit.cpu / STEPS * 1e6,
        "hand_over_us": hand_over.seconds / STEPS * 1e6,
        "hand_over_cpu_us": hand_over.cpu / STEPS * 1e6,
    }


class _Stopwatch:
    """Elapsed seconds, and seconds of the store's CPU."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._cpu = self._used()
        self._begun = time.perf_counter()

    def _used(self) -> float:
        info = self.gate.client.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self._begun
        self.cpu = self._used() - self._cpu
