"""Demo tasks sent as events in quick succession, and the check that the demo task's limits held: at most 10 at once, at
most 20 starts in any period (scripts/test-rate-limits.sh)."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from stack import EVENT, ROOT, Checks, Stack

AT_ONCE, STARTS, PERIOD_S = 10, 20, 60.0
MOST = 1_000


def main(count: int, scale: float) -> None:
    if not 1 <= count <= MOST or not 1 <= scale <= 100:
        sys.exit(f"Give 1 to {MOST} tasks, and a scale of 1 to 100.")
    stack, checks = Stack(), Checks()
    event, period_s = (EVENT, PERIOD_S) if scale == 1 else (scaled(scale), PERIOD_S / scale)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    began = (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)).isoformat()
    events = stack.send([{"taskId": f"rate-{stamp}-{number}", "delayMs": 200} for number in range(count)], event=event)
    sys.stdout.write(f"sent {count} tasks to {stack.address}; at most {AT_ONCE} at once, {STARTS} per {period_s:g} s\n")
    if count > STARTS:
        queued(stack, checks, events, event, began)
    runs = stack.await_all(events, 180 + 6 * count, event=event, since=began)
    checks.that(len(runs) == count, f"each of the {count} tasks has one run", len(runs))
    checks.each("all of them complete: those that had to wait are queued, and none is dropped", runs,
                lambda run: run["status"] == "completed")  # fmt: skip
    spans = [(_time(run["startedAt"]), _time(run["endedAt"])) for run in runs if run["startedAt"] and run["endedAt"]]
    most = most_at_once(spans)
    checks.that(most <= AT_ONCE, f"at most {AT_ONCE} ran at once (at most {most} did)", most)
    starts = sorted(_first_start(stack, run["id"]) for run in runs if run["startedAt"])
    crowd = most_within(starts, period_s)
    checks.that(crowd <= STARTS, f"at most {STARTS} started in any {period_s:g} s (at most {crowd} did)", crowd)
    if starts:
        stairs = Counter(int((start - starts[0]) // period_s) for start in starts)
        sys.stdout.write("starts by period: " + ", ".join(str(stairs[n]) for n in range(max(stairs) + 1)) + "\n")
    checks.end()


def queued(stack: Stack, checks: Checks, events: list[str], event: str, began: str) -> None:
    """Some wait now, and say for what."""
    until = time.monotonic() + 20
    reason = ""
    while not reason and time.monotonic() < until:
        for run in stack.runs_of(events, event=event, since=began, status="queued")[-1:]:
            first = next(iter(stack.steps(run["id"]).values()))
            reason = first["waitingReason"] or "" if first["waitingFor"] == "limit" else ""
        time.sleep(0.2)
    checks.that(reason, f"those that wait say for what: {reason}", "no queued run")


def scaled(scale: float) -> str:
    """Publish a copy of the demo task with shorter periods, and an event of its own; that event."""
    manage = [sys.executable, str(ROOT / "manage.py"), "flows"]
    text = subprocess.run([*manage, "export", "demo-task"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    event = f"{EVENT}.scaled"
    text = text.replace("flow: demo-task", "flow: demo-task-scaled").replace(EVENT, event)
    text = text.replace("period: 60s", f"period: {round(PERIOD_S * 1000 / scale)}ms")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "demo-task-scaled.yaml"
        file.write_text(text)
        subprocess.run([*manage, "apply", str(file)], check=True, cwd=ROOT)
    return event


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """The most spans that overlap at any moment."""
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def most_within(moments: list[float], period_s: float) -> int:
    """The most of these (sorted) moments in any interval of that length."""
    most = first = 0
    for position, moment in enumerate(moments):
        while moment - moments[first] >= period_s:
            first += 1
        most = max(most, position - first + 1)
    return most


def _first_start(stack: Stack, run_id: str) -> float:
    """When the handler of the first step began: that is what the limit counts."""
    first: dict[str, Any] = stack.steps(run_id)["step-1-initialize"]
    return _time(first["attempts"][0]["startedAt"])


def _time(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30, float(sys.argv[2]) if len(sys.argv) > 2 else 1)
