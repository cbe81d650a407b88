"""One look at Postgres for all live streams of a process.

A stream is a subscription: what it has not sent yet, at most `QUEUE_BYTES`. While there is any, one thread looks for
changes once per `LOOK_S`, for all of them together, and gives its connection back between looks. Without subscriptions
there is no thread and nothing is looked at.

Subscriptions to the same run or organization share the state of one source. One that comes later, or from an earlier
message, has a source of its own until that has caught up.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from django.db import DatabaseError, connections

from workflows.edge.unavailable import CONNECTION_ERRORS
from workflows.streams.changes import OrganizationStream, RunStream
from workflows.streams.holders import Holder, revoked
from workflows.streams.rows import read_attempts, read_organizations, read_runs

log = structlog.get_logger(__name__)
Source = RunStream | OrganizationStream

LOOK_S = 0.4
"""Seconds from one look to the next."""
FIRST_LOOK_S = 0.05
"""A stream that has just begun waits so long for its first look, together with others that begin."""
LONGEST_PAUSE_S = 5.0
"""While Postgres does not answer, looks become rarer up to this."""
RECHECK_S = 5.0
"""Streams whose key was revoked or whose session has ended, end within this and a look."""
QUEUE_BYTES = 512 * 1024
"""A reader that is further behind is cut; it comes back with the id of the last message that it had."""
RETRY = b"retry: 1000\n\n"


class Subscription:
    """What one reader has not sent yet. `wake` is called from the hub's thread when there is something to take."""

    def __init__(self, holder: Holder, wake: Callable[[], None]) -> None:
        self.holder = holder
        self._wake = wake
        self._lock = threading.Lock()
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self.is_over = False

    def put(self, chunk: bytes, *, over: bool = False) -> None:
        """Add messages. A reader that has not taken the last ones and would have too many is cut."""
        with self._lock:
            if self.is_over:
                return
            if self._chunks and self._bytes + len(chunk) > QUEUE_BYTES:
                self._chunks.clear()
                chunk, self._bytes, over = RETRY, 0, True
            if chunk:
                self._chunks.append(chunk)
                self._bytes += len(chunk)
            self.is_over = over
        if chunk or over:
            self._wake()

    def cut(self) -> None:
        """End it; the reader may come back after a second."""
        self.put(RETRY, over=True)

    def take(self) -> tuple[bytes, bool]:
        """Everything that there is to send, and whether that was the last."""
        with self._lock:
            chunk = b"".join(self._chunks)
            self._chunks.clear()
            self._bytes = 0
            return chunk, self.is_over


@dataclass(kw_only=True, eq=False)
class Reader:
    """A source and those who get its messages."""

    source: Source
    subscriptions: list[Subscription] = field(default_factory=list)

    @property
    def topic(self) -> tuple[type, UUID]:
        return type(self.source), self.source.subject

    def hand_out(self, chunk: bytes) -> None:
        for subscription in self.subscriptions:
            subscription.put(chunk, over=self.source.is_over)

    def cut(self) -> None:
        self.source.is_over = True
        for subscription in self.subscriptions:
            subscription.cut()


