"""Who has made something, by the audit log: the entry is written with the change, so it lies close to it in time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

from workflows.models import Organization
from workflows.models.run import first_id

BEFORE = dt.timedelta(seconds=1)
AFTER = dt.timedelta(minutes=1)
"""A command writes its entry when it has done all that it does."""
_AUTHORS = """
SELECT DISTINCT ON (k.mark) k.mark, e.actor_kind, e.actor
  FROM unnest(%(marks)s::text[], %(objects)s::text[], %(since)s::uuid[], %(until)s::uuid[])
       AS k (mark, object, since, until)
 CROSS JOIN LATERAL (
       SELECT a.id, a.actor_kind, a.actor FROM headrace_workflows_auditentry a
        WHERE a.org_id = %(org)s AND a.id >= k.since AND a.id < k.until AND a.object_id = k.object
          AND a.object_kind = ANY (%(kinds)s) AND (a.object_kind <> 'organization' OR a.verb = 'organization.create')
        ORDER BY a.id LIMIT 1) e
 ORDER BY k.mark, e.id
"""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something that was made or changed at a time; `objects`: the ids under which an entry may name it."""

    mark: str
    at: dt.datetime
    objects: Sequence[str]


def authors(organization: Organization, changes: Sequence[Change], kinds: Sequence[str]) -> dict[str, str]:
    """By mark, who has made the change (`login anna`); without those of which the log says nothing (any more)."""
    rows = [
        (each.mark, name, first_id((each.at - BEFORE).timestamp()), first_id((each.at + AFTER).timestamp()))
        for each in changes
        for name in each.objects
    ]
    if not rows:
        return {}
    marks, objects, since, until = (list(column) for column in zip(*rows, strict=True))
    given: dict[str, Any] = {"marks": marks, "objects": objects, "since": since, "until": until, "org": organization.id,
             "kinds": list(kinds)}  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_AUTHORS, given)
        found: list[tuple[str, str, str]] = cursor.fetchall()
    return {mark: author(kind, actor) for mark, kind, actor in found}


def author(kind: str, actor: str) -> str:
    """An actor of the audit log in words."""
    return f"{kind} {actor}" if kind != "system" else actor
