"""Periodic work of the leader that may take a moment: on a thread of its own, so that timers never wait for it.

Every job must be harmless when two processes do it at once (rows are locked, changes compared and set). Other apps
register theirs when they are ready.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import structlog
from django.db import DatabaseError, connections

log = structlog.get_logger(__name__)
TICK_S = 0.1
FAILED_PAUSE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """`work` is called every so many seconds; where it returns true there is more to do: it is called again with the
    next tick."""

    name: str
    every_s: float
    work: Callable[[], object]


JOBS: dict[str, Job] = {}


def register(name: str, work: Callable[[], object], *, every_s: float) -> None:
    """Add a job. Raises ValueError where the name is taken by another."""
    if name in JOBS and JOBS[name].work is not work:
        raise ValueError(f"the job {name!r} is registered twice")
    JOBS[name] = Job(name=name, every_s=every_s, work=work)


class JobRunner:
    """The thread, in each process that may lead. It works while `is_leading` says so."""

    def __init__(self, is_leading: Callable[[], bool]) -> None:
        self._is_leading = is_leading
        self._stop = threading.Event()
        self._due: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(TICK_S):
            if not self._is_leading():
                continue
            for job in list(JOBS.values()):
                if time.monotonic() >= self._due.get(job.name, 0.0) and not self._stop.is_set():
                    self._due[job.name] = time.monotonic() + self._do(job)
        connections.close_all()

    def _do(self, job: Job) -> float:
        """Seconds until it is due again."""
        try:
            return 0.0 if job.work() is True else job.every_s
        except (psycopg.Error, DatabaseError) as error:
            log.warning("a job failed, trying again", job=job.name, error=str(error))
        except Exception:
            log.exception("a job failed, trying again", job=job.name)
        connections.close_all()  # it may be the connection
        return max(job.every_s, FAILED_PAUSE_S)
