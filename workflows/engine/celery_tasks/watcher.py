"""The watch over the Celery tasks of this process's steps: a few threads, however many tasks there are.

One thread makes the rows and sends the tasks, and revokes those that are not wanted any more; one hears of ends
(`listening.py`); one reads the ends that others have heard of, and looks at the result backend (`looking.py`); one asks
the application's workers whether they still have what they had (`lost.py`). A step's handler awaits two futures
meanwhile, on the event loop that all handlers share.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import psycopg
import structlog

from workflows import this_process
from workflows.definitions.compiled import NIL_UUID
from workflows.engine.celery_tasks import ends, sending
from workflows.engine.celery_tasks.ends import End, ToldEnd
from workflows.engine.celery_tasks.listening import Listener
from workflows.engine.celery_tasks.looking import Looker
from workflows.engine.celery_tasks.lost import Inspector
from workflows.engine.celery_tasks.sending import Sending
from workflows.engine.celery_tasks.user_app import connect, user_app
from workflows.engine.sql import celery_tasks as sql
from workflows.engine.state import database, sealed
from workflows.engine.worker import vital
from workflows.errors import Category, StepFailure
from workflows.sealing import shapes
from workflows.steps.context import StepContext

log = structlog.get_logger(__name__)
MAX_GROUP = 200
SEND_AGAIN_S = 2.0
DOUBTFUL_S = 5.0
"""A task whose row says that it is being sent may be on its way from a worker that has just handed it back."""
LATE_SEND_S = 5.0
"""A thread that was held up for so long looks again whether another has sent the task, before it sends it."""
STOP_WITHIN_S = 2.0


class Watch:
    """The watch of one task, by one visit of its step. Made on the event loop."""

    def __init__(self, watcher: Watcher, context: StepContext, task: Sending) -> None:
        self._loop = asyncio.get_running_loop()
        self._watcher = watcher
        self.begun: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[End] = self._loop.create_future()
        self.age_s = 0.0
        """Since the task was first to be sent, when its watch began."""
        self.task = task
        self.since = time.monotonic()
        self.row = {
            "task_id": task.task_id,
            "step_run_id": str(context.step_run_id),
            "org_id": str(context.org_id),
            "run_id": str(context.run_id),
            "name": task.config.task,
        }
        self.is_sent = False
        self.is_closed = False

    def begin(self, age_s: float) -> None:
        """The row is there: the step's time counts from when it was made. From any thread."""
        self._call(partial(self._begin, age_s))

    def end(self, end: End) -> None:
        """The task has ended. From any thread."""
        self._call(partial(self._end, end))

    def revoke(self, reason: str) -> None:
        """Nobody wants the task any more."""
        self.is_closed = True
        self._watcher.revoke(self, reason)

    def close(self) -> None:
        """The visit of the step is over."""
        self.is_closed = True
        self._watcher.forget(self)

    def _call(self, work: partial[None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(work)

    def _begin(self, age_s: float) -> None:
        if not self.begun.done():
            self.age_s = age_s
            self.begun.set_result(None)

    def _end(self, end: End) -> None:
        self._begin(self.age_s)
        if not self.ended.done():
            self.ended.set_result(end)


class _Wish(NamedTuple):
    """What the sending thread is to do: send the task of a watch, or revoke one."""

    watch: Watch
    revokes: str = ""
    not_before: float = 0.0
    is_doubtful: bool = False


class Watcher:
    """The watches of this process, and their threads, which begin with the first of them."""

    def __init__(self) -> None:
        self._watches: dict[str, Watch] = {}
        self._wishes: queue.SimpleQueue[_Wish | None] = queue.SimpleQueue()
        self._later: list[_Wish] = []
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._connection: Any = None
        self._producer: Any = None

    # --- for handlers, on the event loop ---

    def watch(self, context: StepContext) -> Watch:
        """Have the task of a step sent, unless it is, and watch it."""
        told = f".{context.server_retry_waits}" if context.server_retry_waits else ""
        task = Sending(task_id=f"{context.step_run_id}-{context.attempt}{told}", config=context.config)
        watch = Watch(self, context, task)
        with self._lock:
            self._watches[task.task_id] = watch
            if not self._threads and not self._stopping.is_set():
                self._start()
        self._wishes.put(_Wish(watch))
        return watch

    def revoke(self, watch: Watch, reason: str) -> None:
        """Have a task revoked."""
        self._wishes.put(_Wish(watch, revokes=reason))

    def forget(self, watch: Watch) -> None:
        """Watch a task no more, unless another visit does."""
        with self._lock:
            if self._watches.get(watch.task.task_id) is watch:
                del self._watches[watch.task.task_id]

    # --- for the other threads ---

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait; true where the process ends."""
        return self._stopping.wait(seconds)

    def watches(self) -> list[Watch]:
        """Those that wait for ends, as they are now."""
        with self._lock:
            return list(self._watches.values())

    def store(self, told: Sequence[ToldEnd]) -> None:
        """Store ends, and wake the steps that wait for them here. Raises psycopg.Error."""
        if not told:
            return
        sql.end_tasks(ends=json.dumps(_rows_of(told)))
        self.wake([each.task_id for each in told])

    def wake(self, task_ids: Iterable[str]) -> None:
        """Give the ends that are stored to the steps that wait here: of several ends of a task the first counts."""
        with self._lock:
            mine = [id_ for id_ in task_ids if id_ in self._watches]
        if not mine:
            return
        for row in sql.ended_among(ids=mine):
            with self._lock:
                watch = self._watches.get(row.task_id)
            if watch is not None:
                watch.end(row.end)

    def _start(self) -> None:
        listener, looker, inspector = Listener(self), Looker(self), Inspector(self)
        self._threads = [
            vital.start("celery tasks", self._work),
            vital.start("celery task ends", listener.work),
            vital.start("celery task looks", looker.work),
            vital.start("celery task inspector", inspector.work),
        ]

    def stop(self) -> None:
        """End the threads; what is under way goes on in the application's workers."""
        self._stopping.set()
        self._wishes.put(None)
        for thread in self._threads:
            thread.join(STOP_WITHIN_S)

    # --- the sending thread ---

    def _work(self) -> None:
        database.adopt()
        while not self._stopping.is_set():
            wishes = self._next()
            try:
                if wishes:
                    self._do(wishes)
            except psycopg.Error as error:
                log.warning("Celery tasks can't be begun now", tasks=len(wishes), error=str(error))
                self._put_off([wish._replace(not_before=time.monotonic() + SEND_AGAIN_S) for wish in wishes])
            except Exception as error:
                log.exception("Celery tasks can't be begun", tasks=len(wishes))
                self._fail([wish.watch for wish in wishes if not wish.revokes], error)
        self._disconnect()
        database.close()

    def _next(self) -> list[_Wish]:
        """Wait for something to do. Returns it with what has come meanwhile, and what is due again."""
        found: list[_Wish] = []
        now = time.monotonic()
        due = min((wish.not_before for wish in self._later), default=now + 1.0)
        with contextlib.suppress(queue.Empty):
            wish = self._wishes.get(timeout=max(0.0, min(due - now, 1.0)))
            while wish is not None:
                found.append(wish)
                if len(found) >= MAX_GROUP:
                    break
                wish = self._wishes.get_nowait()
        now = time.monotonic()
        found += [wish for wish in self._later if wish.not_before <= now]
        self._later = [wish for wish in self._later if wish.not_before > now]
        return [wish for wish in found if wish.revokes or not wish.watch.is_closed]

    def _put_off(self, wishes: Iterable[_Wish]) -> None:
        self._later += wishes

    def _do(self, wishes: Sequence[_Wish]) -> None:
        self._revoke([wish.watch for wish in wishes if wish.revokes])
        by_id = {wish.watch.task.task_id: wish for wish in wishes if not wish.revokes}
        if not by_id:
            return
        rows = sql.begin_tasks(tasks=json.dumps([wish.watch.row for wish in by_id.values()]))
        looked_at, to_send = time.monotonic(), []
        for row in rows:
            wish = by_id[row.task_id]
            wish.watch.begin(row.age_s)
            if row.state == "ended":
                wish.watch.end(row.end)
            elif row.state == "sent":
                wish.watch.is_sent = True
            elif row.is_new or wish.is_doubtful:
                to_send.append(wish)
            else:
                self._put_off([wish._replace(is_doubtful=True, not_before=looked_at + DOUBTFUL_S)])
        self._send(to_send, looked_at)

    def _send(self, wishes: Sequence[_Wish], looked_at: float) -> None:
        sent: list[Watch] = []
        try:
            for position, wish in enumerate(wishes):
                if time.monotonic() > looked_at + LATE_SEND_S:  # this process was held up
                    self._put_off([each._replace(is_doubtful=True) for each in wishes[position:]])
                    return
                try:
                    sending.send(wish.watch.task, self._open_producer())
                    sent.append(wish.watch)
                except sending.BROKER_AWAY as error:
                    log.warning("a Celery task can't be sent yet", task_id=wish.watch.task.task_id, error=str(error))
                    self._disconnect()
                    again = time.monotonic() + SEND_AGAIN_S
                    self._put_off([each._replace(is_doubtful=True, not_before=again) for each in wishes[position:]])
                    return
                except StepFailure as error:
                    self._fail([wish.watch], error)
        finally:
            if sent:
                sql.mark_sent(ids=[watch.task.task_id for watch in sent])
                for watch in sent:
                    watch.is_sent = True

    def _fail(self, watches: Sequence[Watch], error: BaseException) -> None:
        end = ends.of_exception(error)
        told = [ToldEnd(watch.task.task_id, end, "sender") for watch in watches]
        try:
            self.store(told)
        except psycopg.Error as away:
            log.warning("the end of a task can't be stored", tasks=len(told), error=str(away))
            for watch in watches:
                watch.end(end)

    def _revoke(self, watches: Sequence[Watch]) -> None:
        if not watches:
            return
        end = ends.failure("TaskRevoked", "Headrace has revoked the task.", Category.BUSINESS)
        for terminate in (True, False):
            ids = [watch.task.task_id for watch in watches if watch.task.config.terminate is terminate]
            if ids:
                revoke(ids, terminate=terminate)
        self.store([ToldEnd(watch.task.task_id, end, "revoked") for watch in watches])

    def _open_producer(self) -> Any:
        if self._producer is None:
            app = user_app()
            self._connection = connect(app.connection_for_write)
            self._producer = app.amqp.Producer(self._connection.default_channel, auto_declare=False)
        return self._producer

    def _disconnect(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.release()


def revoke(task_ids: Sequence[str], *, terminate: bool) -> None:
    """Tell the application's workers to drop tasks, and with `terminate` to end the processes that execute them. Raises
    nothing: a worker that does not hear it executes them to their end."""
    try:
        app = user_app()
        with connect(app.connection_for_write) as connection:
            app.control.revoke(list(task_ids), terminate=terminate, signal="SIGTERM", connection=connection)
    except Exception as error:
        log.warning("tasks can't be revoked", tasks=len(task_ids), error=f"{type(error).__name__}: {error}")


def watch(context: StepContext) -> Watch:
    """Have the task of a step sent, unless it is, and watch it (`Tools.watch`)."""
    return this_process.own(Watcher).watch(context)


def stop() -> None:
    """Watch nothing any more."""
    this_process.own(Watcher).stop()
    this_process.forget(Watcher)


def _rows_of(told: Sequence[ToldEnd]) -> list[dict[str, Any]]:
    """The ends as they are stored: sealed where the organization of the task wants it. The statement leaves out tasks
    that no step has sent."""
    owners = {}
    if not sealed.is_off_for_all():
        owners = {row.task_id: row.org_id for row in sql.task_owners(ids=[each.task_id for each in told])}
    return [
        {
            "task_id": each.task_id,
            "end": sealed.shaped(each.end, owners.get(each.task_id, NIL_UUID), shapes.task_end),
            "by": each.by,
        }
        for each in told
    ]
