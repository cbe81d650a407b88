"""The waterfall of a run: for each step its stretches of time, from the run's creation on.

The browser draws them: the width of a stretch changes with each second of a live run, and nothing is sent for it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from workflows.presenters.step_metrics import ms
from workflows.selectors.runs import RunDetail, StepDetail

Stretch = tuple[str, dt.datetime, dt.datetime | None]
WORDS = {
    "queued": "queued",
    "throttled": "waits for a limit",
    "running": "running",
    "failed": "failed try",
    "lost": "worker lost",
    "retry-wait": "waits for its next try",
    "sleep": "sleeps",
    "event": "waits for an event",
    "approval": "waits for an approval",
    "callback": "waits for a callback",
    "items": "waits for its items or steps",
    "run": "waits for another run",
    "paused": "paused",
}
"""What a stretch of each kind says."""
EXECUTING = frozenset({"running", "failed", "lost"})
BY_TYPE = {
    "delay": "sleep",
    "wait_for_event": "event",
    "wait_for_callback": "callback",
    "wait_for_approval": "approval",
    "invoke_flow": "run",
    "map": "items",
    "batch": "items",
    "loop": "items",
    "group": "items",
    "function": "items",
}
"""What a step of the type waits for once it was started."""
BY_WAIT = {
    "retry": "retry-wait",
    "sleep": "sleep",
    "delay": "sleep",
    "event": "event",
    "approval": "approval",
    "run": "run",
    "items": "items",
    "steps": "items",
    "pause": "paused",
    "limit": "throttled",
}
THROTTLED_MS = 20
"""From ready to sent to a worker: so long it takes where nothing holds a step back."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One stretch: `kind` is one of WORDS; from `since` to `until` in milliseconds after the run's creation, or until
    now (None)."""

    kind: str
    since: int
    until: int | None

    @property
    def word(self) -> str:
        return WORDS[self.kind]


def bars(detail: RunDetail) -> Mapping[str, list[Bar]]:
    """The stretches of each step, by its key."""
    ended = {step.step_run.key: step.step_run.ended_at for step in detail.steps}
    begin = detail.run.created_at
    found = {}
    for step in detail.steps:
        needs = step.compiled.needs if step.compiled else ()
        could_start = max((moment for key in needs if (moment := ended.get(key))), default=begin)
        stretches = [*_waited(step, could_start), *_stretches(step)]
        found[step.step_run.key] = [
            Bar(kind=kind, since=max(ms(begin, since) or 0, 0), until=None if until is None else ms(begin, until))
            for kind, since, until in stretches
            if until is None or until > since
        ]
    return found


def executed_ms(step_bars: list[Bar]) -> int | None:
    """How long a step executed in the tries that have ended; None where none has."""
    ended = [bar.until - bar.since for bar in step_bars if bar.kind in EXECUTING and bar.until is not None]
    return sum(ended) if ended else None


def _kind(step: StepDetail) -> str:
    """What the step waits for, after its start."""
    row = step.step_run
    if row.waiting_for == "event" and row.type == "wait_for_callback":
        return "callback"
    return BY_WAIT.get(row.waiting_for) or BY_TYPE.get(row.type, "sleep")


def _waited(step: StepDetail, could_start: dt.datetime) -> Iterator[Stretch]:
    """What a step that has woken waited before; it began when what the step needs had ended."""
    woke = step.attempts[0].ready_at if step.attempts else step.step_run.ready_at
    if step.step_run.wake_seq and woke:
        yield BY_TYPE.get(step.step_run.type, "sleep"), could_start, woke


def _stretches(step: StepDetail) -> Iterator[Stretch]:
    row, previous = step.step_run, None
    for number, attempt in enumerate(step.attempts, 1):
        if previous and attempt.ready_at:
            yield "retry-wait", previous, attempt.ready_at
        if attempt.ready_at and attempt.started_at:
            is_latest = number == len(step.attempts) and row.started_at == attempt.started_at
            yield from _before_start(attempt.ready_at, row.dispatched_at if is_latest else None, attempt.started_at)
        if attempt.started_at:
            yield _ended_kind(step, attempt.status), attempt.started_at, attempt.ended_at
        previous = attempt.ended_at
    yield from _open(step, previous)


def _ended_kind(step: StepDetail, status: str) -> str:
    if status == "completed":
        waits = step.step_run.type != "delay" and not step.step_run.wake_seq
        return BY_TYPE.get(step.step_run.type, "running") if waits else "running"
    return "lost" if status == "lost" else "failed"


def _before_start(ready: dt.datetime, sent: dt.datetime | None, started: dt.datetime) -> Iterator[Stretch]:
    """Until a step was sent to a worker it waited for a limit, then in the queue; unknown of earlier tries: queued."""
    if sent and ready < sent <= started and (ms(ready, sent) or 0) > THROTTLED_MS:
        yield "throttled", ready, sent
        ready = sent
    yield "queued", ready, started


def _open(step: StepDetail, previous: dt.datetime | None) -> Iterator[Stretch]:
    """The last stretches of a step that is open."""
    row = step.step_run
    if row.status == "waiting":
        since = previous or row.started_at or row.created_at
        if not previous and row.ready_at and row.started_at and row.ready_at < row.started_at:
            yield from _before_start(row.ready_at, row.dispatched_at, row.started_at)
        yield _kind(step), since, None
    elif row.status == "ready" and row.ready_at:
        if previous:
            yield "retry-wait", previous, row.ready_at
        yield "throttled" if row.waiting_for == "limit" else "queued", row.ready_at, None
    elif row.status == "running" and row.ready_at and row.started_at:
        if previous:
            yield "retry-wait", previous, row.ready_at
        yield from _before_start(row.ready_at, row.dispatched_at, row.started_at)
        yield "running", row.started_at, None
