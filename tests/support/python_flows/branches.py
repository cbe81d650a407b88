"""Flows whose branches fail, draw ids, ask for the time, and are left; and tasks that the code does not wait for."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from functools import partial
from typing import Any

from tests.support.python_flows.orders import bad, do
from workflows.functions import ReceivedEvent, Step, StepFailed, flow


@flow("branch-reminder")
async def reminder(event: ReceivedEvent, step: Step) -> Any:
    """A task beside the main wait, which is cancelled after that."""
    undone = []

    async def remind() -> None:
        try:
            await step.sleep("long", "5d")
        except asyncio.CancelledError:
            undone.append("reminder")
            raise

    task = asyncio.create_task(remind())
    await step.sleep("short", event.data.get("nap", "1h"))
    task.cancel()
    await step.run("first", do, "first")
    await step.sleep("rest", event.data.get("nap", "1h"))
    return [await step.run("end", do, "end"), undone]


@flow("branch-own-error", retry={"retries": 2})
def own_error(event: ReceivedEvent, step: Step) -> Any:
    """A branch raises an error of its own after a step, beside one with a step and one that waits."""

    def checks() -> None:
        if step.run("check", do, "check") == "check":
            raise ValueError("bad quote")

    def waits() -> None:
        step.sleep("nap", event.data.get("nap", "1h"))
        step.run("late", do, "late")

    try:
        found = step.parallel(
            checks, lambda: step.run("beside", do, "beside", throttling={"concurrency": 5}), waits,
            return_exceptions=event.data.get("returns", False),
        )  # fmt: skip
        return [str(each) for each in found]
    except ValueError:
        if event.data.get("uncaught"):
            raise
        step.run("mend", do, "mend")
        step.sleep("rest", event.data.get("rest", "3h"))
        return step.run("end", do, "end")


@flow("branch-draws")
def draws(event: ReceivedEvent, step: Step) -> Any:
    """Each branch draws an id after a wait of its own length, and once more after all."""

    def branch(number: int) -> list[str]:
        step.sleep(f"nap-{number}", f"{3 - number}h")
        key = str(step.uuid())
        return [key, step.run(f"charge-{number}", do, key)]

    return [step.parallel(*(partial(branch, number) for number in range(3))), str(step.uuid())]


@flow("branch-clock")
def clock(event: ReceivedEvent, step: Step) -> Any:
    """Each branch sleeps until its own clock says that five hours have passed."""

    def branch(number: int) -> int:
        end, naps = step.now() + dt.timedelta(hours=5), 0
        while step.now() < end:
            step.sleep(f"nap-{number}", f"{number + 1}h")
            naps += 1
        return naps

    began = step.now()
    found = step.parallel(*(partial(branch, number) for number in range(3)))
    return [found, (step.now() - began).total_seconds() / 3600]


@flow("branch-clock-async")
async def clock_async(event: ReceivedEvent, step: Step) -> Any:
    """The time within branches is in the names of their steps."""
    began = step.now()

    async def branch(number: int) -> Any:
        await step.sleep(f"nap-{number}", f"{3 - number}h")
        hours = (step.now() - began).total_seconds() / 3600
        return await step.run(f"at-{number}-{hours:.0f}", do, f"{number}")

    return await asyncio.gather(*(branch(number) for number in range(3)))


@flow("branch-patched")
def patched(event: ReceivedEvent, step: Step) -> Any:
    """Changed code in branches that wait for various times."""

    def branch(number: int) -> Any:
        step.sleep(f"nap-{number}", f"{3 - number}h")
        if step.patched(f"new-{number}"):
            return step.run(f"new-{number}", do, f"new-{number}")
        return step.run(f"old-{number}", do, f"old-{number}")

    found = step.parallel(*(partial(branch, number) for number in range(3)))
    step.sleep("rest", "1h")
    return found


@flow("branch-limited-async", retry={"retries": 0})
async def limited(event: ReceivedEvent, step: Step) -> Any:
    """A map of a few at a time, of which some fail."""
    failing, most = set(event.data["failing"]), event.data["most"]

    async def work(number: int) -> int:
        if number in failing:
            bad(str(number))
        return int(do(str(number)))

    try:
        return await step.map("item", work, list(range(6)), parallelism=most)
    except StepFailed as failure:
        await step.sleep("nap", event.data.get("nap", "1h"))
        return await step.run("mend", do, f"mend {failure.name}")


@flow("branch-background")
async def background(event: ReceivedEvent, step: Step) -> Any:
    """Tasks that the code does not wait for: the run does."""

    async def row() -> None:
        await step.run("one", do, "one", throttling={"concurrency": 5})
        await step.sleep("nap", event.data.get("nap", "1h"))
        await step.run("two", do, "two")

    tasks = [
        asyncio.create_task(row()),
        asyncio.create_task(step.run("audit", flaky, str(step.run_id), retries=3, retry={"delay": "50ms"})),
    ]
    await step.run("main-step", do, "main-step")
    return f"early with {len(tasks)}"


_tries: Counter[str] = Counter()


def flaky(run_id: str) -> str:
    """Fails twice: so it is performed by visits of its own."""
    do("audit")
    _tries[run_id] += 1
    if _tries[run_id] < 3:
        raise RuntimeError("not yet")
    return "ok"
