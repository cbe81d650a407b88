"""When keys were used last: noted in memory, written by a thread, at most once a minute for a key.

No request waits for it, and none fails with it. A process that ends may lose the last second of notes.
"""

from __future__ import annotations

import threading
import time

import structlog
from django.db import connections

from workflows import this_process
from workflows.engine.sql import services as sql

log = structlog.get_logger(__name__)
EVERY_S = 60.0
GATHER_S = 1.0
"""What comes within it is written by one statement."""
MOST_KEYS = 20_000


class KeyUses:
    """The uses that this process has to write."""

    def __init__(self) -> None:
        self._noted: dict[str, float] = {}
        self._waiting: set[str] = set()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def note(self, digest: str) -> None:
        """The key of this digest, which is in force, is used now."""
        now = time.monotonic()
        if now - self._noted.get(digest, -EVERY_S) < EVERY_S:
            return
        with self._wake:
            if len(self._noted) >= MOST_KEYS:
                self._noted.clear()
            self._noted[digest] = now
            self._waiting.add(digest)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="key-uses", daemon=True)
                self._thread.start()
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting:
                    self._wake.wait()
            time.sleep(GATHER_S)
            try:
                self.write()
            except Exception as error:  # it is a hint for people: the next use is noted again
                log.warning("uses of keys can't be noted", error=str(error)[:200])
            finally:
                connections.close_all()

    def write(self) -> None:
        """Write what was noted."""
        with self._wake:
            digests, self._waiting = sorted(self._waiting), set()
        if digests:
            sql.note_key_uses(digests=digests)

    def drop(self) -> None:
        """Write no more of what was noted until now: the database goes away."""
        with self._wake:
            self._waiting = set()


def note_use(digest: str) -> None:
    """The key of this digest, which is in force, is used now."""
    this_process.own(KeyUses).note(digest)
