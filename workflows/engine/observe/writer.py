"""Writes the observations of this process, on a thread and a connection of its own, and deletes old ones."""

from __future__ import annotations

import atexit
import json
import random
import threading
import time
from collections.abc import Callable

import psycopg
import structlog
from django.db import DataError, IntegrityError

from workflows import this_process
from workflows.definitions.compiled import NIL_UUID
from workflows.engine.observe import switch
from workflows.engine.observe.buffer import Buffer, Seen
from workflows.engine.sql import observed as sql
from workflows.engine.state import database, sealed
from workflows.models import Organization

log = structlog.get_logger(__name__)
FLUSH_S = 0.5
AGAIN_S = 5.0
GROUP = 500
IDLE_S = 30.0
"""A process that sees no task for so long gives its connection up."""
_REFUSED = (psycopg.DataError, psycopg.IntegrityError, DataError, IntegrityError)
TIDY_S = 300.0
TIDY_BATCH = 2_000
STOP_WITHIN_S = 2.0


class TaskOfThread(threading.local):
    """The task that a thread gives to the broker, or runs, and the time (seconds of the epoch) since which it does."""

    task_id: object = None
    at: float = 0.0


class Observer:
    """The buffer of this process, and the thread that empties it, which starts with the first observation."""

    def __init__(self) -> None:
        self.buffer = Buffer()
        self.sending = TaskOfThread()
        self.running = TaskOfThread()
        self.says = switch.read()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._is_away = False
        self._tidy_at = time.monotonic() + TIDY_S * random.uniform(0.1, 1.0)
        self._chores: list[Callable[[], None]] = []

    def start(self) -> None:
        """Have the thread run. Cheap where it does."""
        if self._thread is None:
            with self._lock:
                self._start()

    def _start(self) -> None:
        if self._thread is None and not self._stopping.is_set():
            self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
            self._thread.start()
            atexit.register(self.stop)

    def add_chore(self, chore: Callable[[], None]) -> None:
        """Have something done now and then, by the same thread."""
        self._chores.append(chore)
        self.start()

    def stop(self) -> None:
        """Write what is left, for two seconds at most."""
        self._stopping.set()
        self.buffer.arrived.set()
        if self._thread is not None:
            self._thread.join(STOP_WITHIN_S)

    def _run(self) -> None:
        database.adopt()
        pause_s = FLUSH_S
        while not self._stopping.wait(pause_s):
            if not self.buffer.arrived.wait(IDLE_S):
                database.close()
            self.buffer.arrived.clear()
            pause_s = FLUSH_S if self._write() else AGAIN_S
            if not self._is_away and time.monotonic() > self._tidy_at:
                self._tidy_at = time.monotonic() + TIDY_S
                self._tidy()
            for chore in self._chores:
                self._guarded(chore)
        self._write()
        database.close()

    def _write(self) -> bool:
        """Write all that was seen until now. False where the database does not take it."""
        while True:
            seen, dropped = self.buffer.take(GROUP)
            if not seen and not dropped:
                return True
            try:
                self._store(seen)
                if dropped:
                    sql.count_dropped(dropped=dropped)
                self._is_away = False
            except Exception as error:  # whatever it is: nobody's task depends on it
                if not self._is_away:
                    log.warning("observed tasks can't be written", error=f"{type(error).__name__}: {error}")
                self._is_away = True
                self.buffer.put_back(seen, dropped)
                database.close()
                return False

    def _store(self, seen: list[Seen]) -> None:
        """One that can't be stored is dropped, and takes no other along."""
        if not seen:
            return
        try:
            rows = [each.as_json() for each in seen]
            if self._hides():
                rows = [{**row, "arguments": "", "message": ""} for row in rows]
            sql.store_observations(seen=json.dumps(rows), org=self.says.org)
        except _REFUSED as error:
            if len(seen) == 1:
                log.info("an observed task can't be stored", error=str(error))
                self.buffer.drop()
                return
            middle = len(seen) // 2
            self._store(seen[:middle])
            self._store(seen[middle:])

    def _hides(self) -> bool:
        """Whether what tasks are given, and what they say, is a payload of an organization that encrypts those."""
        if sealed.is_off_for_all():
            return False
        with database.borrowed_from_django():
            found = Organization.objects.filter(slug=self.says.org).values_list("id", flat=True).first()
        return sealed.is_on(found or NIL_UUID)

    def _tidy(self) -> None:
        def forget() -> None:
            while (
                len(sql.forget_observed(keep_s=self.says.keep_s, most=self.says.most, batch=TIDY_BATCH)) == TIDY_BATCH
            ):
                if self._stopping.is_set():
                    return
            sql.forget_drops(keep_s=self.says.keep_s)

        self._guarded(forget)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            log.info("observed tasks can't be looked after", error=f"{type(error).__name__}: {error}")


def observer() -> Observer:
    """That of this process."""
    return this_process.own(Observer)
