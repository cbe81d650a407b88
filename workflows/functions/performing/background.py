"""The threads and the event loop that visits use beside their own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connections

from workflows import this_process
from workflows.engine.state import database
from workflows.engine.worker import bootstep
from workflows.engine.worker.bootstep import NoRuntime

ENGINE_THREADS = 4


class EngineThreads(ThreadPoolExecutor):
    """For what async flows ask of the engine: it waits for Postgres and for the gate."""

    def __init__(self) -> None:
        super().__init__(max_workers=ENGINE_THREADS, thread_name_prefix="calls", initializer=database.adopt)


class UserThreads(ThreadPoolExecutor):
    """For blocking steps of async flows."""

    def __init__(self) -> None:
        super().__init__(max_workers=bootstep.IO_THREADS, thread_name_prefix="step")


def engine_threads() -> EngineThreads:
    """This process's threads for the engine."""
    return this_process.own(EngineThreads)


def user_threads() -> UserThreads:
    """This process's threads for blocking steps of async flows."""
    return this_process.own(UserThreads)


def with_connections_closed(work: Any, *args: Any) -> Any:
    """Call it in a thread of the pool, and give back the connections that Django has opened for it."""
    try:
        return work(*args)
    finally:
        connections.close_all()


def result_of(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns, for a thread: it runs on the worker's event loop, where there is one."""
    try:
        loop = bootstep.current().loop
    except NoRuntime:
        return asyncio.run(work)
    return loop.result_of(work)
