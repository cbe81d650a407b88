"""Tasks of an application, as it has them: nothing in here is of Headrace, but for `task_options`."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from types import FunctionType
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.dispatch import receiver

from tests.support.django_tasks.names import TaskContext, task, task_finished, task_started
from workflows.django_tasks import task_options
from workflows.models import Organization


def log_path() -> Path:
    return Path(os.environ["HEADRACE_VAR_DIR"]) / "tasks.log"


def log(line: str) -> None:
    """Append a line to the log of effects."""
    handle = os.open(log_path(), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, f"{line}\n".encode())
    finally:
        os.close(handle)


def lines(mark: str) -> list[str]:
    """What was logged with a mark, without it."""
    found = log_path().read_text().splitlines() if log_path().exists() else []
    return [line.removeprefix(f"{mark} ") for line in found if line.startswith(f"{mark} ")]


@task
def add(left: int, right: int = 0) -> int:
    return left + right


@task
def echo(*args: Any, **kwargs: Any) -> Any:
    return {"args": args, "kwargs": kwargs}


@task
def note(mark: str, what: str = "ran") -> None:
    log(f"{mark} {what}")


@task
async def add_async(left: int, right: int = 0) -> int:
    await asyncio.sleep(0)
    return left + right


@task
async def counts_organizations_async(slug: str) -> list[Any]:
    """Uses the ORM and a thread of its own, and says which threads these were."""
    count = await Organization.objects.filter(slug=slug).acount()
    name = await sync_to_async(lambda: threading.current_thread().name)()
    return [count, name, threading.current_thread().name]


@task
def counts_organizations(slug: str) -> int:
    return Organization.objects.filter(slug=slug).count()


@task
def fails(message: str = "no") -> None:
    raise ValueError(message)


class Odd(Exception):
    """An error of the application."""


@task
def fails_oddly() -> None:
    error = Odd("this is odd")
    error.add_note("a note beside it")
    raise error


@task(takes_context=True)
def fails_at_first(context: TaskContext, mark: str, until: int) -> list[Any]:
    result = context.task_result
    log(f"{mark} {context.attempt} {len(result.worker_ids)} {len(result.errors)} {result.status}")
    if context.attempt < until:
        raise ValueError(f"try {context.attempt}")
    return [result.id, context.attempt, result.worker_ids]


@task
def returns_no_json() -> Any:
    return object()


@task
def exits() -> None:
    raise SystemExit("this task leaves")


@task(takes_context=True)
def holds(context: TaskContext, mark: str, seconds: float = 30.0) -> list[str]:
    log(f"{mark} begun")
    time.sleep(seconds)
    log(f"{mark} ended")
    return context.task_result.worker_ids


@task(takes_context=True)
def waits_for_cancel(context: Any, mark: str) -> None:
    context.progress(50, "half")
    log(f"{mark} begun")
    for _ in range(3_000):
        context.check_cancelled()
        time.sleep(0.01)


@task
async def waits_for_cancel_async(mark: str) -> None:
    log(f"{mark} begun")
    try:
        await asyncio.sleep(60)
    finally:
        log(f"{mark} ended")


@task
def where() -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return [os.getpid(), threading.current_thread().name]


@task
@task_options(throttling={"concurrency": 1}, timeout="20s")
def one_at_a_time(mark: str) -> None:
    log(f"{mark} begin")
    time.sleep(0.05)
    log(f"{mark} end")


@task
@task_options(throttling={"concurrency": 1})
def in_turn(mark: str, what: str, seconds: float = 0.0) -> None:
    log(f"{mark} {what}")
    time.sleep(seconds)


@task
def fails_with_its_like() -> None:
    raise ValueError(ValueError("within"))


@task_options(idempotency="string(input.args[0])")
@task
def once(order: str) -> str:
    return order


@task_options(concurrency={"limit": 0})
@task
def badly_set() -> None: ...


def plain_function() -> None:
    """No task any more."""


def function_at(module: str, name: str) -> Any:
    """A function that says it is defined there."""
    made = FunctionType(plain_function.__code__, globals(), name)
    made.__module__, made.__qualname__ = module, name
    return made


@receiver(task_started)
def _log_start(task_result: Any, **_: Any) -> None:
    if task_result.kwargs.get("mark"):
        log(f"signal-{task_result.kwargs['mark']} started {task_result.status} {len(task_result.worker_ids)}")


@receiver(task_finished)
def _log_finish(task_result: Any, **_: Any) -> None:
    if task_result.kwargs.get("mark"):
        log(f"signal-{task_result.kwargs['mark']} finished {task_result.status} {len(task_result.worker_ids)}")
