"""The thread that matches stored events: what is stored while it matches forms the next group."""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Sequence
from uuid import UUID

import structlog
from django.db import connections

from workflows.engine.events import matching
from workflows.engine.worker import vital

log = structlog.get_logger(__name__)
GROUP = 500
MOST_WAITING = 100_000
"""Ids that a process keeps; beyond, events are left to rescue."""
STOP_WITHIN_S = 2.0


class Matcher:
    """One per process. Its thread has a connection while it matches."""

    def __init__(self) -> None:
        self._ids: deque[UUID] = deque()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._pid = os.getpid()

    def submit(self, ids: Sequence[UUID]) -> None:
        """Have stored events matched within a moment, or by rescue."""
        if not ids:
            return
        with self._wake:
            if len(self._ids) + len(ids) > MOST_WAITING:
                log.warning("too many events wait to be matched; rescue will match them", events=len(ids))
                return
            self._ids.extend(ids)
            if self._thread is None:
                self._thread = vital.start("matcher", self._run)
                atexit.register(self.stop)
            self._wake.notify()

    def stop(self) -> None:
        """Match what was handed over (for two seconds at most), and end the thread."""
        if self._pid != os.getpid():
            return  # a fork of the process has the object, and not the thread
        with self._wake:
            thread, self._thread, self._stopping = self._thread, None, True
            self._wake.notify()
        if thread is not None:
            thread.join(timeout=STOP_WITHIN_S)

    def _run(self) -> None:
        while ids := self._next():
            try:
                matching.match(ids)
            except Exception:
                log.exception("events are not matched now; rescue will match them", events=len(ids))
            finally:
                connections.close_all()

    def _next(self) -> list[UUID]:
        with self._wake:
            while not self._ids and not self._stopping:
                self._wake.wait()
            return [self._ids.popleft() for _ in range(min(GROUP, len(self._ids)))]
