"""Flows in Python for the bench: the same steps as those of `bench_effects`, asked for by code."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

import bench_look  # type: ignore[import-not-found]  # (beside this file)
from bench_effects import DRIVER, SOCKET  # type: ignore[import-not-found]

from workflows.functions import ReceivedEvent, Step, flow


def effect(run_id: UUID, key: str) -> dict[str, Any]:
    SOCKET.sendto(f"{run_id} {key} {time.time()}".encode(), DRIVER)
    return {"ok": True}


@flow("five-python")
def five(event: ReceivedEvent, step: Step) -> None:
    """Five side-effecting steps, one after the other."""
    for number in range(5):
        step.run(f"s{number}", effect, step.run_id, f"s{number}")


@flow("wide-python")
def wide(event: ReceivedEvent, step: Step) -> None:
    """200 parallel side-effecting steps, and one after them."""
    step.map("p", lambda number: effect(step.run_id, f"p{number}"), range(200))
    step.run("join", effect, step.run_id, "join")


@flow("long-python")
def long(event: ReceivedEvent, step: Step) -> None:
    """Many steps, one after the other."""
    steps = event.data["steps"]
    for number in range(steps):
        last = number == steps - 1
        step.run("last" if last else f"s{number}", effect, step.run_id, "last" if last else "s")


@flow("replayed-python")
def replayed(event: ReceivedEvent, step: Step) -> None:
    """Many steps, after each of which the visit ends: a sleep that is over at once."""
    for number in range(event.data["steps"]):
        step.run(f"s{number}", effect, step.run_id, "s")
        step.sleep(f"pause{number}", "1ms")
    step.run("last", effect, step.run_id, "last")


@flow("look-python")
def look(event: ReceivedEvent, step: Step) -> Any:
    """What the worker holds; `files`: by file, where it traces since its start."""
    asked = event.data
    if asked.get("files"):
        return step.run("files", bench_look.held_by_file)
    return step.run("look", bench_look.look, trims=asked["trims"], traces=asked["traces"])


@flow("gather-python")
def gather(event: ReceivedEvent, step: Step) -> None:
    """A few parallel side-effecting steps, and one after them."""
    step.map("p", lambda number: effect(step.run_id, f"p{number}"), range(event.data["width"]))
    step.run("join", effect, step.run_id, "join")


@flow("row-python")
def row(event: ReceivedEvent, step: Step) -> None:
    """The same steps, one after the other."""
    for number in range(event.data["width"]):
        step.run(f"p{number}", effect, step.run_id, f"p{number}")
    step.run("join", effect, step.run_id, "join")


@flow("gather-async-python")
async def gather_async(event: ReceivedEvent, step: Step) -> None:
    """A few parallel steps of a millisecond, and one after them."""

    async def nap(number: int) -> dict[str, Any]:
        await asyncio.sleep(0.001)
        return effect(step.run_id, f"p{number}")

    await asyncio.gather(*(step.run(f"p{number}", nap, number) for number in range(event.data["width"])))
    await step.run("join", effect, step.run_id, "join")
