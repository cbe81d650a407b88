"""Flows in Python for the bench: the same steps as those of `bench_effects`, asked for by code."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from bench_effects import DRIVER, SOCKET  # type: ignore[import-not-found]  # (beside this file)

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
