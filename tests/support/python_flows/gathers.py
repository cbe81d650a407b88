"""Flows in Python for the tests of small gathers: members that fail, that are cancelled, that are limited in number."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from tests.support.python_flows.basic import tell
from workflows.errors import NonRetriable
from workflows.functions import ReceivedEvent, Step, StepFailed, flow

LIMITS = {"concurrency": 5}
"""A step with limits of its own is dispatched."""


def plain(what: str, where: str = "") -> str:
    if where:
        tell(where, what)
    return what


def bad(what: str, where: str = "") -> str:
    plain(what, where)
    raise NonRetriable(what)


async def plain_async(what: str) -> str:
    await asyncio.sleep(0)
    return what


async def bad_async(what: str) -> str:
    await asyncio.sleep(0)
    raise NonRetriable(what)


@flow("gather-failing", retry={"retries": 0})
def failing(event: ReceivedEvent, step: Step) -> Any:
    """Each round has a member that fails, one that is dispatched, and a plain one; the last round is not caught."""
    where, rounds = event.data.get("dir", ""), event.data["rounds"]
    for turn in range(rounds):
        try:
            step.parallel(
                lambda turn=turn: step.run("bad", bad, f"bad-{turn}", where),
                lambda turn=turn: step.run("limited", plain, f"limited-{turn}", where, throttling=LIMITS),
                lambda turn=turn: step.run("plain", plain, f"plain-{turn}", where),
            )
        except StepFailed:
            if turn + 1 == rounds:
                raise


@flow("gather-failing-async", retry={"retries": 0})
async def failing_async(event: ReceivedEvent, step: Step) -> Any:
    """The same, async. All members may be performed in place, and the failing one is asked for first."""
    rounds = event.data["rounds"]
    for turn in range(rounds):
        try:
            await asyncio.gather(
                step.run("bad", bad_async, f"bad-{turn}"),
                step.run("plain", plain_async, f"plain-{turn}"),
                step.run("other", plain_async, f"other-{turn}"),
            )
        except StepFailed:
            if turn + 1 == rounds:
                raise


@flow("gather-after-failure", retry={"retries": 0})
def after_failure(event: ReceivedEvent, step: Step) -> Any:
    """A failure that is caught, and a gather with another one that is not."""
    with contextlib.suppress(StepFailed):
        step.run("caught", bad, "caught")
    step.parallel(*_members(step, bad, plain))


@flow("gather-after-failure-async", retry={"retries": 0})
async def after_failure_async(event: ReceivedEvent, step: Step) -> Any:
    """The same, async."""
    with contextlib.suppress(StepFailed):
        await step.run("caught", bad_async, "caught")
    await asyncio.gather(step.run("first", bad_async, "first"), step.run("second", plain_async, "second"))


def _members(step: Step, first: Any, second: Any) -> list[Any]:
    return [lambda: step.run("first", first, "first"), lambda: step.run("second", second, "second")]


@flow("gather-late", retry={"retries": 0})
def late(event: ReceivedEvent, step: Step) -> Any:
    """A gather of a failure and two steps in a row; what has failed is raised after both."""

    def row() -> str:
        step.run("one", plain, "one")
        return str(step.run("two", plain, "two"))

    raise step.parallel(lambda: step.run("bad", bad, "bad"), row, return_exceptions=True)[0]


@flow("gather-late-async", retry={"retries": 0})
async def late_async(event: ReceivedEvent, step: Step) -> Any:
    """The same, async."""

    async def row() -> str:
        await step.run("one", plain_async, "one")
        return str(await step.run("two", plain_async, "two"))

    raise (await asyncio.gather(step.run("bad", bad_async, "bad"), row(), return_exceptions=True))[0]


@flow("gather-nested", retry={"retries": 0})
def nested(event: ReceivedEvent, step: Step) -> Any:
    """A gather within a gather still waits when another member fails; the code catches that, and has a task
    performed elsewhere."""
    try:
        step.parallel(
            lambda: step.parallel(lambda: step.sleep("nap", "1h"), lambda: step.run("plain", plain, "plain")),
            lambda: step.run("bad", bad, "bad"),
        )
    except StepFailed:
        step.task("long", "shop.long")


@flow("gather-raised-again", retry={"retries": 0})
def raised_again(event: ReceivedEvent, step: Step) -> Any:
    """Of three members one fails, one is dispatched, and one is a gather that raises the failure of the first."""
    failures: list[StepFailed] = []

    def first() -> None:
        try:
            step.run("bad", bad, "bad")
        except StepFailed as failure:
            failures.append(failure)

    def again() -> Any:
        raise failures[0]

    def third() -> Any:
        try:
            step.parallel(again)
        except StepFailed:
            return step.run("mended", plain, "mended")
        return step.run("missed", plain, "missed")

    return step.parallel(first, lambda: step.run("limited", plain, "limited", throttling=LIMITS), third)


@flow("gather-row-async", retry={"retries": 0})
async def row_async(event: ReceivedEvent, step: Step) -> Any:
    """A failure that is caught in a task of its own, which then waits for long."""

    async def row() -> None:
        try:
            await step.run("bad", bad_async, "bad")
        except StepFailed:
            await step.task("long", "shop.long")

    await asyncio.create_task(row())


@flow("gather-branches-async", retry={"retries": 0})
async def branches_async(event: ReceivedEvent, step: Step) -> Any:
    """Gathers of branches: the first one fails in a branch, which the code catches; what comes then takes long."""

    async def branch(name: str, function: Any) -> Any:
        return await step.run(name, function, name)

    async def long() -> Any:
        await step.run("before", plain_async, "before")
        return await step.task("long", "shop.long")

    with contextlib.suppress(StepFailed):
        await asyncio.gather(branch("bad", bad_async), branch("plain", plain_async))
    await asyncio.gather(long(), branch("other", plain_async))


@flow("gather-new-names")
async def new_names(event: ReceivedEvent, step: Step) -> Any:
    """Two steps at the same time, which no run has asked for before."""
    return await asyncio.gather(step.run("first", plain_async, "first"), step.run("second", plain_async, "second"))


@flow("gather-cancelled", retry={"retries": 0})
async def cancelled(event: ReceivedEvent, step: Step) -> Any:
    """The first that ends of two; the code cancels the other one, and goes on."""
    tasks = [asyncio.ensure_future(step.run(name, plain_async, name)) for name in ("first", "second")]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return [sorted(task.result() for task in done), await step.run("after", plain_async, "after")]


@flow("gather-cancelled-meanwhile", retry={"retries": 0})
async def cancelled_meanwhile(event: ReceivedEvent, step: Step) -> Any:
    """The code cancels a member while that is performed."""

    async def cancels(what: str) -> str:
        tasks[0].cancel()
        await asyncio.sleep(0.001)
        return what

    tasks = [asyncio.ensure_future(step.run("first", cancels, "first"))]
    tasks.append(asyncio.ensure_future(step.run("second", plain_async, "second")))
    values = await asyncio.gather(*tasks, return_exceptions=True)
    return [None, values[1]]  # what became of the first depends on who has performed it


@flow("gather-parallelism")
def parallelism(event: ReceivedEvent, step: Step) -> Any:
    """A map of at most so many at a time, alone or as a member."""
    limit = event.data["limit"]

    def mapped() -> Any:
        return step.map("member", plain, [str(number) for number in range(5)], parallelism=limit)

    if event.data["nested"]:
        return step.parallel(mapped, lambda: step.run("beside", plain, "beside"))[0]
    return mapped()


@flow("gather-parallelism-async")
async def parallelism_async(event: ReceivedEvent, step: Step) -> Any:
    """The same, async."""
    mapped: Any = step.map(
        "member", plain_async, [str(number) for number in range(5)], parallelism=event.data["limit"]
    )  # fmt: skip
    if event.data["nested"]:
        return (await asyncio.gather(mapped, step.run("beside", plain_async, "beside")))[0]
    return await mapped
