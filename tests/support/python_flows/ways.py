"""Flows in the ways in which Python is written: task groups, queues, generators, stacks of clean-ups, threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from tests.support.python_flows.orders import bad, do
from workflows.functions import ReceivedEvent, Step, StepFailed, flow


@flow("way-task-group", retry={"retries": 0})
async def task_group(event: ReceivedEvent, step: Step) -> Any:
    """A task group with a wait in it, and another wait after it."""
    async with asyncio.TaskGroup() as group:
        one = group.create_task(step.run("one", do, "one"))
        group.create_task(step.sleep("nap", "1h"))
        two = group.create_task(step.run("two", do, "two"))
    await step.sleep("rest", "1h")
    return [one.result(), two.result()]


@flow("way-task-group-fails", retry={"retries": 3})
async def task_group_fails(event: ReceivedEvent, step: Step) -> Any:
    """A task group whose failure nobody catches."""
    async with asyncio.TaskGroup() as outer:
        async with asyncio.TaskGroup() as inner:
            inner.create_task(step.run("bad", bad, "bad"))
        outer.create_task(step.sleep("nap", "1h"))


@flow("way-task-group-caught", retry={"retries": 0})
async def task_group_caught(event: ReceivedEvent, step: Step) -> Any:
    """A task group whose failure is caught, with a step that it has cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(step.run("bad", bad, "bad"))
            group.create_task(step.sleep("nap", "1h"))
    except* StepFailed:
        await step.run("mend", do, "mend")
    await step.sleep("rest", "3h")
    return await step.run("end", do, "end")


@flow("way-loser")
async def loser(event: ReceivedEvent, step: Step) -> Any:
    """The second of two is cancelled."""
    quick, slow = (asyncio.create_task(step.sleep(name, for_)) for name, for_ in (("quick", "1h"), ("slow", "2h")))
    _, pending = await asyncio.wait({quick, slow}, return_when=asyncio.FIRST_COMPLETED)
    for each in pending:
        each.cancel()
    await step.run("after", do, "after")
    await step.sleep("rest", "5h")
    return slow.cancelled()


@flow("way-queue")
async def queue(event: ReceivedEvent, step: Step) -> Any:
    """One makes what another one uses."""
    made: asyncio.Queue[str | None] = asyncio.Queue(2)
    used = []

    async def make() -> None:
        for number in range(4):
            await made.put(await step.run(f"make-{number}", do, f"made-{number}"))
        await made.put(None)

    async def use() -> None:
        while (what := await made.get()) is not None:
            await step.sleep(f"nap-{what}", "1h")
            used.append(await step.run(f"use-{what}", do, f"used-{what}"))

    await asyncio.gather(make(), use())
    return used


@flow("way-stack", retry={"retries": 0})
def stack(event: ReceivedEvent, step: Step) -> Any:
    """What was done is undone, last first, if a later step fails."""
    with contextlib.ExitStack() as undo:
        undo.callback(lambda: step.run("undo-1", do, "undo-1"))
        step.sleep("nap-1", "1h")
        undo.callback(lambda: step.run("undo-2", do, "undo-2"))
        step.sleep("nap-2", "1h")
        step.run("bad", bad, "bad")


@flow("way-generator")
def generator(event: ReceivedEvent, step: Step) -> Any:
    """A generator that asks for steps, also when it is closed."""

    def items() -> Iterator[str]:
        for number in range(3):
            try:
                yield step.run(f"get-{number}", do, str(number))
            finally:
                step.run(f"put-{number}", do, f"put-{number}")

    got = []
    for each in items():
        step.sleep(f"nap-{each}", "1h")
        got.append(each)
    return got


@flow("way-async-generator")
async def async_generator(event: ReceivedEvent, step: Step) -> Any:
    """The same, async."""

    async def items() -> AsyncIterator[str]:
        for number in range(3):
            try:
                yield await step.run(f"get-{number}", do, str(number))
            finally:
                await step.run(f"put-{number}", do, f"put-{number}")

    got = []
    async for each in items():
        await step.sleep(f"nap-{each}", "1h")
        got.append(each)
    return got


@flow("way-loop", retry={"retries": 0})
def loop(event: ReceivedEvent, step: Step) -> Any:
    """Tries of its own, with a wait in between."""
    for number in range(3):
        try:
            return step.run(f"try-{number}", bad, "try")
        except Exception:
            step.sleep(f"nap-{number}", "1h")
    return "gave up"


@flow("way-nested")
def nested(event: ReceivedEvent, step: Step) -> Any:
    """Gathers in gathers, with waits everywhere."""

    def row() -> Any:
        first = step.run("first", do, "first")
        step.sleep("nap", "2h")
        return [first, step.parallel(lambda: step.run("last", do, "last"), lambda: step.sleep("rest", "1h"))]

    return step.parallel(
        lambda: step.parallel(
            lambda: step.sleep("beside", "1h"), lambda: step.map("item", do, ["1", "2", "3"], parallelism=1)
        ),
        row,
    )


@flow("way-threads", retry={"retries": 0})
def threads(event: ReceivedEvent, step: Step) -> Any:
    """Asks for steps in threads of its own."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return pool.submit(step.run, "one", do, "one").result()


@flow("way-main", retry={"retries": 0})
def main(event: ReceivedEvent, step: Step) -> Any:
    """Has a step of the function's own name."""
    return step.run("main", do, "main")


@flow("way-listed", retry={"retries": 0})
def listed(event: ReceivedEvent, step: Step) -> Any:
    """Gives a list of branches."""
    return step.parallel([lambda: step.run("one", do, "one")])


@flow("way-called", retry={"retries": 0})
def called(event: ReceivedEvent, step: Step) -> Any:
    """Calls its branches itself."""
    return step.parallel(step.run("one", do, "one"))


@flow("way-listed-async", retry={"retries": 0})
async def listed_async(event: ReceivedEvent, step: Step) -> Any:
    """Gives a list of branches."""
    return await step.parallel([lambda: step.run("one", do, "one")])


async def fetched(number: int) -> int:
    return number


@flow("way-coroutine", retry={"retries": 0})
def coroutine(event: ReceivedEvent, step: Step) -> Any:
    """A step that nobody awaits."""
    return step.run("one", lambda: fetched(1))


@flow("way-logs")
def logs(event: ReceivedEvent, step: Step) -> Any:
    """Logs as the standard library does."""
    step.logger.info("order %d of %r", 7, "eu")
    step.logger.critical("hot")
    step.logger.warning("%d is wrong", "text")
    try:
        raise ValueError("no")
    except ValueError:
        step.logger.exception("it has failed")
    return "logged"


@flow("way-catching", retry={"retries": 2, "delay": "1s"})
def catching(event: ReceivedEvent, step: Step) -> Any:
    """Takes whatever a call raises for the failure of its step."""
    try:
        return step.run("one", do, "one")
    except Exception:
        return step.run("mend", do, "mend")


@flow("way-catching-async", retry={"retries": 2, "delay": "1s"})
async def catching_async(event: ReceivedEvent, step: Step) -> Any:
    """The same, async."""
    try:
        return await step.run("one", do, "one")
    except Exception:
        return await step.run("mend", do, "mend")


class _Unprintable:
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


@flow("way-odd-logs")
def odd_logs(event: ReceivedEvent, step: Step) -> Any:
    """Logs what fits no line."""
    step.logger.info("%(what)s of a dict", {"what": "part"})
    step.logger.info("%s", _Unprintable())
    too_few = "%s and %s"
    step.logger.info(too_few, 1)
    return "logged"
