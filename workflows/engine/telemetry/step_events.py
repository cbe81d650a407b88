"""Celery's task events about steps, for Flower and other monitors: each step is a task of its type.

A step has no Celery task of its own: it may share a message with others, or be continued without any. So the engine
sends the events itself: `task-received`, `task-started`, then `task-succeeded`, `task-failed`, `task-retried` or
`task-revoked`. The task's id is the step run's: another try is the same task.

The threads that perform steps only add to a bounded buffer. Another thread, with a connection of its own, sends the
events, many to a message. While the broker is away they are kept, and dropped when the buffer is full: nothing depends
on them.
"""

from __future__ import annotations

import atexit
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

import structlog
from celery.events.event import get_exchange
from django.db import connections
from kombu.messaging import Producer

from workflows import this_process
from workflows.engine.state import flow_cache
from workflows.engine.state.records import Claim, StepResult
from workflows.models import Worker
from workflows.steps.outcome import Failed, Retry
from workflows.steps.registry import IO_QUEUE
from workflows.this_process.celery_app import app
from workflows.this_process.configuration import configuration

log = structlog.get_logger(__name__)
MAX_BUFFERED = 20_000
MAX_MESSAGE = 500
FLUSH_S = 0.2
RETRY_S = 2.0
SAY_AGAIN_S = 60.0
STOP_WITHIN_S = 2.0
LOOK_AGAIN_S = 10.0
quoted = json.encoder.encode_basestring_ascii
MAX_CHARACTERS = 200
"""Of a result or an error: what is masked already is cut here."""


class StepEvent(NamedTuple):
    """One event about a step, as it waits to be sent: it holds on to no payload."""

    kind: str
    at: float
    claim: Claim
    flow: str = ""
    """Its slug, where the event says what the step is."""
    text: str = ""
    runtime_s: float = 0.0

    def as_json(self, hostname: str) -> str:
        """The event as Celery's protocol has it, written by hand: there may be ten thousand in a second. (The receiver
        gives it a clock.) `hostname`: as JSON."""
        claim = self.claim
        what = ""
        if self.flow:
            args = quoted(repr((self.flow, str(claim.run_id), claim.key)))
            kwargs = quoted(repr({"path": claim.path})) if claim.path else '"{}"'
            what = f',"name":{quoted(claim.type)},"args":{args},"kwargs":{kwargs},"retries":{claim.attempt - 1}'
        if self.kind == "succeeded":
            what += f',"result":{quoted(self.text)},"runtime":{self.runtime_s}'
        elif self.kind in {"failed", "retried"}:
            what += f',"exception":{quoted(self.text)},"traceback":""'
        elif self.kind == "revoked":
            terminated = "true" if self.text == "cancelled" else "false"
            what += f',"terminated":{terminated},"signum":null,"expired":false'
        return f'{{"type":"task-{self.kind}","uuid":"{claim.id}","timestamp":{self.at},"hostname":{hostname}{what}}}'


