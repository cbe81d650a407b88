"""How many runs there are over time, by status: of the newest of them, so it costs the same whatever the history."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from workflows.models import Organization
from workflows.models.run import LIVE_RUN
from workflows.selectors.searching.criteria import Criteria

MOST_READ = 10_000
BARS, FEWEST = 60, 12
STEPS_S = (1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400, 604_800)
COLORS = {"completed": "bar-running", "failed": "bar-failed", "cancelled": "cancelled", "live": "running"}


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of runs by time (of creation) and status.

    `points`: for the chart. `counts`: in all, by status (`live`: queued or running). `is_partial`: there are more runs
    than were read; they are older than the first bar. `among`: of a search that is partial, how many runs it looked at.
    """

    points: dict[str, Any]
    counts: dict[str, int]
    total: int
    step_s: int
    is_partial: bool
    among: int = 0

    @property
    def among_text(self) -> str:
        return f"{self.among:,}"


def histogram(organization: Organization, criteria: Criteria, *, now: dt.datetime) -> Histogram:
    """The newest runs that match, over time. (Not narrowed by texts and expressions: those are searched.)

    What no index knows is looked for among the newest MOST_READ runs of the others.
    """
    runs, among = criteria.where.apply(organization).order_by("-id"), 0
    if criteria.is_walk:
        last = list(runs.values_list("id", flat=True)[MOST_READ - 1 : MOST_READ + 1])
        if len(last) > 1:
            runs, among = runs.filter(id__gte=last[0]), MOST_READ
    rows = list(criteria.narrow(runs, bodies=False).values_list("created_at", "status")[: MOST_READ + 1])
    is_partial = bool(among) or len(rows) > MOST_READ
    counted = _counted([(at, _word(status)) for at, status in rows[:MOST_READ]], criteria, now, is_partial)
    return replace(counted, among=among)


def _word(status: str) -> str:
    return "live" if status in LIVE_RUN else status


def _counted(rows: list[tuple[dt.datetime, str]], criteria: Criteria, now: dt.datetime, is_partial: bool) -> Histogram:
    counts = Counter(status for _, status in rows)
    if not rows:
        return Histogram(points={"x": [], "series": []}, counts={}, total=0, step_s=1, is_partial=is_partial)
    since = criteria.where.since if criteria.where.since and not is_partial else min(at for at, _ in rows)
    until = min(criteria.where.until or now, now)
    span_s = max((until - since).total_seconds(), 1.0)
    step_s = next((each for each in STEPS_S if span_s / each <= BARS), math.ceil(span_s / BARS / 86_400) * 86_400)
    first = int(since.timestamp()) // step_s
    bars = max(int(until.timestamp()) // step_s - first + 1, 1)
    first, bars = first - max(FEWEST - bars, 0), max(bars, FEWEST)
    values = {name: [0] * bars for name in COLORS if counts[name]}
    for at, status in rows:
        values[status][min(max(int(at.timestamp()) // step_s - first, 0), bars - 1)] += 1
    points = {
        "x": [(first + bar) * step_s + step_s / 2 for bar in range(bars)],
        "series": [{"label": name, "color": COLORS[name], "values": found} for name, found in values.items()],
    }
    return Histogram(points=points, counts=dict(counts), total=len(rows), step_s=step_s, is_partial=is_partial)
