"""Flows in Python for the tests: what they do is told to files, by which a test sees how often that was."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from workflows.errors import NonRetriable
from workflows.functions import Event, ReceivedEvent, Step, StepFailed, flow


def tell(directory: str, what: str) -> str:
    """Note an effect in a directory of the test's."""
    Path(directory, f"{what}.{time.time_ns()}").touch()
    return what


def told(directory: Path, what: str) -> int:
    """How often an effect has happened."""
    return len(list(directory.glob(f"{what}.*")))


class Order(BaseModel):
    sku: str
    quantity: int


class Charge(BaseModel):
    id: str
    cents: int


@flow("code-chain", on=Event("code/chain"))
def chain(event: ReceivedEvent, step: Step) -> Any:
    """Five steps, one after the other."""
    total = 0
    for number in range(event.data.get("steps", 5)):
        total += step.run(f"add-{number}", lambda number=number: number + 1)
    return {"total": total, "now": step.now().isoformat(), "uuid": str(step.uuid()), "random": step.random().random()}


@flow("code-effects", retries=2)
def effects(event: ReceivedEvent, step: Step) -> Any:
    """Three effects; the second kills its worker while a file is there."""
    where = event.data["dir"]
    step.run("first", tell, where, "first")
    step.run("second", kill_once, where)
    return step.run("third", tell, where, "third")


def kill_once(where: str) -> str:
    tell(where, "second")
    trap = Path(where, "trap")
    if trap.exists():
        trap.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return "second"


@flow("code-retries")
def retries(event: ReceivedEvent, step: Step) -> Any:
    """A step that fails `fail` times, and is caught once its tries are used up."""
    where = event.data["dir"]
    step.run("before", tell, where, "before")
    try:
        value = step.run(
            "flaky", flaky, where, event.data["fail"], retry={"retries": 2, "delay": "50ms", "backoff": "fixed"}
        )
    except StepFailed as failure:
        value = {"caught": failure.name, "error": failure.error, "attempts": failure.attempts}
    step.run("after", tell, where, "after")
    return value


def flaky(where: str, fail: int) -> str:
    tell(where, "flaky")
    if told(Path(where), "flaky") <= fail:
        raise RuntimeError("not yet")
    return "ok"


@flow("code-uncaught")
def uncaught(event: ReceivedEvent, step: Step) -> Any:
    """A step that fails for good."""
    step.run("bad", fail_for_good)


def fail_for_good() -> None:
    raise NonRetriable("never")


@flow("code-body", retry={"retries": 2, "delay": "50ms", "backoff": "fixed"})
def body(event: ReceivedEvent, step: Step) -> Any:
    """Code that fails outside of its steps, twice."""
    where = event.data["dir"]
    step.run("once", tell, where, "once")
    tell(where, "body")
    if told(Path(where), "body") < 3:
        raise RuntimeError("in the body")
    return step.attempt


@flow("code-logs", retry={"retries": 2, "delay": "50ms", "backoff": "fixed"})
def logs(event: ReceivedEvent, step: Step) -> Any:
    """Lines of the code and of its steps. Its code fails once, its second step twice."""
    where = event.data["dir"]
    step.logger.info("begins")

    def work(times: int) -> int:
        step.logger.info("works", attempt=step.attempt)
        tell(where, f"work-{times}")
        if told(Path(where), f"work-{times}") <= times:
            raise RuntimeError("not yet")
        return step.attempt

    tell(where, "body")
    if told(Path(where), "body") == 1:
        raise RuntimeError("in the body")
    return [step.run("first", work, 0), step.run("second", work, 2)]


@flow("code-waits")
def waits(event: ReceivedEvent, step: Step) -> Any:
    """A sleep, an event, another flow, an approval."""
    step.sleep("nap", "200ms")
    found = step.wait_for_event("paid", "code/paid", match="data.order", timeout="10s")
    sent = step.send_event("tell", "code/told", {"order": event.data["order"]})
    child = step.invoke("child", "code-chain", {"steps": 2})
    missed = step.wait_for_event("never", "code/never", timeout="100ms")
    return {"paid": found.data["cents"], "sent": sent, "child": child["total"], "missed": missed}


@flow("code-parallel")
def parallel(event: ReceivedEvent, step: Step) -> Any:
    """Branches of several steps, and a map."""
    where = event.data["dir"]

    def branch(name: str) -> str:
        first = step.run(f"{name}-1", tell, where, f"{name}-1")
        return str(first + "+" + step.run(f"{name}-2", tell, where, f"{name}-2"))

    both = step.parallel(lambda: branch("left"), lambda: branch("right"))
    squares = step.map("square", lambda number: number * number, range(event.data.get("items", 10)))
    some = step.map("some", lambda number: number + 1, range(6), parallelism=2)
    return {"both": both, "squares": squares, "some": some}


@flow("code-async")
async def async_flow(event: ReceivedEvent, step: Step) -> Any:
    """The same, async: steps of coroutines and of functions, gathered and alone."""
    where = event.data["dir"]
    one = await step.run("one", add_later, 1)
    two, three = await asyncio.gather(step.run("two", add_later, one), step.run("three", tell, where, "three"))
    await step.sleep("nap", "100ms")
    try:
        await step.run("bad", fail_later)
    except StepFailed as failure:
        caught = failure.message
    squares = await step.map("square", square_later, [1, 2, 3])
    return {"two": two, "three": three, "caught": caught, "squares": squares}


async def add_later(number: int) -> int:
    await asyncio.sleep(0.01)
    return number + 1


async def square_later(number: int) -> int:
    await asyncio.sleep(0.01)
    return number * number


async def fail_later() -> None:
    raise NonRetriable("async never")


@flow("code-typed", on=Event("code/typed", model=Order))
def typed(event: ReceivedEvent, step: Step) -> Charge:
    """Payloads with models."""
    order: Order = event.data
    charged: Charge = step.run("charge", charge, order)
    assert isinstance(charged, Charge)
    return charged


def charge(order: Order) -> Charge:
    return Charge(id=order.sku, cents=order.quantity * 100)
