"""The thread that matches stored events: what is stored while it matches forms the next group."""

from __future__ import annotations

import atexit
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
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
        self._waiting: OrderedDict[UUID, deque[UUID]] = OrderedDict()
        self._count = 0
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._pid = os.getpid()

    def submit(self, events: Mapping[UUID, Sequence[UUID]]) -> None:
        """Have stored events, by organization, matched within a moment, or by rescue."""
        count = sum(map(len, events.values()))
        if not count:
            return
        with self._wake:
            if self._count + count > MOST_WAITING:
                log.warning("too many events wait to be matched; rescue will match them", events=count)
                return
            for org_id, ids in events.items():
                self._waiting.setdefault(org_id, deque()).extend(ids)
            self._count += count
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
        """The next group: of each organization an equal share, so that none waits for all events of another."""
        with self._wake:
            while not self._waiting and not self._stopping:
                self._wake.wait()
            group: list[UUID] = []
            share = max(1, GROUP // max(1, len(self._waiting)))
            for org_id in list(self._waiting)[:GROUP]:
                ids = self._waiting.pop(org_id)
                group += [ids.popleft() for _ in range(min(share, len(ids)))]
                if ids:
                    self._waiting[org_id] = ids
            self._count -= len(group)
        return group
