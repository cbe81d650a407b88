"""The waterfall of a run: for each step its stretches of time (queued, running, waiting), from the run's creation on.

The browser draws them: the width of a stretch changes with each second of a live run, and nothing is sent for it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from workflows.presenters.step_metrics import ms
from workflows.selectors.runs import RunDetail, StepDetail

Stretch = tuple[str, dt.datetime, dt.datetime | None]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One stretch: `kind` is queued, running, failed, retry-wait, sleeping or lost; from `since` to `until` in
    milliseconds after the run's creation, or until now (None)."""

    kind: str
    since: int
    until: int | None


def bars(detail: RunDetail) -> Mapping[str, list[Bar]]:
    """The stretches of each step, by its key."""
    ended = {step.step_run.key: step.step_run.ended_at for step in detail.steps}
    begin = detail.run.created_at
    found = {}
    for step in detail.steps:
        needs = step.compiled.needs if step.compiled else ()
        could_start = max((moment for key in needs if (moment := ended.get(key))), default=begin)
        stretches = [*_slept(step, could_start), *_stretches(step)]
        found[step.step_run.key] = [
            Bar(kind=kind, since=max(ms(begin, since) or 0, 0), until=None if until is None else ms(begin, until))
            for kind, since, until in stretches
            if until is None or until >= since
        ]
    return found


def executed_ms(step_bars: list[Bar]) -> int | None:
    """How long a step executed in the tries that have ended; None where none has."""
    ended = [bar.until - bar.since for bar in step_bars if bar.kind in {"running", "failed", "lost"} and bar.until]
    return sum(ended) if ended else None


def _slept(step: StepDetail, could_start: dt.datetime) -> Iterator[Stretch]:
    """The sleep of a step that has woken; it began when what the step needs had ended."""
    woke = step.attempts[0].ready_at if step.attempts else step.step_run.ready_at
    if step.step_run.wake_seq and woke:
        yield "sleeping", could_start, woke


def _stretches(step: StepDetail) -> Iterator[Stretch]:
    previous: dt.datetime | None = None
    for attempt in step.attempts:
        if previous and attempt.ready_at:
            yield "retry-wait", previous, attempt.ready_at
        if attempt.ready_at and attempt.started_at:
            yield "queued", attempt.ready_at, attempt.started_at
        if attempt.started_at:
            kind = {"completed": "running", "lost": "lost"}.get(attempt.status, "failed")
            yield kind, attempt.started_at, attempt.ended_at
        previous = attempt.ended_at
    row = step.step_run
    if row.status == "waiting":
        yield ("retry-wait" if row.waiting_for == "retry" else "sleeping"), previous or row.created_at, None
    elif row.status == "ready" and row.ready_at:
        if previous:
            yield "retry-wait", previous, row.ready_at
        yield "queued", row.ready_at, None
    elif row.status == "running" and row.ready_at and row.started_at:
        if previous:
            yield "retry-wait", previous, row.ready_at
        yield "queued", row.ready_at, row.started_at
        yield "running", row.started_at, None
