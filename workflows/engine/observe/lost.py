"""Finds observed tasks that are lost: by evidence of the broker only. Without it nothing is said; a screen shows a task
of which nothing was heard for long as `unknown`.

The evidence, twice in a row: the broker is Redis, and the task is in no list of its queue and not among the messages
that were taken and not acknowledged; a task that was sent later to the same queue was started; each worker that
consumes the queue observes too; and none of them has the task.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from celery import Celery

from workflows.engine.sql import observed as sql

EVERY_S = 60.0
AFTER_S = 60.0
OBSERVED_WITHIN_S = 3_600.0
BATCH = 500
MOST_MESSAGES = 10_000
"""A longer queue is not read: of its tasks nothing is said."""
ANSWER_S = 1.0


class Search:
    """Of the main process of a worker."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._at = time.monotonic() + EVERY_S
        self._missing: set[str] = set()

    def look_now_and_then(self) -> None:
        """Look once a minute."""
        if time.monotonic() > self._at:
            self._at = time.monotonic() + EVERY_S
            self.look()

    def look(self, after_s: float = AFTER_S) -> list[str]:
        """Look once. Returns the tasks that are lost for sure, which are marked."""
        by_queue: dict[str, list[str]] = defaultdict(list)
        for row in sql.never_started(after_s=after_s, batch=BATCH):
            by_queue[row.queue].append(row.id)
        missing = self._missing_of(by_queue) if by_queue else set()
        lost, self._missing = missing & self._missing, missing
        if lost:
            sql.mark_lost(ids=sorted(lost))
        return sorted(lost)

    def _missing_of(self, by_queue: dict[str, list[str]]) -> set[str]:
        with self._app.connection_for_write() as connection:
            channel = connection.default_channel
            if not hasattr(channel, "unacked_key"):
                return set()  # no Redis: there is no way to look into its queues
            inspect = self._app.control.inspect(timeout=ANSWER_S, connection=connection)
            consumers: dict[str, set[str]] = defaultdict(set)
            for worker, queues in (inspect.active_queues() or {}).items():
                for queue in queues:
                    consumers[queue["name"]].add(worker)
            observing = {row.hostname for row in sql.observing_workers(within_s=OBSERVED_WITHIN_S)}
            sure = {name: ids for name, ids in by_queue.items() if consumers[name] and consumers[name] <= observing}
            ids = {id_ for each in sure.values() for id_ in each}
            held = {id_ for tasks in (inspect.query_task(*ids) or {}).values() for id_ in tasks} if ids else set()
            taken = _unacknowledged(channel)
            if taken is None:
                return set()
            found: set[str] = set()
            for queue, waiting in sure.items():
                there = _in_queue(channel, queue)
                if there is not None:
                    found |= set(waiting) - there
            return found - taken - held


def _in_queue(channel: Any, queue: str) -> set[str] | None:
    """The ids of the tasks in a queue. None where there are too many to read."""
    found: set[str] = set()
    with channel.conn_or_acquire() as client:
        for step in channel.priority_steps:
            messages = client.lrange(channel._q_for_pri(queue, step), 0, MOST_MESSAGES)
            if len(messages) > MOST_MESSAGES:
                return None
            found |= _ids(messages)
    return found


def _unacknowledged(channel: Any) -> set[str] | None:
    """The ids of the tasks that some worker has taken and not acknowledged. None where there are too many to read."""
    with channel.conn_or_acquire() as client:
        if client.hlen(channel.unacked_key) > MOST_MESSAGES:
            return None
        return _ids(client.hvals(channel.unacked_key))


def _ids(messages: Iterable[Any]) -> set[str]:
    found = set()
    for message in messages:
        try:
            decoded = json.loads(message)
            content = decoded[0] if isinstance(decoded, list) else decoded
            found.add(str(content["headers"]["id"]))
        except (ValueError, KeyError, TypeError, IndexError):
            continue
    return found
