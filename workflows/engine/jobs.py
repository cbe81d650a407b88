"""Periodic work of the leader that may take a moment: each job on a thread of its own, so that neither timers nor other
jobs ever wait for it.

Every job must be harmless when two processes do it at once (rows are locked, changes compared and set). Other apps
register theirs when they are ready. What a job raises is noted for `doctor`, and so is one that is over its budget.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog
from django.db import connections

from workflows.engine import budgets, sweeps, vital

log = structlog.get_logger(__name__)
TICK_S = 0.1
FAILED_PAUSE_S = 1.0
BUDGET_S = 10.0
STOP_WITHIN_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """`work` is called every so many seconds; where it returns true there is more to do: it is called again with the
    next tick. Where it takes longer than `budget_s`, that is told."""

    name: str
    every_s: float
    work: Callable[[], object]
    budget_s: float = BUDGET_S


JOBS: dict[str, Job] = {}


def register(name: str, work: Callable[[], object], *, every_s: float, budget_s: float = BUDGET_S) -> None:
    """Add a job. Raises ValueError where the name is taken by another."""
    if name in JOBS and JOBS[name].work is not work:
        raise ValueError(f"the job {name!r} is registered twice")
    JOBS[name] = Job(name=name, every_s=every_s, work=work, budget_s=budget_s)


class JobRunner:
    """The threads, in each process that may lead: one for each job, and one that watches their budgets. They work while
    `is_leading` says so."""

    def __init__(self, is_leading: Callable[[], bool]) -> None:
        self._is_leading = is_leading
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._threads = [vital.start(f"job {job.name}", partial(self._run, job)) for job in JOBS.values()]
        self._threads.append(vital.start("job budgets", self._watch))

    def stop(self) -> None:
        self._stop.set()
        deadline = time.monotonic() + STOP_WITHIN_S
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _run(self, job: Job) -> None:
        due = 0.0
        while not self._stop.wait(max(TICK_S, due - time.monotonic())):
            if self._is_leading():
                due = time.monotonic() + do(job)
        _give_connections_back()

    def _watch(self) -> None:
        while not self._stop.wait(TICK_S):
            try:
                budgets.look()
            except Exception as error:
                log.warning("an overrun can't be noted", error=sweeps.reason_of(error))
            finally:
                _give_connections_back()


def do(job: Job) -> float:
    """Do a job once. Returns the seconds until it is due again. Raises nothing."""
    try:
        with budgets.watched(job.name, job.budget_s):
            result = sweeps.guarded(job.name, job.work)
    except Exception as error:
        log.warning("a job failed, trying again", job=job.name, error=sweeps.reason_of(error))
        _give_connections_back()
        return max(job.every_s, FAILED_PAUSE_S)
    if "pool" in connections["default"].settings_dict["OPTIONS"]:
        _give_connections_back()  # back to the pool: the next job may be another thread's
    return 0.0 if result is True else job.every_s


def _give_connections_back() -> None:
    """Raises nothing either: a connection that is broken can't always be closed, and is gone all the same."""
    with contextlib.suppress(Exception):
        connections.close_all()
