"""The Celery app of somebody else: with a broker, a result backend and tasks of its own, and nothing of Headrace.

Each task writes what it does into SHOP_LOG, a line for each thing, so that tests see what really was executed. With
SHOP_WITH_HEADRACE=1 Django is set up with Headrace among its apps, as in a project that has installed it.
"""

from __future__ import annotations

import datetime as dt
import os
import signal
import time
import uuid
from pathlib import Path
from typing import Any

from celery import Celery, Task, signals
from celery.exceptions import Ignore, Reject

app = Celery(
    "shop",
    set_as_current="SHOP_BROKER" in os.environ,
    broker=os.environ.get("SHOP_BROKER"),
    backend=os.environ.get("SHOP_BACKEND") or None,
)
app.conf.update(
    task_default_queue="shop",
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": int(os.environ.get("SHOP_VISIBILITY_S", "3600")),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
    task_routes={"shop.parcel": {"queue": "shop.parcels"}},
)


@signals.worker_ready.connect(weak=False)
def _say_ready(sender: Any = None, **_: Any) -> None:
    with Path(os.environ["SHOP_LOG"]).open("a") as log:
        log.write(f"worker {sender.hostname} ready {os.getpid()}\n")


def note(task: Task[Any, Any], what: str) -> None:
    """Add a line: the task's name and id, and what it does."""
    with Path(os.environ["SHOP_LOG"]).open("a") as log:
        log.write(f"{task.name} {task.request.id} {what} {os.getpid()}\n")


@app.task(bind=True, name="shop.add")
def add(self: Task[Any, Any], a: int, b: int) -> int:
    note(self, "runs")
    return a + b


@app.task(bind=True, name="shop.parcel")
def parcel(self: Task[Any, Any], size: str) -> dict[str, Any]:
    note(self, "runs")
    return {
        "size": size,
        "queue": self.request.delivery_info["routing_key"],
        "priority": self.request.delivery_info["priority"],
    }


@app.task(bind=True, name="shop.silent", ignore_result=True)
def silent(self: Task[Any, Any]) -> int:
    note(self, "runs")
    return 7


@app.task(bind=True, name="shop.fails")
def fails(self: Task[Any, Any], how: str = "value") -> None:
    note(self, "runs")
    if how == "final":
        from workflows.errors import NonRetriable

        raise NonRetriable("no such order")
    raise ValueError("a bad value")


@app.task(bind=True, name="shop.flaky", autoretry_for=(ConnectionError,), retry_backoff=False, default_retry_delay=0,
          max_retries=3)  # fmt: skip
def flaky(self: Task[Any, Any], failures: int) -> int:
    note(self, "runs")
    if self.request.retries < failures:
        raise ConnectionError("the bank is away")
    return int(self.request.retries)


@app.task(bind=True, name="shop.again", max_retries=5)
def again(self: Task[Any, Any]) -> int:
    note(self, "runs")
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task(bind=True, name="shop.replaced")
def replaced(self: Task[Any, Any], how: str) -> Any:
    note(self, "runs")
    if how == "group":
        raise self.replace(add.s(1, 1) | add.s(10))
    raise self.replace(add.s(2, 3))


@app.task(bind=True, name="shop.ignored")
def ignored(self: Task[Any, Any]) -> None:
    note(self, "runs")
    raise Ignore


@app.task(bind=True, name="shop.rejected", acks_late=True)
def rejected(self: Task[Any, Any], requeue: bool) -> str:
    note(self, "runs")
    seen = Path(os.environ["SHOP_LOG"]).read_text().count(f"{self.request.id} runs")
    if not requeue or seen == 1:
        raise Reject("not for us", requeue=requeue)
    return "the second time"


@app.task(bind=True, name="shop.sleeps")
def sleeps(self: Task[Any, Any], seconds: float) -> str:
    note(self, "runs")
    time.sleep(seconds)
    note(self, "ends")
    return "slept"


@app.task(bind=True, name="shop.sleeps_late", acks_late=True)
def sleeps_late(self: Task[Any, Any], seconds: float) -> str:
    note(self, "runs")
    seen = Path(os.environ["SHOP_LOG"]).read_text().count(f"{self.request.id} runs")
    if seen == 1:
        time.sleep(seconds)
    note(self, "ends")
    return f"delivered {seen} times"


@app.task(bind=True, name="shop.dies")
def dies(self: Task[Any, Any]) -> None:
    note(self, "runs")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True, name="shop.too_long", soft_time_limit=1)
def too_long(self: Task[Any, Any]) -> None:
    note(self, "runs")
    time.sleep(30)


@app.task(bind=True, name="shop.returns")
def returns(self: Task[Any, Any], what: str) -> Any:
    note(self, "runs")
    return {
        "object": object(),
        "large": "x" * (5 * 1024 * 1024),
        "time": {"at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "id": uuid.UUID(int=1)},
    }[what]
