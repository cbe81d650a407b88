"""The charts of the overview: their points, and the points that stand out, as links for those who use no pointer."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workflows.selectors.pages.measured import Bucket, Span

SHOWN_PEAKS = 3
Value = Callable[[Bucket], float | None]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line, or one kind of bars. `color`: a token of tokens.css."""

    label: str
    color: str
    value: Value


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart as the template shows it. `behind`: which runs lie behind its points (a kind of `runs_behind`)."""

    key: str
    title: str
    unit: str
    kind: str
    behind: str
    points: dict[str, Any]
    label: str
    peaks: list[dict[str, Any]]
    is_empty: bool


@dataclass(frozen=True, kw_only=True)
class _Form:
    key: str
    title: str
    unit: str
    kind: str
    behind: str
    peak: Value
    series: tuple[Series, ...]


def _seconds(value: int | None) -> float | None:
    return None if value is None else round(value / 1000, 2)


FORMS = (
    _Form(
        key="ended", title="Runs that ended", unit="runs", kind="bars", behind="ended", peak=lambda each: each.ended,
        series=(
            Series(label="completed", color="bar-running", value=lambda each: each.completed),
            Series(label="failed", color="bar-failed", value=lambda each: each.failed),
            Series(label="cancelled", color="bar-queued", value=lambda each: each.cancelled),
        ),
    ),
    _Form(
        key="failed", title="Failure rate", unit="% of the runs", kind="bars", behind="failed",
        peak=lambda each: each.failure_percent,
        series=(Series(label="failed", color="bar-failed", value=lambda each: each.failure_percent),),
    ),
    _Form(
        key="retried", title="Retry rate", unit="% of the tries", kind="bars", behind="retried",
        peak=lambda each: each.retry_percent,
        series=(Series(label="tried again", color="bar-retry-wait", value=lambda each: each.retry_percent),),
    ),
    _Form(
        key="waited", title="Throttling overhead", unit="s from ready to start: longest, mean", kind="bars",
        behind="waited", peak=lambda each: _seconds(each.longest_wait_ms) if each.tries else None,
        series=(
            Series(label="longest", color="bar-throttled",
                   value=lambda each: _seconds(each.longest_wait_ms) if each.tries else None),
            Series(label="mean", color="bar-run", value=lambda each: _seconds(each.mean_wait_ms)),
        ),
    ),
    _Form(
        key="backlog", title="Backlog", unit="steps ready and not started", kind="lines", behind="waited",
        peak=lambda each: each.backlog,
        series=(Series(label="ready", color="bar-run", value=lambda each: each.backlog),),
    ),
    _Form(
        key="age", title="Age of the backlog", unit="s since the first of it is ready", kind="lines", behind="waited",
        peak=lambda each: _seconds(each.oldest_ms),
        series=(Series(label="age", color="bar-approval", value=lambda each: _seconds(each.oldest_ms)),),
    ),
)  # fmt: skip


def charts(parts: Sequence[Bucket], span: Span) -> list[Chart]:
    """All charts of these parts."""
    return [_chart(form, parts, span) for form in FORMS]


def _chart(form: _Form, parts: Sequence[Bucket], span: Span) -> Chart:
    half_s = span.bucket.total_seconds() / 2
    series = [
        {
            "label": each.label,
            "color": each.color,
            "values": [each.value(part) if part.is_counted else None for part in parts],
        }
        for each in form.series
    ]
    peaks = _peaks(form.peak, parts, span.bucket)
    most = f"{peaks[0]['value']} at most" if peaks else "nothing"
    return Chart(
        key=form.key, title=form.title, unit=form.unit, kind=form.kind, behind=form.behind,
        points={"x": [int(part.at.timestamp() + half_s) for part in parts], "series": series},
        label=f"{form.title} ({form.unit}) over {span.title}: {most}", peaks=peaks,
        is_empty=not any(part.is_counted for part in parts),
    )  # fmt: skip


def _peaks(value: Value, parts: Sequence[Bucket], length: dt.timedelta) -> list[dict[str, Any]]:
    ranked = sorted(((value(part) or 0, part.at) for part in parts), reverse=True)
    return [
        {"value": f"{amount:g}", "since": at.isoformat(), "until": (at + length).isoformat(), "at": at}
        for amount, at in ranked[:SHOWN_PEAKS]
        if amount > 0
    ]
