"""The charts of the overview, and how things stand now.

Charts read the counts of minutes (`engine/maintenance/measuring.py`), at most ten thousand rows. What is counted now is
counted up to a bound, which is said.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection
from django.utils import timezone

from workflows.definitions.compiled import NIL_UUID
from workflows.models import LeaderLease, MinuteCounts, Organization, Run, Worker
from workflows.models.worker import SILENT_AFTER_S

MINUTE = dt.timedelta(minutes=1)
MOST_COUNTED = 10_000
"""More live runs are not counted: "10,000 and more"."""
LAG = dt.timedelta(minutes=5)
"""Minutes are counted by the leader, within one and a half; none of so long means that nobody leads."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A choice of how far back charts go."""

    name: str
    title: str
    length: dt.timedelta
    bucket: dt.timedelta


SPANS = {
    span.name: span
    for span in (
        Span(name="1h", title="1 hour", length=dt.timedelta(hours=1), bucket=MINUTE),
        Span(name="24h", title="24 hours", length=dt.timedelta(hours=24), bucket=dt.timedelta(minutes=15)),
        Span(name="7d", title="7 days", length=dt.timedelta(days=7), bucket=dt.timedelta(hours=1)),
    )
}


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """What became of runs and tries within a part of a chart; `is_counted` is false where nobody counted."""

    at: dt.datetime
    is_counted: bool = False
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    tries: int = 0
    retries: int = 0
    waited_ms: int = 0
    longest_wait_ms: int = 0
    backlog: int | None = None
    oldest_ms: int | None = None

    @property
    def ended(self) -> int:
        return self.completed + self.failed + self.cancelled

    @property
    def failure_percent(self) -> float | None:
        """Of the runs that completed or failed."""
        both = self.completed + self.failed
        return round(100 * self.failed / both, 1) if both else None

    @property
    def retry_percent(self) -> float | None:
        """Of the tries."""
        return round(100 * self.retries / self.tries, 1) if self.tries else None

    @property
    def mean_wait_ms(self) -> int | None:
        return round(self.waited_ms / self.tries) if self.tries else None


_SUMS = """
SELECT date_bin(%(bucket)s, m.at, %(since)s), sum(m.completed), sum(m.failed), sum(m.cancelled), sum(m.tries),
       sum(m.retries), sum(m.waited_ms), max(m.longest_wait_ms), max(m.backlog), max(m.oldest_ms)
  FROM headrace_workflows_minutecounts m
 WHERE m.org_id = %(org)s AND m.at >= %(since)s AND m.at < %(until)s
 GROUP BY 1
"""
_COUNTED = """
SELECT date_bin(%(bucket)s, m.at, %(since)s), bool_or(m.backlog IS NOT NULL) FROM headrace_workflows_minutecounts m
 WHERE m.org_id = %(org)s AND m.at >= %(since)s AND m.at < %(until)s
 GROUP BY 1
"""


def buckets(organization: Organization, span: Span, now: dt.datetime | None = None) -> list[Bucket]:
    """The parts of a chart, the oldest first, up to the last minute that is over."""
    whole = span.bucket.total_seconds()
    until_s = (now or timezone.now()).timestamp() // whole * whole + (0 if span.bucket == MINUTE else whole)
    until = dt.datetime.fromtimestamp(until_s, dt.UTC)
    since = until - span.length
    given: dict[str, Any] = {"bucket": span.bucket, "since": since, "until": until}
    with connection.cursor() as cursor:
        cursor.execute(_COUNTED, {**given, "org": NIL_UUID})
        counted = dict(cursor.fetchall())
        cursor.execute(_SUMS, {**given, "org": organization.id})
        rows = {row[0]: row[1:] for row in cursor.fetchall()}
    times = [since + number * span.bucket for number in range(round(span.length / span.bucket))]
    return [_bucket(at, rows.get(at), is_counted=at in counted, looked=counted.get(at, False)) for at in times]


def _bucket(at: dt.datetime, row: Sequence[Any] | None, *, is_counted: bool, looked: bool) -> Bucket:
    """`looked`: what waited was counted, too; of minutes that are counted later it is not known any more."""
    if row is None:
        return Bucket(at=at, is_counted=is_counted, backlog=0 if looked else None)
    values = [int(value) if value is not None else None for value in row]
    sums = [value or 0 for value in values[:7]]
    return Bucket(
        at=at, is_counted=True, completed=sums[0], failed=sums[1], cancelled=sums[2], tries=sums[3], retries=sums[4],
        waited_ms=sums[5], longest_wait_ms=sums[6], backlog=values[7], oldest_ms=values[8],
    )  # fmt: skip


