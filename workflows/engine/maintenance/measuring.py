"""The counts of each minute, for the charts of the overview: a chart reads some thousand rows, whatever the history.

A minute is counted once, a few seconds after its end: what commits later with a time within it is not in the charts.
After a time without a leader the minutes that are missing are counted from the rows, a part at each turn; only how many
steps waited then is not known any more.
"""

from __future__ import annotations

import datetime as dt
import time

from django.utils import timezone

from workflows.definitions.compiled import NIL_UUID
from workflows.engine.sql import measured as sql
from workflows.models import MinuteCounts, Run
from workflows.models.run import first_id

MINUTE = dt.timedelta(minutes=1)
KEPT_FOR = dt.timedelta(days=8)
"""A day more than the longest chart shows."""
LATE = dt.timedelta(seconds=8)
"""After its end: so long what was done in a minute may take to commit."""
TURN_S = 2.0
BATCH = 5_000
MOST_WAITING = 200_000
"""More steps that wait are not counted, so that a long queue costs the leader no more."""


def measure(now: dt.datetime | None = None) -> bool:
    """Count the minutes that are over. True where there are more."""
    moment = now or timezone.now()
    until, last = time.monotonic() + TURN_S, _floor(moment - LATE)
    at = _next(moment)
    while at < last:
        if time.monotonic() > until:
            return True
        first, following = first_id(at.timestamp()), first_id((at + MINUTE).timestamp())
        sql.measure_minute(at=at, first=first, next=following, looks=at + MINUTE == last, most=MOST_WAITING)
        at += MINUTE
    return len(sql.forget_minutes(until=moment - KEPT_FOR, batch=BATCH)) == BATCH


def _next(now: dt.datetime) -> dt.datetime:
    """The first minute that is not counted yet: at the begin that of the oldest run, as far as charts go back."""
    earliest = _floor(now - KEPT_FOR)
    counted = MinuteCounts.objects.filter(org_id=NIL_UUID).order_by("-at").values_list("at", flat=True).first()
    if counted is not None:
        return max(earliest, counted + MINUTE)
    oldest = Run.objects.order_by("id").values_list("created_at", flat=True).first()
    return max(earliest, _floor(oldest or now - 2 * MINUTE))


def _floor(at: dt.datetime) -> dt.datetime:
    return at.replace(second=0, microsecond=0)
