"""Looks for the ends of Celery tasks that no message has told of here: in the rows, where another process has stored
them, and in the application's result backend."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import psycopg
import structlog
from celery.backends.base import DisabledBackend, KeyValueStoreBackend

from workflows.engine.celery_tasks import ends
from workflows.engine.celery_tasks.ends import End, ToldEnd
from workflows.engine.celery_tasks.user_app import user_app
from workflows.engine.celery_tasks.watching import Watched, Watching
from workflows.engine.state import database

log = structlog.get_logger(__name__)
ROWS_S = 0.5
BACKEND_S = 3.0
BACKEND_AFTER_S = 2.0
"""A younger task has just been sent: its message comes before."""
MOST_AT_ONCE = 200
UNTOLD = ("rpc", "amqp")
"""Backends whose results only the sender of a task can read, once."""


class Looker:
    """On a thread and a connection of its own."""

    def __init__(self, watching: Watching) -> None:
        self._watching = watching
        self._backend_at = 0.0
        self._place = 0
        self._is_away = False

    def work(self) -> None:
        """Look until the watch stops."""
        database.adopt()
        while not self._watching.wait(ROWS_S):
            watches = self._watching.watches()
            if not watches:
                continue
            try:
                self._watching.wake([watch.task.task_id for watch in watches])
                if time.monotonic() > self._backend_at:
                    self._backend_at = time.monotonic() + BACKEND_S
                    self._watching.store(self._of_backend(watches))
                self._is_away = False
            except psycopg.Error as error:
                log.warning("ends of Celery tasks can't be read", error=str(error))
            except Exception as error:  # whatever a backend raises
                if not self._is_away:
                    log.warning("the result backend can't be read", error=f"{type(error).__name__}: {error}")
                self._is_away = True
        database.close()

    def _of_backend(self, watches: Sequence[Watched]) -> list[ToldEnd]:
        """The ends that the backend has. Of many tasks some are looked at, and the next ones the next time."""
        backend = _backend()
        if backend is None:
            return []
        now = time.monotonic()
        old = [watch for watch in watches if watch.is_sent and now - watch.since > BACKEND_AFTER_S]
        self._place = self._place + MOST_AT_ONCE if self._place + MOST_AT_ONCE < len(old) else 0
        some = old[self._place : self._place + MOST_AT_ONCE]
        told = []
        for watch, meta in zip(some, _metas(backend, [watch.task.task_id for watch in some]), strict=True):
            end: End | None = ends.of_meta(meta, wants_output=watch.task.config.output) if meta else None
            if end is not None:
                told.append(ToldEnd(watch.task.task_id, end, "backend"))
        return told


def end_of(task_id: str) -> End | None:
    """The end of a task that the backend has. None where it has none."""
    backend = _backend()
    meta = _metas(backend, [task_id])[0] if backend is not None else None
    return ends.of_meta(meta, wants_output=True) if meta else None


def _backend() -> Any:
    """The app's result backend. None where there is none that another process than the sender can read."""
    backend: Any = user_app().backend
    return None if isinstance(backend, DisabledBackend) or backend.as_uri().startswith(UNTOLD) else backend


def _metas(backend: Any, ids: Sequence[str]) -> list[Any]:
    """What the backend has of each task; None where it has nothing, or what can't be read."""
    if isinstance(backend, KeyValueStoreBackend) and ids:
        raw = backend.mget([backend.get_key_for_task(id_) for id_ in ids])
        return [_decoded(backend, each) for each in raw]
    return [_fetched(backend, id_) for id_ in ids]


def _decoded(backend: Any, raw: Any) -> Any:
    try:
        return backend.decode_result(raw) if raw else None
    except Exception as error:  # an exception of a class that only the worker has, say
        log.info("a stored result can't be read", error=f"{type(error).__name__}: {error}")
        return None


def _fetched(backend: Any, task_id: str) -> Any:
    return backend.get_task_meta(task_id, cache=False)