class Sender:
    """The buffer, and the thread that empties it. Its methods never wait for the broker, and never raise."""

    def __init__(self, hostname: Callable[[], str], *, connect: Callable[[], Any] | None = None) -> None:
        """`hostname`: the Celery worker in whose name events are sent; empty where there is none (they are dropped).
        `connect`: makes the connection to the broker; one of Celery's, unless given."""
        self.dropped = 0
        self._hostname, self._new_connection = hostname, connect or app.connection_for_write
        self._buffer: deque[StepEvent] = deque()
        self._connection: Any = None
        self._producer: Any = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._stopping = threading.Event()
        self._is_away = False
        self._said = (0, -SAY_AGAIN_S)

    def add(self, events: Iterable[StepEvent]) -> None:
        """Hand events over. Where the buffer is full they are dropped, and counted."""
        if self._thread is None:
            self._start()
        more = list(events)
        room = max(0, MAX_BUFFERED - len(self._buffer))
        self.dropped += max(0, len(more) - room)
        self._buffer.extend(more[:room])
        if not self._arrived.is_set():
            self._arrived.set()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="step events", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Send what is left, for two seconds at most, and end the thread."""
        self._stopping.set()
        self._arrived.set()
        if self._thread is not None:
            self._thread.join(STOP_WITHIN_S)

    def _run(self) -> None:
        pause_s = FLUSH_S
        while self._arrived.wait() and not self._stopping.wait(pause_s):
            self._arrived.clear()
            is_sent = self._flush()
            if not is_sent:
                self._arrived.set()
            pause_s = FLUSH_S if is_sent else RETRY_S
        self._flush()
        self._disconnect()

    def _flush(self) -> bool:
        """Send what has come until now. False where the broker does not take it: it is kept then."""
        try:
            while self._buffer:
                self._send([self._buffer[at] for at in range(min(len(self._buffer), MAX_MESSAGE))])
        except Exception as error:  # whatever it is: nobody's step depends on it
            self._disconnect()
            if not self._is_away:
                log.warning("step events can't be sent, monitors see less", error=f"{type(error).__name__}: {error}")
            self._is_away = True
            return False
        if self._is_away:
            log.info("step events are sent again", dropped=self.dropped)
        elif self.dropped > self._said[0] and time.monotonic() > self._said[1] + SAY_AGAIN_S:
            log.warning("more step events came than could be sent", dropped=self.dropped)
            self._said = (self.dropped, time.monotonic())
        self._is_away = False
        return True

    def _send(self, events: list[StepEvent]) -> None:
        hostname = self._hostname()
        if hostname:
            name = quoted(hostname)
            if self._producer is None:
                self._connect()
            self._producer.publish(
                f"[{','.join([event.as_json(name) for event in events])}]",
                content_type="application/json",
                content_encoding="utf-8",
                routing_key="task.multi",
                headers={"hostname": hostname},
                declare=[self._producer.exchange],
                delivery_mode=1,
                retry=False,
            )
        for _ in events:
            self._buffer.popleft()

    def _connect(self) -> None:
        """A connection that is in no pool: nobody waits for it, and it waits for nobody."""
        self._connection = self._new_connection()
        exchange = get_exchange(self._connection, name=app.conf.event_exchange)
        make: Any = Producer  # it is untyped
        self._producer = make(self._connection.channel(), exchange=exchange, auto_declare=False)

    def _disconnect(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        try:
            if connection is not None:
                connection.release()
        except Exception as error:
            log.debug("the connection for step events can't be closed", error=str(error))


class Monitors:
    """What tells monitors of the steps of this process: nothing until it starts, and after it stops."""

    def __init__(self) -> None:
        self.sender: Sender | None = None


def start(hostname: str) -> None:
    """From now on this process, which belongs to the Celery worker of that name, tells monitors of its steps."""
    if configuration().step_events:
        this_process.own(Monitors).sender = Sender(lambda: hostname)


def start_beside_workers() -> None:
    """The same for the web, where steps that wait end: its events bear the name of an I/O worker, since monitors would
    take it for another worker."""
    if configuration().step_events:
        this_process.own(Monitors).sender = Sender(_Lately().hostname)
        atexit.register(stop)


def stop() -> None:
    """Send what is left; nothing is sent afterwards."""
    monitors = this_process.own(Monitors)
    sender, monitors.sender = monitors.sender, None
    if sender is not None:
        sender.stop()


class _Lately:
    """The I/O worker that reported last, looked up again after some seconds."""

    def __init__(self) -> None:
        self._name, self._until = "", 0.0

    def hostname(self) -> str:
        if time.monotonic() > self._until:
            try:
                rows = Worker.objects.filter(queues__contains=[IO_QUEUE]).order_by("-seen_at")
                self._name = hostname_of(rows.values_list("name", flat=True).first() or "")
            finally:
                connections.close_all()
            self._until = time.monotonic() + LOOK_AGAIN_S
        return self._name


def hostname_of(worker_name: str) -> str:
    """The Celery worker's name in that of a process of it (`<worker>@<host>@<host>:<pid>`)."""
    return worker_name.rpartition("@")[0]


def received(claims: Iterable[tuple[Claim, str]]) -> None:
    """These steps, of the flows with these slugs, were claimed, however they came here. (One that wakes is a task
    already.)"""
    sender = this_process.own(Monitors).sender
    if sender is not None:
        now = time.time()
        sender.add([StepEvent("received", now, claim, flow) for claim, flow in claims if _is_new(claim)])


def started(claim: Claim) -> None:
    """The step's handler begins."""
    sender = this_process.own(Monitors).sender
    if sender is not None and _is_new(claim):
        sender.add((StepEvent("started", time.time(), claim),))


def _is_new(claim: Claim) -> bool:
    return claim.wake_seq == 0 or claim.attempt > 1


def ended(results: Iterable[StepResult], statuses: Mapping[UUID, str]) -> None:
    """Tell of recorded outcomes; `statuses`: the status that each step has now. A step that sleeps, waits or was handed
    back ends no task."""
    sender = this_process.own(Monitors).sender
    if sender is not None:
        now, clock = time.time(), time.monotonic()
        events = []
        for result in results:
            status = statuses.get(result.claim.id)
            kind = _KINDS.get(status or "")
            if status == "waiting" and isinstance(result.outcome, Retry):
                kind = "retried"
            if status is not None and kind is not None:
                events.append(_of_end(result, kind, status, now, clock))
        sender.add(events)


_KINDS = {"completed": "succeeded", "failed": "failed", "skipped": "revoked", "cancelled": "revoked"}


def _of_end(result: StepResult, kind: str, status: str, now: float, clock: float) -> StepEvent:
    claim, outcome = result.claim, result.outcome
    text = status
    if kind == "succeeded":
        text = _short(result.output or "null")
    elif isinstance(outcome, Failed | Retry):
        text = _short(f"{outcome.error.name}: {outcome.error.message}")
    elif kind == "failed":
        text = "The outcome was refused: look at the run."
    runtime_s = max(0.0, clock - result.started) if result.started is not None else 0.0
    is_known = claim.lease is not None and claim.wake_seq == 0  # by an event of a moment ago
    return StepEvent(kind, now, claim, "" if is_known else flow_cache.slug_of(claim.version_id), text, runtime_s)


def _short(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"
