"""How steps that became ready are dispatched: by the calling thread, or by the dispatcher thread after a commit.

The engine's own work (the leader's, say) dispatches at once. Work after a commit hands its steps to the thread, so that
an answer never depends on the broker.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar

import structlog
from django.db import transaction

from workflows import this_process
from workflows.engine.pipeline import hints, publish
from workflows.engine.state import database
from workflows.engine.state.records import ReadyStep
from workflows.engine.worker import vital

log = structlog.get_logger(__name__)
MAX_WAITING = 50_000
"""Steps that wait for the thread: what one transaction may enqueue one by one, with room for others."""
MAX_GROUPED = 500
STOP_WITHIN_S = 2.0
_somebody_waits = ContextVar("somebody_waits", default=False)


class Dispatcher:
    """One per process. Its background thread dispatches after commits.

    What comes while it publishes forms the next group: single triggers in quick succession travel together.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        """`at_once`: the calling thread dispatches, whatever waits for it. There is no background thread then."""
        self._at_once = at_once
        self._queue: queue.SimpleQueue[Sequence[ReadyStep] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._hinted = threading.Event()
        self._waiting = 0
        self._is_full = False
        self._pid = os.getpid()

    def start(self, steps: Sequence[ReadyStep]) -> None:
        """Dispatch steps that became ready: by the thread in work after a commit, else at once."""
        if _somebody_waits.get():
            self.submit(steps)
        else:
            publish.dispatch(steps)

    def submit(self, steps: Sequence[ReadyStep]) -> None:
        """Hand steps over; they are published within a moment, or by rescue."""
        if self._at_once:
            publish.dispatch(steps)
            return
        self._ensure_thread()
        if self._has_room(len(steps)):
            self._queue.put(steps)

    def _has_room(self, count: int) -> bool:
        """Count steps as waiting; False, with a word at the first of them, where too many do already."""
        with self._lock:
            was_full, self._is_full = self._is_full, self._waiting >= MAX_WAITING
            if not self._is_full:
                self._waiting += count
        if self._is_full and not was_full:
            log.warning("too many steps wait for the broker; rescue will publish what comes now", waiting=MAX_WAITING)
        return not self._is_full

    def hint(self) -> None:
        """Send a hint to the leader, by the thread: the caller does not wait for the store."""
        if self._at_once:
            hints.send()
        else:
            self._hinted.set()
            self.submit(())

    def _ensure_thread(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = vital.start("dispatcher", self._run)
                atexit.register(self.stop)

    def stop(self) -> None:
        """Finish what was handed over (for two seconds at most), and end the thread with its connection."""
        if self._pid != os.getpid():
            return  # a fork of the process has the object, and not the thread
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(timeout=STOP_WITHIN_S)

    def _run(self) -> None:
        database.adopt()
        while True:
            groups = [self._queue.get()]
            while len(groups) < MAX_GROUPED and not self._queue.empty():
                groups.append(self._queue.get())
            steps = [step for group in groups if group is not None for step in group]
            with self._lock:
                self._waiting -= len(steps)
            try:
                if steps:
                    publish.dispatch(steps)
                if self._hinted.is_set():
                    self._hinted.clear()
                    hints.send()
            except BaseException:
                log.exception("dispatch failed; rescue will publish", steps=len(steps))
            if None in groups:
                database.close()
                return


def start(steps: Sequence[ReadyStep]) -> None:
    """Dispatch steps that became ready, by this process's dispatcher."""
    this_process.own(Dispatcher).start(steps)


def start_after_commit(steps: Sequence[ReadyStep]) -> None:
    """Dispatch steps that the open transaction makes ready, by the thread, once it is committed."""
    after_commit(lambda: start(steps))


def hint_after_commit() -> None:
    """Send a hint to the leader once the open transaction is committed: it stores a timer that is due soon."""
    after_commit(this_process.own(Dispatcher).hint)


def after_commit(work: Callable[[], object]) -> None:
    """Do work of the engine after the commit. The steps that it makes ready are dispatched by the thread: a caller that
    waits for the commit does not wait for the broker."""

    def do() -> None:
        token = _somebody_waits.set(True)
        try:
            work()
        finally:
            _somebody_waits.reset(token)

    transaction.on_commit(do, robust=True)
