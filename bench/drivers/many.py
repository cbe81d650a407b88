"""Many runs at once: how many are stored in a second, and how many are executed to their end."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable

from django.db import connections, transaction
from django.utils import timezone

from bench.drivers.site import Site
from workflows import services
from workflows.models import Attempt

RUNS_IN_ATOMIC = 10


def many(site: Site, *, runs: int, kind: str = "effects") -> dict[str, float]:
    """Runs of one step, triggered by one call."""
    return _timed(site, runs, 1, lambda: services.trigger_many(site.organization, f"one-{kind}", [{}] * runs))


def chain(site: Site, *, runs: int, kind: str = "effects") -> dict[str, float]:
    """Runs of five steps in a row, triggered by one call."""
    return _timed(site, runs, 5, lambda: services.trigger_many(site.organization, f"five-{kind}", [{}] * runs))


def single(site: Site, *, runs: int, in_flight: int, kind: str = "effects") -> dict[str, float]:
    """Runs of one step, each triggered by a call of its own, by so many threads."""

    def work() -> None:
        for _ in range(runs // in_flight):
            services.trigger(site.organization, f"one-{kind}")

    return _timed(site, runs // in_flight * in_flight, 1, lambda: _in_threads(work, in_flight))


def atomic(site: Site, *, runs: int, in_flight: int = 1, kind: str = "effects") -> dict[str, float]:
    """The same within `transaction.atomic()`, ten to a transaction."""

    def work() -> None:
        for _ in range(runs // in_flight // RUNS_IN_ATOMIC):
            with transaction.atomic():
                for _ in range(RUNS_IN_ATOMIC):
                    services.trigger(site.organization, f"one-{kind}")

    each = runs // in_flight // RUNS_IN_ATOMIC * RUNS_IN_ATOMIC
    return _timed(site, each * in_flight, 1, lambda: _in_threads(work, in_flight))


def gap(site: Site, *, flow: str, runs: int) -> dict[str, float]:
    """Milliseconds from one step's end to the next one's start, the median: of runs of one step each under a
    concurrency of 1 (`queue`), or of a run of 200 steps in a row (`row`)."""
    before = timezone.now()
    services.trigger_many(site.organization, flow, [{}] * runs)
    site.await_idle()
    tries = Attempt.objects.filter(org_id=site.organization.id, started_at__gt=before).order_by("started_at")
    spans = list(tries.values_list("started_at", "ended_at"))
    gaps = [(after[0] - one[1]).total_seconds() * 1e3 for one, after in itertools.pairwise(spans) if after[0]]
    return {"gap_ms": statistics.median(gaps)}


def _in_threads(work: Callable[[], None], count: int) -> None:
    if count == 1:
        work()
        return

    def in_thread() -> None:
        try:
            work()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=in_thread) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _timed(site: Site, runs: int, steps: int, store: Callable[[], object]) -> dict[str, float]:
    """Runs a second, stored and executed, and steps a second; the end is that of the last run, by its row."""
    called = time.time()
    store()
    stored = time.time()
    site.await_idle()
    ended = site.last_end(called - 0.001)
    return {
        "stored_per_s": runs / (stored - called),
        "executed_per_s": runs / (ended - called),
        "steps_per_s": runs * steps / (ended - called),
    }
