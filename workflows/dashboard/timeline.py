"""The waterfall of a run: for each step its bars (queued, running, waiting), as percentages of the run's time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from workflows.presenters import ms
from workflows.selectors import RunDetail, StepDetail


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One stretch of time: `kind` is queued, running, failed, retry-wait, sleeping or lost; `left` and `width` in %."""

    kind: str
    left: float
    width: float
    title: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """A step and its bars."""

    step: StepDetail
    bars: list[Bar]
    duration_ms: int | None


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All rows, and the span they cover in milliseconds."""

    rows: list[Row]
    span_ms: int


def timeline(detail: RunDetail, now: dt.datetime) -> Timeline:
    """Lay out the run from its creation to its end (or to `now`)."""
    start = detail.run.created_at
    end = max(detail.run.ended_at or now, start + dt.timedelta(milliseconds=1))
    rows = []
    ended = {step.step_run.key: step.step_run.ended_at for step in detail.steps}
    for step in detail.steps:
        needs = step.compiled.needs if step.compiled else ()
        could_start = max((moment for key in needs if (moment := ended.get(key))), default=start)
        stretches = [*_slept(step, could_start), *_stretches(step, now)]
        bars = [_bar(kind, since, until, start, end) for kind, since, until in stretches if until >= since]
        executing = [ms(since, until) or 0 for kind, since, until in stretches if kind in {"running", "failed", "lost"}]
        rows.append(Row(step=step, bars=bars, duration_ms=sum(executing) if executing else None))
    return Timeline(rows=rows, span_ms=ms(start, end) or 1)


def _slept(step: StepDetail, could_start: dt.datetime) -> Iterator[tuple[str, dt.datetime, dt.datetime]]:
    """The sleep of a step that has woken; it began when what the step needs had ended."""
    woke = step.attempts[0].ready_at if step.attempts else step.step_run.ready_at
    if step.step_run.wake_seq and woke:
        yield "sleeping", could_start, woke


def _stretches(step: StepDetail, now: dt.datetime) -> Iterator[tuple[str, dt.datetime, dt.datetime]]:
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
        yield ("retry-wait" if row.waiting_for == "retry" else "sleeping"), previous or row.created_at, now
    elif row.status == "ready" and row.ready_at:
        if previous:
            yield "retry-wait", previous, row.ready_at
        yield "queued", row.ready_at, now
    elif row.status == "running" and row.ready_at and row.started_at:
        if previous:
            yield "retry-wait", previous, row.ready_at
        yield "queued", row.ready_at, row.started_at
        yield "running", row.started_at, now


def _bar(kind: str, since: dt.datetime, until: dt.datetime, start: dt.datetime, end: dt.datetime) -> Bar:
    whole = (end - start).total_seconds()
    left = max(0.0, (since - start).total_seconds() / whole * 100)
    width = max(0.35, (until - since).total_seconds() / whole * 100)
    left = min(left, 99.65)
    return Bar(
        kind=kind, left=round(left, 3), width=round(min(width, 100 - left), 3), title=f"{kind}: {ms(since, until)} ms"
    )
