"""`/healthz` and `/readyz`: what this process, Postgres, the store and the broker say within two seconds.

Neither waits for the pool of connections: Postgres is asked over a connection of its own, and the pool is tried from a
thread of its own, as a request would.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import psycopg
from django.db import connection
from django.http import HttpRequest, JsonResponse
from psycopg_pool import ConnectionPool

from workflows import this_process
from workflows.selectors.health_checks import broker_answers, database_answers, store_answers, workers_alive

Result = TypeVar("Result")
PATIENCE_S = 1.5
"""A check that takes longer has failed: the answer comes within two seconds."""
REUSE_S = 0.5
"""Callers within this get the same answer."""
WEDGED_S = 20.0
"""Liveness fails when for so long no request could get a connection although Postgres answers."""


async def healthz(_: HttpRequest) -> JsonResponse:
    """Whether this process can serve: 503 when a restart would help. Postgres' absence is no reason."""
    status, body = await alive()
    return JsonResponse(body, status=status)


async def readyz(_: HttpRequest) -> JsonResponse:
    """Whether to send requests here: 503 with what is missing.

    Postgres, a free connection of this process, the store and the broker answer, and a worker was seen lately.
    """
    status, body = await ready()
    return JsonResponse(body, status=status)


async def alive() -> tuple[int, dict[str, Any]]:
    """Status and body of `/healthz`."""
    wedged_s = await this_process.own(_Checks).liveness.result()
    if wedged_s < WEDGED_S:
        return 200, {"status": "ok"}
    detail = f"No request could get a connection to Postgres for {wedged_s:.0f} s, although Postgres answers."
    return 503, {"status": "wedged", "detail": detail}


async def ready() -> tuple[int, dict[str, Any]]:
    """Status and body of `/readyz`."""
    checks = await this_process.own(_Checks).readiness.result()
    return 200 if all(checks.values()) else 503, {"ready": all(checks.values()), "checks": checks}


class Shared(Generic[Result]):
    """A check that callers at about the same moment share, so that nobody can make it run often."""

    def __init__(self, check: Callable[[], Coroutine[Any, Any, Result]]) -> None:
        self._check = check
        self._tasks: dict[asyncio.AbstractEventLoop, tuple[float, asyncio.Task[Result]]] = {}

    async def result(self) -> Result:
        """What the check under way gives, or the last one gave a moment ago, or a new one."""
        loop = asyncio.get_running_loop()
        began, task = self._tasks.get(loop, (0.0, None))
        if task is None or (task.done() and time.monotonic() - began > REUSE_S):
            self._tasks = {known: each for known, each in self._tasks.items() if not known.is_closed()}
            task = loop.create_task(self._check())
            self._tasks[loop] = time.monotonic(), task
        return await asyncio.shield(task)


class Liveness:
    """Since when the process's connections have served nobody."""

    def __init__(self) -> None:
        self._served, self._served_at = -1, time.monotonic()

    async def wedged_s(self) -> float:
        """Seconds for which no request could get a connection although Postgres answers; 0 while all is well."""
        free, answers = await asyncio.gather(in_thread(connection_is_free), in_time(database_answers(), False))
        served = _served()
        if free or not answers or served > self._served:
            self._served, self._served_at = served, time.monotonic()
            return 0.0
        return time.monotonic() - self._served_at


async def readiness() -> dict[str, bool]:
    """What must answer before a request does: by name, whether it answers."""
    workers, free, store, broker = await asyncio.gather(
        in_time(workers_alive(), None),
        in_thread(connection_is_free),
        in_thread(store_answers),
        in_thread(broker_answers),
    )
    database = workers is not None
    return {
        "database": database,
        "connections": free,
        "store": store,
        "broker": broker,
        "workers": bool(workers),
    }


class _Checks:
    """The checks of this process, and those that were late and are waited for by nobody."""

    def __init__(self) -> None:
        self.liveness, self.readiness = Shared(Liveness().wedged_s), Shared(readiness)
        self.abandoned: set[asyncio.Future[Any]] = set()


async def in_time(check: Awaitable[Result], otherwise: Result) -> Result:
    """The check's result, or `otherwise` where there is none in time.

    A check that is late is not waited for: where Postgres is cut off, psycopg needs seconds to be cancelled.
    """
    task = asyncio.ensure_future(check)
    done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
    if not done:
        task.cancel()
        this_process.own(_Checks).abandoned.add(task)
        task.add_done_callback(_forget)
        return otherwise
    return otherwise if task.exception() else task.result()


def _forget(task: asyncio.Future[Any]) -> None:
    this_process.own(_Checks).abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # nobody else asks for it


async def in_thread(check: Callable[[], bool]) -> bool:
    """The check's result, from a thread of its own as a request has; False without a result in time or a thread."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="health")
    try:
        return await in_time(asyncio.get_running_loop().run_in_executor(executor, check), False)
    except RuntimeError:  # no more threads
        return False
    finally:
        executor.shutdown(wait=False)


def connection_is_free() -> bool:
    """Whether a request would get a connection to Postgres within a second."""
    pool = _pool()
    if pool is None:
        return True  # each request opens its own
    try:
        pool.open()
        with pool.connection(timeout=1.0):
            return True
    except psycopg.Error:
        return False


def _served() -> int:
    """How often the pool has given out a connection; at most, while somebody waits for one."""
    pool = _pool()
    stats = pool.get_stats() if pool else {}
    return stats.get("requests_num", 0) - stats.get("requests_errors", 0) - stats.get("requests_waiting", 0)


def _pool() -> ConnectionPool[Any] | None:
    pool: ConnectionPool[Any] | None = getattr(connection, "pool", None)
    return pool
