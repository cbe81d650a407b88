"""What alert rules look at: each metric is one statement that gives a reading per organization.

Reading: org_id, value, and where it makes sense a run and a step that show it. An organization without a reading (too
few runs for a rate, say) does not breach.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils import timezone

from dlq.models import AlertRule
from throttling.policy import MAX_HEAD_START_S, level_of
from workflows.models.run import first_id
from workflows.selectors.runs import LOST_AFTER_S
from workflows.steps.failure_category import ALERTING


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A metric of an organization now."""

    org_id: UUID
    value: float
    run_id: UUID | None = None
    step: str = ""


PRIORITY_TARGETS_S = {"low": 3_600.0, "normal": 300.0, "high": 60.0, "critical": 5.0}
"""How long a ready step of a priority level should wait at most, the lowest level first; "background" has no target."""
_LEVELS_FROM = [
    next(each for each in range(-MAX_HEAD_START_S, MAX_HEAD_START_S + 1) if level_of(each) == level)
    for level in PRIORITY_TARGETS_S
]
"""The lowest priority of each of these levels."""
_SQL = {path.stem: path.read_text("utf-8") for path in (Path(__file__).parent.parent / "sql").glob("metric_*.sql")}


def statement(metric: str) -> str:
    """`sql/metric_<name>.sql`, which may use: now, since (the start of the window), first (its smallest uuid7),
    window_s, least (runs or steps for a rate), alerting (categories), lost_s (so long after its lease has run out a
    step counts as lost), levels_from and targets_s (of priority levels: their lowest priorities, ascending, and their
    targets)."""
    return _SQL[f"metric_{metric}"]


def read(rule: AlertRule) -> list[Reading]:
    """The readings of the rule's metric now, of its organization or of all."""
    now = timezone.now()
    since = now - dt.timedelta(seconds=rule.window_s)
    parameters: dict[str, Any] = {
        "now": now,
        "since": since,
        "first": first_id(since.timestamp()),
        "window_s": rule.window_s,
        "least": rule.min_runs,
        "alerting": list(ALERTING),
        "lost_s": LOST_AFTER_S,
        "levels_from": _LEVELS_FROM,
        "targets_s": list(PRIORITY_TARGETS_S.values()),
    }
    with connection.cursor() as cursor:
        cursor.execute(statement(rule.metric), parameters)
        rows = cursor.fetchall()
    readings = [Reading(org_id=row[0], value=float(row[1] or 0), run_id=row[2], step=row[3] or "") for row in rows]
    return [reading for reading in readings if rule.org_id in (None, reading.org_id)]
