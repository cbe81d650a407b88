"""The time that a job or a sweep may take. One that takes longer is reported; at six times that, its
statement is cancelled.

Each job has a thread of its own, so one that overruns keeps no other from its turn. Python can't stop a thread; a
statement can be cancelled.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import structlog
from django.db import connections

from workflows import this_process
from workflows.engine.maintenance import sweeps
from workflows.engine.state import database

log = structlog.get_logger(__name__)
CANCEL_AFTER = 6.0
"""A statement is cancelled after so many times the budget."""
CANCEL_WITHIN_S = 2.0


class Overrun(RuntimeError):
    """The work takes longer than its budget."""


@dataclass(kw_only=True, eq=False)
class _Running:
    name: str
    budget_s: float
    since: float
    django: Any
    own: psycopg.Connection[Any] | None
    reported: bool = False
    cancelled: bool = False
    is_over: bool = False
    ending: threading.Lock = field(default_factory=threading.Lock)


class UnderWay:
    """What this process is doing within a budget."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[_Running] = set()

    def add(self, running: _Running) -> None:
        with self._lock:
            self._running.add(running)

    def discard(self, running: _Running) -> None:
        with self._lock:
            self._running.discard(running)

    def everything(self) -> list[_Running]:
        with self._lock:
            return list(self._running)


@contextlib.contextmanager
def watched(name: str, budget_s: float) -> Iterator[None]:
    """Watch over the work within: `look` reports it where it takes longer than its budget."""
    own = database.connection() if database.is_adopted() else None
    running = _Running(name=name, budget_s=budget_s, since=time.monotonic(), django=connections["default"], own=own)
    under_way = this_process.own(UnderWay)
    under_way.add(running)
    try:
        yield
    finally:
        under_way.discard(running)
        with running.ending:
            running.is_over = True
    if not running.reported:
        sweeps.ledger().forget(name, [sweeps.THE_WHOLE], kind=sweeps.OVERRAN)


def look() -> None:
    """Tell of what is over its budget now, in the log and to `doctor`. A thread of the leader calls it every moment."""
    now = time.monotonic()
    everything = this_process.own(UnderWay).everything()
    late = [running for running in everything if now - running.since > running.budget_s]
    for running in late:
        if now - running.since > running.budget_s * CANCEL_AFTER and not running.cancelled:
            running.cancelled = True
            _cancel(running)
        if not running.reported:
            running.reported = True
            log.warning("a job is over its budget", job=running.name, budget_s=running.budget_s)
            over = Overrun(f"It has taken more than its {running.budget_s:g} s, and goes on.")
            failure = sweeps.Failure(sweeps.THE_WHOLE, None, over)
            sweeps.ledger().note(running.name, [failure], kind=sweeps.OVERRAN)


def _cancel(running: _Running) -> None:
    with running.ending:  # it can't end meanwhile: the statement that is cancelled is its own, and no later work's
        connection = running.own or running.django.connection
        if connection is None or running.is_over:
            return
        log.warning("a job is far over its budget: its statement is cancelled", job=running.name)
        try:
            connection.cancel_safe(timeout=CANCEL_WITHIN_S)
        except psycopg.Error as error:
            log.warning("the statement can't be cancelled", job=running.name, error=str(error))
