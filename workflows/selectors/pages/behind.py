"""The runs behind a point of a chart: those that ended in a stretch of time, were tried again in it, or waited longest.

What ended is one range of an index. Tries have no index by organization and time: the latest of all organizations in
the stretch are read, up to a bound, and the answer says how far back that went.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models.fields.tuple_lookups import Tuple, TupleLessThan

from workflows.edge.values import decode_cursor, encode_cursor
from workflows.errors import InvalidInput
from workflows.models import Organization, Run
from workflows.models.run import first_id

SHOWN = 50
LONGEST = dt.timedelta(days=8)
MOST_TRIES = 20_000
ENDED: dict[str, tuple[str, ...]] = {
    "ended": ("completed", "failed", "cancelled"),
    "completed": ("completed",),
    "failed": ("failed",),
    "cancelled": ("cancelled",),
}
TITLES = {
    "ended": "Runs that ended",
    "completed": "Runs that completed",
    "failed": "Runs that failed",
    "cancelled": "Runs that were cancelled",
    "retried": "Runs with steps that were tried again",
    "waited": "Runs with the longest waits for a start",
}


@dataclass(frozen=True, kw_only=True)
class Behind:
    """Some runs. `notes`: by run, what it has to do with the point. `read_until`: older tries were not looked at."""

    runs: list[Run]
    notes: dict[UUID, str]
    next_cursor: str = ""
    read_until: dt.datetime | None = None


def runs_behind(
    organization: Organization, kind: str, since: dt.datetime, until: dt.datetime, *, cursor: str = ""
) -> Behind:
    """The runs behind a point. Raises InvalidInput for an unknown kind, a bad stretch of time or a bad cursor."""
    if kind not in TITLES:
        raise InvalidInput(f"kind {kind!r} is unknown; use {', '.join(TITLES)}.")
    if not since < until or until - since > LONGEST:
        raise InvalidInput("since, until: a stretch of time of at most 8 days, its begin before its end.")
    if kind in ENDED:
        return _ended(organization, ENDED[kind], since, until, cursor)
    return _tried(organization, kind, since, until)


def _ended(
    organization: Organization, statuses: tuple[str, ...], since: dt.datetime, until: dt.datetime, cursor: str
) -> Behind:
    place = decode_cursor(cursor, "ended", {"at": dt.datetime, "id": UUID}) if cursor else None
    found: list[Run] = []
    for status in statuses:  # a range of the index for each; merged, since no index has them in one order
        runs = Run.objects.filter(
            org_id=organization.id, status=status, ended_at__isnull=False, ended_at__gte=since, ended_at__lt=until
        )
        if place:
            runs = runs.filter(ended_at__lte=place["at"])
            runs = runs.filter(TupleLessThan(Tuple("ended_at", "id"), (place["at"], place["id"])))
        runs = runs.prefetch_related("flow", "version").defer("input", "output")
        found += runs.order_by("-ended_at", "-id")[: SHOWN + 1]
    found.sort(key=lambda run: (run.ended_at, run.id), reverse=True)
    page = found[:SHOWN]
    following = ""
    if len(found) > SHOWN:
        following = encode_cursor("ended", {"at": (page[-1].ended_at or until).isoformat(), "id": page[-1].id})
    return Behind(runs=page, notes={}, next_cursor=following)


_TRIED = """
WITH tries AS MATERIALIZED (
    SELECT a.id, a.org_id, a.run_id, a.number, a.ready_at, a.started_at, a.ended_at FROM headrace_workflows_attempt a
     WHERE a.id >= %(first)s AND a.id < %(next)s ORDER BY a.id DESC LIMIT %(most)s
), own AS (
    SELECT t.run_id, max(t.number) AS number, count(*) FILTER (WHERE t.number > 1) AS again,
           max(extract(epoch FROM t.started_at - t.ready_at))::float8 AS waited_s
      FROM tries t WHERE t.org_id = %(org)s GROUP BY t.run_id
), own_first AS (
    SELECT run_id, number, again, waited_s, CASE WHEN %(waited)s THEN waited_s ELSE again END AS rank FROM own
     WHERE CASE WHEN %(waited)s THEN waited_s IS NOT NULL ELSE again > 0 END
     ORDER BY rank DESC, run_id DESC LIMIT %(shown)s
)
SELECT o.run_id, o.number, o.again, o.waited_s, looked_at.number, looked_at.until
  FROM (SELECT count(*) AS number, min(ended_at) AS until FROM tries) looked_at LEFT JOIN own_first o ON true
 ORDER BY o.rank DESC, o.run_id DESC
"""


def _tried(organization: Organization, kind: str, since: dt.datetime, until: dt.datetime) -> Behind:
    given: dict[str, Any] = {
        "org": organization.id, "first": first_id(since.timestamp()), "next": first_id(until.timestamp()),
        "most": MOST_TRIES, "shown": SHOWN, "waited": kind == "waited",
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_TRIED, given)
        rows = cursor.fetchall()
    is_cut, until_at = rows[0][4] >= MOST_TRIES, rows[0][5]  # other organizations' tries count, too
    rows = [row for row in rows if row[0] is not None]
    runs = Run.objects.filter(org_id=organization.id).prefetch_related("flow", "version").defer("input", "output")
    by_id = runs.in_bulk([row[0] for row in rows])
    notes = {
        row[0]: f"waited {row[3]:.3g} s for a start"
        if kind == "waited"
        else f"{row[2]} more tries, up to the {row[1]}."
        for row in rows
    }
    return Behind(
        runs=[by_id[row[0]] for row in rows if row[0] in by_id], notes=notes, read_until=until_at if is_cut else None
    )
