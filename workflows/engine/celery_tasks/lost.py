"""Finds out that the worker of a Celery task is gone, and the task with it: only with evidence, else the step waits.

The evidence: a worker process has said that it had the task; it has not answered for three rounds (or another process
answers in its name); the queue of the task is empty; and the broker does not deliver it again (`acks_late`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog

from workflows.engine.celery_tasks import ends
from workflows.engine.celery_tasks.ends import ToldEnd
from workflows.engine.celery_tasks.user_app import connect, user_app
from workflows.engine.celery_tasks.watching import Watched, Watching
from workflows.engine.state import database
from workflows.errors import Category

log = structlog.get_logger(__name__)
ROUND_S = 10.0
ANSWER_S = 1.0
ROUNDS = 3
MOST_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The worker process that said that it had a task, and for how many rounds it has not said so since."""

    worker: str
    pid: int
    silent: int = 0


class Inspector:
    """Asks the application's workers, on a thread of its own."""

    def __init__(self, watching: Watching) -> None:
        self._watching = watching
        self._holders: dict[str, Holder] = {}

    def work(self) -> None:
        """Ask every ten seconds while tasks are watched that are as old."""
        database.adopt()
        while not self._watching.wait(ROUND_S):
            now = time.monotonic()
            old = [each for each in self._watching.watches() if each.is_sent and now - each.since > ROUND_S]
            self._holders = {id_: h for id_, h in self._holders.items() if id_ in {each.task.task_id for each in old}}
            try:
                if old:
                    self._watching.store(self.look(old[:MOST_AT_ONCE]))
            except psycopg.Error as error:
                log.warning("lost Celery tasks can't be noted", error=str(error))
            except Exception as error:  # whatever a transport raises: no evidence
                log.info("the application's workers can't be asked", error=f"{type(error).__name__}: {error}")
        database.close()

    def look(self, watches: Sequence[Watched]) -> list[ToldEnd]:
        """Ask once. Returns the ends of tasks that are lost for sure."""
        app = user_app()
        with connect(app.connection_for_write) as connection:
            inspect = app.control.inspect(timeout=ANSWER_S, connection=connection)
            pids = {name: int(stats.get("pid") or 0) for name, stats in (inspect.stats() or {}).items()}
            found = inspect.query_task(*[watch.task.task_id for watch in watches]) or {}
            self.note([watch.task.task_id for watch in watches], found, pids)
            suspects = [
                watch for watch in watches
                if (holder := self._holders.get(watch.task.task_id)) and holder.silent >= ROUNDS
                and not watch.task.is_redelivered
            ]  # fmt: skip
            empty = _empty_queues(connection, {watch.task.queue for watch in suspects})
        return [_lost(watch, self._holders[watch.task.task_id]) for watch in suspects if watch.task.queue in empty]

    def note(self, task_ids: Iterable[str], found: Mapping[str, Mapping[str, Any]], pids: Mapping[str, int]) -> None:
        """Remember who has which task. `found`: by worker, the tasks that it has; `pids`: of those that answer."""
        having = {task_id: worker for worker, tasks in found.items() for task_id in tasks or {}}
        for task_id in task_ids:
            worker, holder = having.get(task_id), self._holders.get(task_id)
            if worker is not None and worker in pids:
                self._holders[task_id] = Holder(worker=worker, pid=pids[worker])
            elif holder is not None and pids.get(holder.worker) != holder.pid:
                self._holders[task_id] = Holder(worker=holder.worker, pid=holder.pid, silent=holder.silent + 1)


def _empty_queues(connection: Any, names: Iterable[str]) -> set[str]:
    """Those of the queues that the broker says are empty."""
    empty = set()
    for name in names:
        try:
            if name and connection.default_channel.queue_declare(queue=name, passive=True).message_count == 0:
                empty.add(name)
        except connection.channel_errors:
            empty.add(name)  # there is no such queue: it holds nothing
    return empty


def _lost(watch: Watched, holder: Holder) -> ToldEnd:
    said = (
        f"The worker {holder.worker} (process {holder.pid}) had the Celery task and is gone; its queue is empty, and "
        "without acks_late the broker does not deliver it again. Give the step a retry, or replay it, if it may be "
        "executed twice."
    )
    return ToldEnd(watch.task.task_id, ends.failure("TaskLost", said, Category.TRANSIENT), "inspection")
