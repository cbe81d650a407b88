"""Natural batching: a thread writes what waits for it, and what comes meanwhile forms the next group.

Nobody waits for company: alone, a request is written at once. Under load the groups grow as long as writing takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar
from uuid import UUID

import psycopg
import structlog

from workflows.engine.state import database
from workflows.engine.worker import ending, vital

log = structlog.get_logger(__name__)
MOST_WAITING = 1_024
"""Requests that a process keeps in memory for a kind of writing."""
MOST_BYTES = 32 * 1024 * 1024
GROUP_SIZE = 2_000
STUCK_AFTER_S = 2.0
"""A group that takes longer is held up by Postgres; what comes then goes another way."""

Outcome = list[UUID] | psycopg.Error | None
"""What becomes of a request: the ids of what is stored; the error where Postgres went away meanwhile, so that nobody
knows; None where it has to be answered in the ordinary way, since nothing of it is stored."""


class Weighed(Protocol):
    """What may wait: how many rows it makes, and about how much memory it takes."""

    @property
    def count(self) -> int: ...
    @property
    def size(self) -> int: ...
    def leave(self) -> None:
        """Have it answered in the ordinary way, where it is not settled yet."""


Item = TypeVar("Item", bound=Weighed)


class Groups(Generic[Item]):
    """Writes items in groups, in the order in which they come, by a thread with a connection of its own."""

    def __init__(self, name: str, write: Callable[[Sequence[Item]], None]) -> None:
        """`write` settles every item of a group; what it has not settled where it fails is left."""
        self._name, self._write = name, write
        self._waiting: list[Item] = []
        self._bytes = 0
        self._began: float | None = None
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def take(self, item: Item) -> bool:
        """Have it written with the next group. False where that can't be now: too much waits, or Postgres does not
        answer."""
        with self._wake:
            if len(self._waiting) >= MOST_WAITING or self._bytes + item.size > MOST_BYTES or self._is_stuck():
                return False
            self._waiting.append(item)
            self._bytes += item.size
            if self._thread is None:
                self._thread = vital.start(self._name, self._run)
            self._wake.notify()
        return True

    def _is_stuck(self) -> bool:
        return self._began is not None and time.monotonic() - self._began > STUCK_AFTER_S

    def _run(self) -> None:
        database.adopt()
        while True:
            group = self._next()
            try:
                self._write(group)
            except BaseException as error:
                ending.raise_if_ending(error)
                log.exception("a group fails", what=self._name, requests=len(group))
                for item in group:
                    item.leave()

    def _next(self) -> list[Item]:
        with self._wake:
            self._began = None
            while not self._waiting:
                self._wake.wait()
            rows = end = 0
            while end < len(self._waiting) and (end == 0 or rows + self._waiting[end].count <= GROUP_SIZE):
                rows += self._waiting[end].count
                end += 1
            group, self._waiting = self._waiting[:end], self._waiting[end:]
            self._bytes -= sum(item.size for item in group)
            self._began = time.monotonic()
        return group
