"""The flows of `bench.replay`, and rows of their journals."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from functools import partial

from workflows.functions import ReceivedEvent, Step, flow
from workflows.functions.replay.recorded import StepRecord

GATHER = 200
_count = [0]


def set_count(count: int) -> None:
    """How many steps each of the flows asks for."""
    _count[0] = count


def row(number: int, type_: str, now: dt.datetime) -> StepRecord:
    return StepRecord(uuid.uuid4(), f"s{number}", type_, number, "completed", 1, {"ok": True}, None, now)


def work(number: int) -> dict[str, bool]:
    return {"ok": True}


@flow("bench-runs")
def runs(event: ReceivedEvent, step: Step) -> None:
    for number in range(_count[0]):
        step.run(f"s{number}", work, number)


@flow("bench-options")
def options(event: ReceivedEvent, step: Step) -> None:
    for number in range(_count[0]):
        step.run(f"s{number}", work, number, retries=3, timeout="30s")


@flow("bench-sleeps")
def sleeps(event: ReceivedEvent, step: Step) -> None:
    for number in range(_count[0]):
        step.sleep(f"s{number}", "1s")


@flow("bench-async-runs")
async def async_runs(event: ReceivedEvent, step: Step) -> None:
    for number in range(_count[0]):
        await step.run(f"s{number}", work, number)


@flow("bench-gathers")
async def gathers(event: ReceivedEvent, step: Step) -> None:
    for first in range(0, _count[0], GATHER):
        await asyncio.gather(*(step.run(f"s{number}", work, number) for number in range(first, first + GATHER)))


@flow("bench-parallel")
def parallel(event: ReceivedEvent, step: Step) -> None:
    for first in range(0, _count[0], GATHER):
        step.parallel(*(partial(step.run, f"s{number}", work, number) for number in range(first, first + GATHER)))
