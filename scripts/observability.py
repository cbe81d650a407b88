"""Five demo tasks, sent as events: one that succeeds, two that fail at different steps, one of high and one of low
priority; then every claim about them is checked by the API (scripts/test-observability.sh)."""

from __future__ import annotations

import datetime as dt
import itertools
import sys
import time
from typing import Any

from stack import EVENT, Checks, Stack

STEPS = (
    "step-1-initialize", "step-2-process", "step-3-simulate-delay", "step-4-simulate-api-call", "step-5-finalize",
)  # fmt: skip
PAUSES_S = (1, 2, 4, 8, 16)
SPREAD = 0.2
LATENESS_S = 5.0
"""A try may start so much later than its pause says: other steps have the places."""
PATIENCE_S = 180.0
TASKS: dict[str, dict[str, Any]] = {
    "success": {},
    "fails-at-step-2": {"simulateFailure": True, "failAtStep": "step-2-process"},
    "fails-at-step-4": {"simulateFailure": True, "failAtStep": "step-4-simulate-api-call"},
    "high-priority": {"priority": 300},
    "low-priority": {"priority": -300},
}


def main(address: str) -> None:
    stack, checks = Stack(address), Checks()
    stamp = time.strftime("%Y%m%d-%H%M%S")
    began = (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)).isoformat()
    tasks = [{"taskId": f"{name}-{stamp}", "delayMs": 200, **data} for name, data in TASKS.items()]
    events = stack.send(tasks)
    sys.stdout.write(f"sent {len(events)} tasks to {stack.address}; the failing ones take about 35 s\n")
    runs = {run["eventId"]: run for run in stack.await_all(events, PATIENCE_S, event=EVENT, since=began)}
    named = {name: runs.get(event) for name, event in zip(TASKS, events, strict=True)}
    checks.that(len(runs) == len(TASKS), "each task has one run", len(runs))
    for name in ("success", "high-priority", "low-priority"):
        run = named[name]
        if run is not None:
            completed(stack, checks, name, run)
    for name, step in (("fails-at-step-2", 1), ("fails-at-step-4", 3)):
        run = named[name]
        if run is not None:
            failed(stack, checks, name, run, step)
    lists(stack, checks, events, named, began)
    sys.stdout.write(f"Look at them: {stack.address}/?event={EVENT} (their timelines, tries, errors; Replay, Resume)\n")
    checks.end()


def completed(stack: Stack, checks: Checks, name: str, run: dict[str, Any]) -> None:
    steps = stack.steps(run["id"])
    checks.that(run["status"] == "completed", f"{name}: the run is completed", run["status"])
    checks.that(tuple(steps) == STEPS, f"{name}: it has five steps in their order", list(steps))
    checks.each(
        f"{name}: each step is completed at its first try, with its times",
        list(steps.values()),
        lambda step: step["status"] == "completed" and len(step["attempts"]) == 1 and step["startedAt"],
    )


def failed(stack: Stack, checks: Checks, name: str, run: dict[str, Any], at: int) -> None:
    steps = stack.steps(run["id"])
    key = STEPS[at]
    tries = steps[key]["attempts"]
    checks.that(run["status"] == "failed", f"{name}: the run is failed", run["status"])
    checks.that(
        (run["error"] or {}).get("step") == key and f"simulated failure at {key}" in run["error"]["message"],
        f"{name}: its error is that of {key}",
        run["error"],
    )
    checks.that(len(tries) == 6, f"{name}: {key} was tried six times", len(tries))
    pauses = [_seconds(a["endedAt"], b["startedAt"]) for a, b in itertools.pairwise(tries)]
    fits = [
        (1 - SPREAD) * pause - 0.1 <= found <= (1 + SPREAD) * pause + LATENESS_S
        for found, pause in zip(pauses, PAUSES_S, strict=False)
    ]
    checks.that(len(pauses) == 5 and all(fits), f"{name}: about 1, 2, 4, 8 and 16 s apart", pauses)
    checks.each(
        f"{name}: each try has its error and its traceback", tries, lambda each: (each["error"] or {}).get("traceback")
    )
    checks.each(
        f"{name}: the steps before it were done once, and not again",
        [steps[each] for each in STEPS[:at]],
        lambda step: step["status"] == "completed" and len(step["attempts"]) == 1,
    )
    checks.each(
        f"{name}: the steps after it did not start",
        [steps[each] for each in STEPS[at + 1 :]],
        lambda step: step["status"] == "cancelled" and not step["attempts"],
    )


def lists(stack: Stack, checks: Checks, events: list[str], named: dict[str, dict[str, Any] | None], began: str) -> None:
    """What the list of runs can be asked: by priority, status, event and time."""
    priorities = {name: (run or {}).get("priority") for name, run in named.items()}
    wanted = {name: data.get("priority", 0) for name, data in TASKS.items()}
    checks.that(priorities == wanted, "the priorities are those that were asked for", priorities)
    ordered = [run["priority"] for run in stack.runs_of(events, event=EVENT, since=began, sort="priority")]
    checks.that(
        ordered == [300, 0, 0, 0, -300], "sorted by priority, the high one is first and the low one last", ordered
    )
    for status, count in (("completed", 3), ("failed", 2)):
        found = stack.runs_of(events, event=EVENT, since=began, status=status)
        right = len(found) == count and {run["status"] for run in found} == {status}
        checks.that(right, f"the filter {status} shows {count} of them", len(found))
    checks.that(not stack.runs_of(events, until=began), "none of them is from before they were sent")
    checks.that(not stack.runs_of(events, event="another/event"), "none of them is by another event")


def _seconds(start: str, end: str) -> float:
    return round((dt.datetime.fromisoformat(end) - dt.datetime.fromisoformat(start)).total_seconds(), 2)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
