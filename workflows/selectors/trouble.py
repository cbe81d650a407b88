"""What `doctor` says beyond counts: the sweeps in trouble, the oldest unmatched event, and versions that don't load."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from django.db import connection
from django.db.models import Min

from workflows.engine.state import flow_cache
from workflows.models import Event, Flow, Run
from workflows.models.run import LIVE_RUN
from workflows.sealing.envelope import open_text


@dataclass(frozen=True, kw_only=True)
class SweepTrouble:
    """What a sweep or job can't do now: itself (no `example`), or so many of its items."""

    sweep: str
    what: str
    """`fails`, `items`, `overran` or `given up`."""
    count: int
    tries: int
    since: dt.datetime
    example: str
    organizations: int
    error: str


_TROUBLES = """
SELECT DISTINCT ON (what, sweep) sweep, what, count(*) OVER each, sum(tries) OVER each, min(since) OVER each, item,
       (SELECT count(DISTINCT o.org_id) FROM headrace_workflows_sweepfailure o
           WHERE o.sweep = f.sweep AND o.item <> ''), error
  FROM (SELECT *, CASE WHEN given_up_at IS NOT NULL THEN 'given up' WHEN kind = 'overran' THEN 'overran'
                       WHEN item = '' THEN 'fails' ELSE 'items' END AS what FROM headrace_workflows_sweepfailure) f
WINDOW each AS (PARTITION BY what, sweep)
 ORDER BY what, sweep, last_at DESC
"""


def sweep_troubles() -> list[SweepTrouble]:
    """By sweep and kind of trouble: how many items, since when, and the last error."""
    with connection.cursor() as cursor:
        cursor.execute(_TROUBLES)
        rows = cursor.fetchall()
    names = ("sweep", "what", "count", "tries", "since", "example", "organizations", "error")
    return [
        SweepTrouble(**dict(zip(names, (*row[:3], int(row[3]), *row[4:-1], open_text(row[-1])), strict=True)))
        for row in rows
    ]


def oldest_unmatched_event() -> dt.datetime | None:
    """When the oldest event was received that nobody has matched."""
    oldest: dt.datetime | None = Event.objects.filter(matched_at=None).aggregate(at=Min("received_at"))["at"]
    return oldest


@dataclass(frozen=True, kw_only=True)
class BadVersion:
    """A version in use that this process can't load: a flow's current one, or one with live runs."""

    version_id: UUID
    reason: str


VERSIONS_AT_ONCE = 200


def unloadable_versions() -> list[BadVersion]:
    """The current versions of flows, and those of live runs, that this process can't load. Compiles all of them."""
    current = Flow.objects.filter(archived_at=None).exclude(current=None).values_list("current_id", flat=True)
    live = Run.objects.filter(status__in=LIVE_RUN).values_list("version_id", flat=True).distinct()
    ids = sorted({*current, *live})
    found: list[BadVersion] = []
    for first in range(0, len(ids), VERSIONS_AT_ONCE):
        refused = flow_cache.load(ids[first : first + VERSIONS_AT_ONCE]).refused
        found += [BadVersion(version_id=id_, reason=str(error)) for id_, error in refused.items()]
    return found
