"""Hears of the ends of Celery tasks: consumes the queue into which the application's workers put them.

Any process that watches may take a message: it stores the end in the row of the task, and acknowledges after that. The
process that watches the task itself reads it there.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import psycopg
import structlog
from kombu.messaging import Consumer

from workflows.engine.celery_tasks import ends, looking
from workflows.engine.celery_tasks.ends import ToldEnd
from workflows.engine.celery_tasks.user_app import connect, end_queue, user_app
from workflows.engine.celery_tasks.watching import Watching
from workflows.engine.state import database

log = structlog.get_logger(__name__)
DRAIN_S = 1.0
MAX_GROUP = 200
AGAIN_S = 2.0
VAGUE_FOR_S = 1.0
"""So long a better reason is waited for, after a message that only says that a task has failed."""


class Listener:
    """On a thread and connections of its own."""

    def __init__(self, watching: Watching) -> None:
        self._watching = watching
        self._taken: list[Any] = []
        self._vague: list[tuple[float, ToldEnd]] = []
        self._is_away = False

    def work(self) -> None:
        """Listen until the watch stops. Where the broker is away, again in a moment."""
        database.adopt()
        while not self._watching.is_stopping:
            try:
                self._listen()
            except Exception as error:  # whatever a transport raises
                if not self._is_away:
                    log.warning("ends of Celery tasks are not heard", error=f"{type(error).__name__}: {error}")
                self._is_away = True
                self._watching.wait(AGAIN_S)
        database.close()

    def _listen(self) -> None:
        self._taken = []
        app = user_app()
        with connect(app.connection_for_read, acknowledges=True) as connection:
            make: Any = Consumer  # it is untyped
            consumer = make(
                connection.channel(), queues=[app.amqp.queues[end_queue()]], accept=["json"],
                on_message=self._taken.append, prefetch_count=MAX_GROUP,
            )  # fmt: skip
            with consumer:
                self._is_away = False
                while not self._watching.is_stopping:
                    self._take(connection)
                    self._record()

    def _take(self, connection: Any) -> None:
        """Wait for a message, and take those that have come with it."""
        patience_s = DRAIN_S if not self._vague else 0.2
        while len(self._taken) < MAX_GROUP and not self._watching.is_stopping:
            try:
                connection.drain_events(timeout=patience_s)
                patience_s = 0.002
            except TimeoutError:
                return

    def _record(self) -> None:
        """Store what was taken, then acknowledge. While Postgres is away, messages wait in the broker."""
        messages, self._taken[:] = list(self._taken), []
        now = time.monotonic()
        told = [end for message in messages if (end := _read(message)) is not None]
        self._vague += [(now + VAGUE_FOR_S, end) for end in told if end.is_vague]
        due = [_in_full(end) for at, end in self._vague if at <= now]
        self._vague = [(at, end) for at, end in self._vague if at > now]
        precise = [end for end in told if not end.is_vague]
        if precise or due:
            try:
                self._watching.store([*precise, *due])
            except psycopg.Error as error:
                log.warning("ends of Celery tasks can't be stored", tasks=len(precise), error=str(error))
                self._vague += [(now, end) for end in due]
                for message in messages:
                    with contextlib.suppress(Exception):
                        message.requeue()
                self._watching.wait(AGAIN_S)
                return
        for message in messages:
            message.ack()


def _in_full(vague: ToldEnd) -> ToldEnd:
    """The end as the result backend has it, where it has; else as it was told."""
    try:
        end = looking.end_of(vague.task_id)
    except Exception as error:  # whatever a backend raises
        log.info("the result backend can't be read", error=f"{type(error).__name__}: {error}")
        end = None
    return vague if end is None else ToldEnd(vague.task_id, end, "backend")


def _read(message: Any) -> ToldEnd | None:
    try:
        found = ends.of_message(message.payload)
    except Exception as error:  # it must not come again and again
        log.warning("a message in the queue of ends can't be read", error=f"{type(error).__name__}: {error}")
        return None
    if found is None:
        log.info("a message in the queue of ends is none of ours", headers=sorted(message.headers or {})[:10])
    return found
