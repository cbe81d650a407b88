"""What the pages of schedules and webhooks show."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass, field
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet

from workflows.edge.values import refuse_unstorable
from workflows.engine.state.secret_sources import secrets_of
from workflows.models import Organization, Secret, Trigger

SHOWN = 200
FIRES_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Fire:
    """A fire time of a schedule, and what came of it."""

    fire_at: dt.datetime
    outcome: str
    run_id: UUID | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Fires:
    """The latest fire times of a schedule, newest first."""

    fires: list[Fire] = field(default_factory=list)

    @property
    def last(self) -> Fire | None:
        return self.fires[0] if self.fires else None

    @property
    def missed(self) -> int:
        """How many of them started nothing although they should have: missed or refused."""
        return sum(fire.outcome in {"missed", "refused"} for fire in self.fires)


def crons(organization: Organization, search: str = "") -> list[Trigger]:
    """The schedules of flows in use, by flow; one more than SHOWN where there are more."""
    return list(_of_kind(organization, Trigger.Kind.CRON, search)[: SHOWN + 1])


def webhooks(organization: Organization, search: str = "") -> list[Trigger]:
    """The webhooks of flows in use, by flow; one more than SHOWN where there are more."""
    return list(_of_kind(organization, Trigger.Kind.WEBHOOK, search)[: SHOWN + 1])


def _of_kind(organization: Organization, kind: str, search: str) -> QuerySet[Trigger]:
    refuse_unstorable(search=search)
    found = Trigger.objects.select_related("flow").filter(organization=organization, kind=kind, flow__archived_at=None)
    if search:
        found = found.filter(Q(flow__slug__icontains=search) | Q(event_name__icontains=search))
    return found.order_by("flow__slug", "position")


_FIRES = """
SELECT t.id, c.fire_at, c.outcome, c.run_id, c.reason
  FROM headrace_workflows_trigger t
 CROSS JOIN LATERAL (SELECT f.fire_at, f.outcome, f.run_id, f.reason FROM headrace_workflows_cronfire f
                      WHERE f.flow_id = t.flow_id
                        AND f.schedule = concat(t.config ->> 'schedule', ' ', t.config ->> 'timezone')
                      ORDER BY f.fire_at DESC LIMIT %(shown)s) c
 WHERE t.id = ANY (%(ids)s)
 ORDER BY c.fire_at DESC
"""


def fires(triggers: list[Trigger]) -> dict[UUID, Fires]:
    """By schedule, its latest fire times: a range of the index for each."""
    found: dict[UUID, list[Fire]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_FIRES, {"ids": [each.id for each in triggers], "shown": FIRES_SHOWN})
        for id_, fire_at, outcome, run_id, reason in cursor.fetchall():
            found[id_].append(Fire(fire_at=fire_at, outcome=outcome, run_id=run_id, reason=reason))
    return {each.id: Fires(fires=found[each.id]) for each in triggers}


_LAST = """
SELECT n.name, e.id, e.received_at
  FROM unnest(%(names)s::text[]) AS n (name)
 CROSS JOIN LATERAL (SELECT x.id, x.received_at FROM headrace_workflows_event x
                      WHERE x.org_id = %(org)s AND x.name = n.name ORDER BY x.received_at DESC LIMIT 1) e
"""


def last_events(organization: Organization, names: set[str]) -> dict[str, tuple[UUID, dt.datetime]]:
    """By name, the last event: its id, and when it was received."""
    with connection.cursor() as cursor:
        cursor.execute(_LAST, {"org": organization.id, "names": sorted(names)})
        return {name: (id_, at) for name, id_, at in cursor.fetchall()}


def missing_secrets(organization: Organization, names: set[str]) -> set[str]:
    """Those of the names that no source of secrets has; none of them while a source can't be read."""
    stored = Secret.objects.filter(organization=organization, name__in=names).values_list("name", flat=True)
    others = names - set(stored)
    if not others:
        return others
    values, _ = secrets_of(organization.id)
    return set() if values.failed_sources else others - values.keys() - values.unreadable.keys()
