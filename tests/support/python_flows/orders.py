"""Flows whose code is left at waits and gone through anew: blocks of `finally`, races, branches that stay open."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from workflows.errors import NonRetriable
from workflows.functions import ReceivedEvent, Step, StepFailed, flow

did: list[str] = []


def do(what: str) -> str:
    did.append(what)
    return what


def bad(what: str) -> None:
    do(what)
    raise NonRetriable(what)


@flow("order-finally", retry={"retries": 0})
def in_finally(event: ReceivedEvent, step: Step) -> Any:
    """Waits, and cleans up in the end."""
    try:
        step.sleep("nap", event.data.get("nap", "1h"))
        step.run("work", bad if event.data.get("fails") else do, "work")
    finally:
        step.logger.info("cleaning up")
        step.run("cleanup", do, "cleanup")


@flow("order-finally-async", retry={"retries": 0})
async def in_finally_async(event: ReceivedEvent, step: Step) -> Any:
    """The same, async."""
    try:
        await step.sleep("nap", event.data.get("nap", "1h"))
        await step.run("work", bad if event.data.get("fails") else do, "work")
    finally:
        step.logger.info("cleaning up")
        await step.run("cleanup", do, "cleanup")


@flow("order-finally-branches", retry={"retries": 0})
def in_finally_branches(event: ReceivedEvent, step: Step) -> Any:
    """A branch that cleans up, beside others."""

    def branch() -> None:
        try:
            step.sleep("nap", "1h")
            step.parallel(lambda: step.run("work", do, "work"), lambda: step.sleep("pause", "5m"))
        finally:
            step.parallel(lambda: step.run("cleanup", do, "cleanup"), lambda: step.sleep("end", "5m"))

    step.parallel(branch, lambda: step.run("beside", do, "beside"))


@flow("order-finally-branches-async", retry={"retries": 0})
async def in_finally_branches_async(event: ReceivedEvent, step: Step) -> Any:
    """The same, async."""

    async def branch() -> None:
        try:
            await step.sleep("nap", "1h")
            await asyncio.gather(step.run("work", do, "work"), step.sleep("pause", "5m"))
        finally:
            await asyncio.gather(step.run("cleanup", do, "cleanup"), step.sleep("end", "5m"))

    await asyncio.gather(branch(), step.run("beside", do, "beside"))


@flow("order-hiding", retry={"retries": 0})
def hiding(event: ReceivedEvent, step: Step) -> Any:
    """Code that catches everything, as a careless retry loop does, and one that fails while it is left."""
    connection = None
    try:
        for _ in range(3):
            with contextlib.suppress(BaseException):
                step.sleep("nap", "1h")
        connection = step.run("connect", do, "connect")
        step.sleep("rest", "1h")
        step.parallel(lambda: _hidden(step), lambda: step.run("beside", do, "beside"))
    finally:
        connection.upper()  # type: ignore[union-attr]  # as code does that counts on its body
    return connection


def _hidden(step: Step) -> Any:
    try:
        return step.run("in a branch", do, "in a branch")
    except BaseException:
        raise ValueError("hidden") from None


@flow("order-hiding-async", retry={"retries": 0})
async def hiding_async(event: ReceivedEvent, step: Step) -> Any:
    """The same, async."""
    connection = None
    try:
        for number in range(3):
            with contextlib.suppress(BaseException):
                await step.sleep(f"nap-{number}", "1h")
        connection = await step.run("connect", do, "connect")
        await step.sleep("rest", "1h")
    finally:
        connection.upper()  # type: ignore[union-attr]  # as code does that counts on its body
    return connection


@flow("order-open-branch", retry={"retries": 0})
def open_branch(event: ReceivedEvent, step: Step) -> Any:
    """One branch fails, which the code catches, while another one still has steps to come."""

    def row() -> None:
        step.sleep("nap", "1h")
        step.run("late", do, "late")
        step.sleep("second nap", "1h")
        step.run("later", do, "later")

    try:
        step.parallel(lambda: step.run("bad", bad, "bad"), row)
    except StepFailed:
        step.run("mend", do, "mend")
        step.sleep("long", "5h")
        return step.run("end", do, "end")


@flow("order-open-branch-async", retry={"retries": 0})
async def open_branch_async(event: ReceivedEvent, step: Step) -> Any:
    """The same, async."""

    async def row() -> None:
        await step.sleep("nap", "1h")
        await step.run("late", do, "late")
        await step.sleep("second nap", "1h")
        await step.run("later", do, "later")

    try:
        await asyncio.gather(step.run("bad", bad, "bad"), row())
    except StepFailed:
        await step.run("mend", do, "mend")
        await step.sleep("long", "5h")
        return await step.run("end", do, "end")


def item(number: int) -> int:
    do(f"item-{number}")
    if number == 0:
        raise NonRetriable("the first one")
    return number


@flow("order-limited", retry={"retries": 0})
def limited(event: ReceivedEvent, step: Step) -> Any:
    """A few at a time, of which the first one fails; the code catches that, and goes on for long."""
    try:
        step.map("item", item, list(range(8)), parallelism=2)
    except StepFailed:
        step.run("mend", do, "mend")
        step.sleep("long", "5h")
        return step.run("item", do, "again")


@flow("order-limited-async", retry={"retries": 0})
async def limited_async(event: ReceivedEvent, step: Step) -> Any:
    """The same, async."""
    try:
        await step.map("item", item, list(range(8)), parallelism=2)
    except StepFailed:
        await step.run("mend", do, "mend")
        await step.sleep("long", "5h")
        return await step.run("item", do, "again")


@flow("order-race")
async def race(event: ReceivedEvent, step: Step) -> Any:
    """Whichever is first of two sleeps, or of one and an event; the other one ends while the code waits for others."""
    slow = asyncio.ensure_future(step.sleep("deadline", event.data.get("deadline", "2h")))
    quick = asyncio.ensure_future(step.wait_for_event("paid", "order/paid", timeout="30d"))
    done, _ = await asyncio.wait({slow, quick}, return_when=asyncio.FIRST_COMPLETED)
    first = "deadline" if slow in done else "paid"
    await step.run(f"after {first}", do, first)
    await step.sleep("long", event.data.get("long", "5h"))
    return [first, slow.done(), quick.done()]


@flow("order-as-completed")
async def as_completed(event: ReceivedEvent, step: Step) -> Any:
    """In the order in which they end, each followed by a step of its own."""

    async def nap(hours: int) -> int:
        await step.sleep(f"nap-{hours}", f"{hours}h")
        return hours

    seen: list[str] = []
    for each in asyncio.as_completed([nap(3), nap(1), nap(2)]):
        hours = await each
        seen.append(await step.run(f"after-{len(seen)}-{hours}", do, str(hours)))
        await step.sleep(f"pause-{len(seen)}", "5h")
    return seen


@flow("order-two-failures", retry={"retries": 0})
def two_failures(event: ReceivedEvent, step: Step) -> Any:
    """Two branches fail, the second one first."""

    def fails_after(name: str, hours: int) -> None:
        step.sleep(f"nap-{name}", f"{hours}h")
        step.run(name, bad, name)

    try:
        step.parallel(lambda: fails_after("slow", 2), lambda: fails_after("quick", 1))
    except StepFailed as failure:
        step.run(f"mend {failure.name}", do, "mend")
        step.sleep("long", "5h")
        return failure.name


@flow("order-two-failures-async", retry={"retries": 0})
async def two_failures_async(event: ReceivedEvent, step: Step) -> Any:
    """The same, async."""

    async def fails_after(name: str, hours: int) -> None:
        await step.sleep(f"nap-{name}", f"{hours}h")
        await step.run(name, bad, name)

    try:
        await asyncio.gather(fails_after("slow", 2), fails_after("quick", 1))
    except StepFailed as failure:
        await step.run(f"mend {failure.name}", do, "mend")
        await step.sleep("long", "5h")
        return failure.name


@flow("order-rows", retry={"retries": 0})
def rows(event: ReceivedEvent, step: Step) -> Any:
    """A branch of two steps, and one that fails."""

    def row() -> None:
        step.run("one", do, "one")
        step.run("two", do, "two", throttling={"concurrency": 5})

    step.parallel(row, lambda: step.run("bad", bad, "bad"))


@flow("order-rows-async", retry={"retries": 0})
async def rows_async(event: ReceivedEvent, step: Step) -> Any:
    """The same, async."""

    async def row() -> None:
        await step.run("one", do, "one")
        await step.run("two", do, "two", throttling={"concurrency": 5})

    await asyncio.gather(row(), step.run("bad", bad, "bad"))
