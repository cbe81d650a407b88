"""Periodic work of the leader that may take a moment: each job has a thread of its own, so timers never wait for it.

Jobs share the process's pool of connections with its steps, so only a few of them work at once. Urgent ones (cron,
events that nobody has matched) wait for no other.

Every job must be harmless when two processes do it at once (rows are locked, changes compared and set). Other apps
register theirs when they are ready. What a job raises is noted for `doctor`, and so is one that is over its budget.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial

import structlog
from django.db import connections

from workflows.engine.maintenance import budgets, sweeps
from workflows.engine.worker import vital

log = structlog.get_logger(__name__)
TICK_S = 0.1
FOLLOWER_TICK_S = 0.5
"""Where another leads: so often it is looked whether that is still so."""
WATCH_S = 0.5
UNTOLD_S = 3.0
"""Where nobody has looked for so long (a look may be stuck), jobs are done without."""
FAILED_PAUSE_S = 1.0
BUDGET_S = 10.0
STOP_WITHIN_S = 5.0
PLACES = 3
"""So many jobs that are not urgent work at once."""
PATIENCE_S = 10.0
"""A job that has waited so long for a place goes on without one: those that have the places may never end."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """`work` is called every so many seconds; where it returns true there is more to do: it is called again with the
    next tick. Where it takes longer than `budget_s`, that is told. `is_urgent`: it waits for no other job."""

    name: str
    every_s: float
    work: Callable[[], object]
    budget_s: float = BUDGET_S
    is_urgent: bool = False


JOBS: dict[str, Job] = {}


def register(*jobs: Job) -> None:
    """Add the jobs of an app. Raises ValueError where another has a name already."""
    for job in jobs:
        if JOBS.setdefault(job.name, job) is not job:
            raise ValueError(f"the job {job.name!r} is registered twice")


class JobRunner:
    """The threads, in each process that may lead: one for each job, and one that watches their budgets. They work while
    `is_leading` says so."""

    def __init__(
        self,
        is_leading: Callable[[], bool],
        jobs: Iterable[Job] | None = None,
        named_by_looks: Collection[str] = frozenset(),
    ) -> None:
        """`jobs`: those to do; all that are registered, unless given. `named_by_looks`: the jobs that are done only
        when `tell` names them, or where nothing was told for a while."""
        self._is_leading = is_leading
        self._named_by_looks = named_by_looks
        self._jobs = list(JOBS.values() if jobs is None else jobs)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._places = threading.Semaphore(PLACES)
        self._told = {job.name: threading.Event() for job in self._jobs}
        self._told_at = -math.inf

    def start(self) -> None:
        self._threads = [
            vital.start(f"job {job.name}", partial(self._run, job, number * TICK_S))
            for number, job in enumerate(sorted(self._jobs, key=lambda job: not job.is_urgent))
        ]
        self._threads.append(vital.start("job budgets", self._watch))

    def tell(self, names: Collection[str]) -> None:
        """The jobs of these names have something to do."""
        self._told_at = time.monotonic()
        for name in names:
            if name in self._told:
                self._told[name].set()

    def stop(self) -> None:
        self._stop.set()
        for told in self._told.values():
            told.set()
        deadline = time.monotonic() + STOP_WITHIN_S
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _run(self, job: Job, first_after_s: float) -> None:
        """`first_after_s`: so long after it begins to lead, so that not all jobs begin at once."""
        due, was_leading = 0.0, False
        while not self._stop.wait(max(TICK_S if was_leading else FOLLOWER_TICK_S, due - time.monotonic())):
            leads = self._is_leading()
            if leads and was_leading:
                if self._has_something_to_do(job):
                    due = time.monotonic() + self._do_in_turn(job)
                    if due <= time.monotonic():
                        self._told[job.name].set()
            elif leads:
                due = time.monotonic() + first_after_s
            was_leading = leads
        _give_connections_back()

    def _has_something_to_do(self, job: Job) -> bool:
        """Wait until the job is named, for a moment; true where it is, and where nobody looks."""
        if job.name not in self._named_by_looks:
            return True
        told = self._told[job.name]
        is_told = told.wait(UNTOLD_S)
        told.clear()
        return not self._stop.is_set() and (is_told or self._told_at < time.monotonic() - UNTOLD_S)

    def _do_in_turn(self, job: Job) -> float:
        """Do the job once it has a place. Returns the seconds until it is due again."""
        if job.is_urgent:
            return do(job)
        until = time.monotonic() + PATIENCE_S
        has_place = False
        while not has_place and time.monotonic() < until:
            has_place = self._places.acquire(timeout=TICK_S)
            if self._stop.is_set() or not self._is_leading():
                if has_place:
                    self._places.release()
                return 0.0
        try:
            return do(job)
        finally:
            if has_place:
                self._places.release()

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_S):
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
