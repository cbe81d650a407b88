"""How many runs there are over time, by status: of the newest of them, so it costs the same whatever the history."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet

from workflows.models import Organization, Run
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
    rows = criteria.narrow(runs, bodies=False)
    seconds = _by_second(rows[:MOST_READ])
    is_partial = bool(among) or (seconds.total() == MOST_READ and rows[MOST_READ : MOST_READ + 1].exists())
    return replace(_counted(seconds, criteria, now, is_partial), among=among)


def _by_second(rows: QuerySet[Run]) -> Counter[tuple[int, str]]:
    """How many of these runs there are, by the second of their creation (since 1970) and status. The database counts:
    thousands of rows are many milliseconds of this process."""
    counts: Counter[tuple[int, str]] = Counter()
    try:
        sql, parameters = rows.values_list("created_at", "status").query.sql_with_params()
    except EmptyResultSet:  # the filters can't match any run
        return counts
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT floor(extract(epoch FROM created_at))::bigint, status, count(*)"
            f" FROM ({sql}) AS found (created_at, status) GROUP BY 1, 2",
            parameters,
        )
        for second, status, count in cursor.fetchall():
            counts[second, _word(status)] += count
    return counts


def _word(status: str) -> str:
    return "live" if status in LIVE_RUN else status


def _counted(seconds: Counter[tuple[int, str]], criteria: Criteria, now: dt.datetime, is_partial: bool) -> Histogram:
    if not seconds:
        return Histogram(points={"x": [], "series": []}, counts={}, total=0, step_s=1, is_partial=is_partial)
    counts: Counter[str] = Counter()
    for (_, status), count in seconds.items():
        counts[status] += count
    where = criteria.where
    since = where.since.timestamp() if where.since and not is_partial else min(second for second, _ in seconds)
    until = min(where.until or now, now).timestamp()
    span_s = max(until - since, 1.0)
    step_s = next((each for each in STEPS_S if span_s / each <= BARS), math.ceil(span_s / BARS / 86_400) * 86_400)
    first = int(since) // step_s
    bars = max(int(until) // step_s - first + 1, 1)
    first, bars = first - max(FEWEST - bars, 0), max(bars, FEWEST)
    values = {name: [0] * bars for name in COLORS if counts[name]}
    for (second, status), count in seconds.items():
        values[status][min(max(second // step_s - first, 0), bars - 1)] += count
    points = {
        "x": [(first + bar) * step_s + step_s / 2 for bar in range(bars)],
        "series": [{"label": name, "color": COLORS[name], "values": found} for name, found in values.items()],
    }
    total = counts.total()
    return Histogram(points=points, counts=dict(counts), total=total, step_s=step_s, is_partial=is_partial)
