"""How many bytes of payloads each organization stores: measured by the hour in which rows were made, and summed.

The newest two hours are measured each minute; the others in turn, since steps end later than they begin and since rows
are deleted. So the sum is exact for what has ended within two hours, and for the rest after a turn of all hours.
"""

from __future__ import annotations

import datetime as dt
import time

import structlog
from django.db.models import Exists, OuterRef
from django.utils import timezone

from workflows import this_process
from workflows.engine.sql import usage as sql
from workflows.models import MeasuredHour, StoredBytes
from workflows.models.run import first_id

log = structlog.get_logger(__name__)
HOUR = dt.timedelta(hours=1)
EVERY_S = 60.0
SHARE = 0.05
"""At most so much of the time goes into measuring: after a long measurement the next one comes later."""
WITHIN_S = 3.0
"""One look at the hours in turn begins no further hour after so long."""
MOST_HOURS = 24 * 366 * 5
"""Hours that are older when they are first looked for are not counted; one that was measured once stays in turn."""
NEVER = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class _Pace:
    """When this process measures next."""

    def __init__(self) -> None:
        self.next_at = 0.0


def measure() -> bool:
    """Measure where it is time to. Returns False: there is nothing left to do at once."""
    pace = this_process.own(_Pace)
    begun = time.monotonic()
    if begun >= pace.next_at:
        try:
            measure_now(timezone.now())
        finally:  # one that failed took its time too
            took_s = time.monotonic() - begun
            pace.next_at = begun + max(EVERY_S, took_s / SHARE)
    return False


def measure_now(now: dt.datetime) -> None:
    """Measure the newest two hours and, for a few seconds, those whose turn it is; then sum."""
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    begun = time.monotonic()
    for hour in (this_hour, this_hour - HOUR):
        _measure(hour)
    for hour in _in_turn(this_hour):
        if time.monotonic() - begun > WITHIN_S:
            break
        _measure(hour)
    for row in sql.sum_organizations():
        what = "an organization stores more than its quota" if row.is_full else "an organization is below its quota"
        log.warning(what, org=row.slug, stored_bytes=row.bytes)


def _measure(hour: dt.datetime) -> None:
    sql.measure_hour(hour=hour, first=first_id(hour.timestamp()), last=first_id((hour + HOUR).timestamp()))


def _in_turn(this_hour: dt.datetime) -> list[dt.datetime]:
    """The hours in which there may be rows, those first that were measured longest ago."""
    (oldest,) = sql.oldest_row()
    known = MeasuredHour.objects.filter(hour__lt=this_hour - HOUR)
    first = this_hour
    if oldest.id is not None:
        made_at = dt.datetime.fromtimestamp((oldest.id.int >> 80) / 1000, dt.UTC)
        first = max(made_at.replace(minute=0, second=0, microsecond=0), this_hour - MOST_HOURS * HOUR)
        count = max(0, int((this_hour - first) / HOUR) - 1)
        if known.filter(hour__gte=first).count() < count:
            hours = [MeasuredHour(hour=first + place * HOUR, measured_at=NEVER) for place in range(count)]
            MeasuredHour.objects.bulk_create(hours, ignore_conflicts=True, batch_size=1_000)
    measured = StoredBytes.objects.filter(hour=OuterRef("hour"))
    known.filter(~Exists(measured), hour__lt=first).delete()  # their rows are deleted, and nothing is counted there
    return list(known.order_by("measured_at").values_list("hour", flat=True)[:1_000])