class Hub:
    """The subscriptions of a process, and the thread that looks for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._arrivals: list[Reader] = []
        self._readers: list[Reader] = []
        self._thread: threading.Thread | None = None
        self._rechecked = 0.0
        self.looks = 0

    def follow(self, source: Source, holder: Holder, wake: Callable[[], None]) -> Subscription:
        """A subscription to what the source tells from now on; give it to `leave` at its end."""
        subscription = Subscription(holder, wake)
        with self._lock:
            self._arrivals.append(Reader(source=source, subscriptions=[subscription]))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="stream-hub", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no more threads
                    self._arrivals.pop()
                    raise
                self._thread = thread
        self._arrived.set()
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """Nothing more is put into it."""
        with self._lock:
            for readers in (self._arrivals, self._readers):
                for reader in readers:
                    if subscription in reader.subscriptions:
                        reader.subscriptions = [each for each in reader.subscriptions if each is not subscription]
                        break

    @property
    def is_looking(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None

    @property
    def subscriptions(self) -> int:
        with self._lock:
            return sum(len(reader.subscriptions) for reader in (*self._arrivals, *self._readers))

    def _run(self) -> None:
        pause_s = LOOK_S
        try:
            while self._admit():
                started = time.monotonic()
                pause_s = LOOK_S if self._look() else min(2 * pause_s, LONGEST_PAUSE_S)
                if self._arrived.wait(max(0.0, started + pause_s - time.monotonic())):
                    time.sleep(FIRST_LOOK_S)
        except BaseException:
            self._give_up()
            raise

    def _admit(self) -> bool:
        """Take the arrivals in and drop the readers without subscriptions; False, and no thread, where none is left."""
        with self._lock:
            self._arrived.clear()
            everybody = [*self._readers, *self._arrivals]
            self._readers = [each for each in everybody if each.subscriptions and not each.source.is_over]
            self._arrivals = []
            if not self._readers:
                self._thread = None
            return bool(self._readers)

    def _give_up(self) -> None:
        """The thread dies: every reader comes back, and with the first of them a new thread."""
        with self._lock:
            left, self._readers, self._arrivals, self._thread = [*self._readers, *self._arrivals], [], [], None
        for reader in left:
            reader.cut()

    def _look(self) -> bool:
        """Look for all readers; False where Postgres did not answer."""
        self.looks += 1
        try:
            if time.monotonic() - self._rechecked >= RECHECK_S:
                self._recheck()
            self._hand_out(self._readers)
            self._share()
        except CONNECTION_ERRORS as error:
            log.warning("the streams could not be served from Postgres; trying again", error=str(error)[:200])
            return False
        except Exception:
            return self._look_one_by_one()
        finally:
            with contextlib.suppress(DatabaseError, *CONNECTION_ERRORS):
                connections.close_all()
        return True

    def _look_one_by_one(self) -> bool:
        """After a look that failed: those that fail by themselves are cut, the others go on.

        False where Postgres did not answer.
        """
        for reader in self._readers:
            try:
                self._hand_out([reader])
            except CONNECTION_ERRORS as error:
                log.warning("the streams could not be served from Postgres; trying again", error=str(error)[:200])
                return False
            except Exception:
                log.exception("a stream was cut: its rows can't be told", subject=str(reader.source.subject))
                reader.cut()
        return True

    def _hand_out(self, readers: Iterable[Reader]) -> None:
        runs = [(each, each.source) for each in readers if isinstance(each.source, RunStream)]
        organizations = [(each, each.source) for each in readers if isinstance(each.source, OrganizationStream)]
        if runs:
            rows = read_runs({source.run_id for _, source in runs})
            changed = {step for _, source in runs for step in source.changed(rows[source.run_id])}
            attempts = read_attempts(rows.keys(), changed)
            for reader, run in runs:
                reader.hand_out(b"".join(each.encode() for each in run.take(rows[run.run_id], attempts)))
        if organizations:
            found = read_organizations([source.window for _, source in organizations])
            for (reader, organization), changes in zip(organizations, found, strict=True):
                reader.hand_out(b"".join(each.encode() for each in organization.take(changes)))

    def _share(self) -> None:
        """Readers of the same topic that have caught up become one."""
        first: dict[tuple[type, UUID], Reader] = {}
        with self._lock:
            for reader in self._readers:
                if reader.source.is_over or reader.source.is_behind:
                    continue
                shared = first.setdefault(reader.topic, reader)
                if shared is not reader:
                    shared.source.continue_from(reader.source)  # type: ignore[arg-type]
                    shared.subscriptions = [*shared.subscriptions, *reader.subscriptions]
                    reader.subscriptions = []

    def _recheck(self) -> None:
        """End the streams whose holders may read no more."""
        with self._lock:
            open_ = [each for reader in self._readers for each in reader.subscriptions]
        self._rechecked = time.monotonic()
        holders = {each.holder for each in open_}
        try:
            ended = revoked(holders)
        except CONNECTION_ERRORS:
            raise
        except Exception:  # nobody reads on unchecked; those who may come back
            log.exception("the keys and sessions of the streams could not be checked: all were cut")
            ended = holders
        for subscription in open_:
            if subscription.holder in ended:
                subscription.cut()