def total(parts: Sequence[Bucket]) -> Bucket:
    """All parts together; backlog and age are those of the last part that was counted."""
    last = next((part for part in reversed(parts) if part.is_counted), parts[-1])
    return Bucket(
        at=parts[0].at,
        is_counted=any(part.is_counted for part in parts),
        completed=sum(part.completed for part in parts),
        failed=sum(part.failed for part in parts),
        cancelled=sum(part.cancelled for part in parts),
        tries=sum(part.tries for part in parts),
        retries=sum(part.retries for part in parts),
        waited_ms=sum(part.waited_ms for part in parts),
        longest_wait_ms=max(part.longest_wait_ms for part in parts),
        backlog=last.backlog,
        oldest_ms=last.oldest_ms,
    )


def counted_until(now: dt.datetime) -> tuple[dt.datetime | None, bool]:
    """The end of the last minute that was counted, and whether that is too long ago."""
    at = MinuteCounts.objects.filter(org_id=NIL_UUID).order_by("-at").values_list("at", flat=True).first()
    return (at + MINUTE, now - at > LAG) if at is not None else (None, False)


@dataclass(frozen=True, kw_only=True)
class Now:
    """How things stand. Counts end at MOST_COUNTED; the backlog is that of the last minute that was counted."""

    running: int
    queued: int
    oldest_queued_at: dt.datetime | None
    backlog: int | None
    oldest_ready_at: dt.datetime | None
    counted_at: dt.datetime | None
    is_late: bool
    has_leader: bool = True
    workers: list[Worker] = field(default_factory=list)

    @property
    def slots(self) -> int:
        return sum(worker.slots for worker in self.workers)

    @property
    def active(self) -> int:
        return sum(worker.active for worker in self.workers)

    @property
    def cpu_cores(self) -> float | None:
        known = [worker.cpu_cores for worker in self.workers if worker.cpu_cores is not None]
        return round(sum(known), 2) if known else None

    @property
    def memory_bytes(self) -> int | None:
        known = [worker.memory_bytes for worker in self.workers if worker.memory_bytes is not None]
        return sum(known) if known else None


_LIVE = """
SELECT (SELECT count(*) FROM (SELECT FROM headrace_workflows_run
          WHERE org_id = %(org)s AND status = 'running' LIMIT %(most)s) r),
       (SELECT count(*) FROM (SELECT FROM headrace_workflows_run
          WHERE org_id = %(org)s AND status = 'queued' LIMIT %(most)s) q),
       (SELECT min(created_at) FROM headrace_workflows_run WHERE org_id = %(org)s AND status = 'queued')
"""


def now(organization: Organization) -> Now:
    """How things stand."""
    moment = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(_LIVE, {"org": organization.id, "most": MOST_COUNTED})
        running, queued, oldest = cursor.fetchone()
    counted_at, is_late = counted_until(moment)
    last, looked = None, False
    if counted_at is not None:
        of_minute = MinuteCounts.objects.filter(at=counted_at - MINUTE, org_id__in=[organization.id, NIL_UUID])
        rows = {row.org_id: row for row in of_minute}
        last, looked = rows.get(organization.id), rows[NIL_UUID].backlog is not None if NIL_UUID in rows else False
    age_ms = last.oldest_ms if last else None
    return Now(
        running=running,
        queued=queued,
        oldest_queued_at=oldest,
        backlog=(last.backlog if last else 0) if looked else None,
        oldest_ready_at=counted_at - dt.timedelta(milliseconds=age_ms) if counted_at and age_ms is not None else None,
        counted_at=counted_at,
        is_late=is_late,
        has_leader=not is_late or LeaderLease.objects.filter(expires_at__gt=moment).exists(),
        workers=list(
            Worker.objects.filter(seen_at__gt=moment - dt.timedelta(seconds=SILENT_AFTER_S)).order_by("name", "id")
        ),
    )


def has_runs(organization: Organization) -> bool:
    """Whether anything ever ran."""
    return Run.objects.filter(org_id=organization.id).exists()
