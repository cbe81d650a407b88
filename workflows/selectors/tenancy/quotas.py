"""An organization's quotas, and how much of each it uses now."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from throttling.errors import StoreUnavailable
from workflows.engine.intake.meters import meter
from workflows.engine.pipeline import admit
from workflows.models import Organization, StepRun


@dataclass(frozen=True, kw_only=True)
class Quota:
    """`most`: None for any number. `used`: None where nothing is counted, or the store does not answer. `at`: when it
    was measured."""

    name: str
    what: str
    most: int | None
    used: int | None
    at: dt.datetime | None = None

    @property
    def is_reached(self) -> bool:
        return self.most is not None and self.used is not None and self.used >= self.most


def quotas(organization: Organization) -> list[Quota]:
    """The three quotas with their use: events of this second, steps that run, bytes as they were measured last."""
    row = Organization.objects.get(pk=organization.pk)
    return [
        Quota(
            name="eventsPerSecond",
            what="events and runs from outside in a second",
            most=row.events_per_s,
            used=_events_used(row),
        ),
        Quota(
            name="concurrentSteps",
            what="steps at once",
            most=row.concurrent_steps,
            used=StepRun.objects.filter(org_id=row.id, status="running").count(),
        ),
        Quota(
            name="storedBytes",
            what="bytes of payloads",
            most=row.stored_bytes_most,
            used=row.stored_bytes,
            at=row.stored_bytes_at,
        ),
    ]


def _events_used(organization: Organization) -> int | None:
    if organization.events_per_s is None or not admit.is_on():  # the charge counts nothing either
        return None
    try:
        return meter().look(organization.id.hex, organization.events_per_s).used
    except StoreUnavailable:
        return None
