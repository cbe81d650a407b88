"""Quotas: how much an organization may take of the installation. Operators of the installation set them.

What comes from outside (events, deliveries of webhooks, runs that the API or the test page starts) is asked for, but
for a run that repeats a stored one. What the system starts itself (children, schedules, replays) is not, and nothing
that runs is harmed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import structlog
from django.db import transaction

from throttling.errors import StoreUnavailable
from throttling.limits import MAX_LIMIT
from throttling.models import ThrottleOverride
from workflows.engine.intake.meters import meter
from workflows.engine.pipeline import admit
from workflows.errors import InvalidInput, WorkflowsError
from workflows.models import Organization
from workflows.services import limits
from workflows.services.access import changes

log = structlog.get_logger(__name__)
KEEP = -1
"""The value of a quota that stays as it is."""
NO_QUOTA = 0
"""The value that takes a quota away."""
LEAST_BYTES = 1_000_000
MOST_BYTES = 1 << 60
COMMAND = "`manage.py organization quotas`"


class TooManyEvents(WorkflowsError):
    """The organization brings more events and runs in a second than its quota allows."""

    status, code = 429, "quota_events_per_second"

    def __init__(self, message: str | None = None, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoredTooMuch(WorkflowsError):
    """The organization stores more than its quota allows: nothing new is taken in until something is deleted."""

    status, code = 507, "quota_stored_bytes"


def charge(organization: Organization, count: int) -> None:
    """Count events or runs from outside, all or none; at most one call of the store, and none without a quota.

    Raises TooManyEvents and StoredTooMuch. Where the store does not answer, they are taken in uncounted: nothing that
    can be stored is refused because of it.
    """
    if organization.is_full:
        raise StoredTooMuch(
            f"The organization {organization.slug} stores more than its quota: nothing new is taken in until something "
            f"is deleted or an operator sets another quota ({COMMAND}). What runs goes on."
        )
    per_s = organization.events_per_s
    if per_s is None or not admit.is_on():
        return
    try:
        reading = meter().take(organization.id.hex, per_s, count)
    except StoreUnavailable:
        return
    if reading.wait_s > 0:
        raise TooManyEvents(
            f"The organization {organization.slug} may bring {per_s:,} events and runs in a second; send these "
            f"{count:,} in {math.ceil(reading.wait_s)} s.",
            retry_after_s=reading.wait_s,
        )


def charge_of(organization: Organization) -> Callable[[int], None]:
    """The charge of an organization, for verbs that find out by themselves how much is new (`services.trigger`)."""
    return partial(charge, organization)


def set_quotas(
    organization: Organization,
    *,
    events_per_s: int = KEEP,
    concurrent_steps: int = KEEP,
    stored_bytes: int = KEEP,
    by: str,
) -> Organization:
    """Set quotas; NO_QUOTA takes one away, KEEP leaves it. They hold for the next request, for steps within a second.

    All of them are set, with the limit that the quota of steps is, or none. Raises InvalidInput.
    """
    new = {
        "events_per_s": _checked("events per second", events_per_s, 1, MAX_LIMIT),
        "concurrent_steps": _checked("concurrent steps", concurrent_steps, 1, MAX_LIMIT),
        "stored_bytes_most": _checked("stored bytes", stored_bytes, LEAST_BYTES, MOST_BYTES),
    }
    with transaction.atomic():
        row = Organization.objects.select_for_update().get(pk=organization.pk)
        before = row.concurrent_steps
        was = {name: getattr(row, name) for name in new}
        for name, value in new.items():
            if value != KEEP:
                setattr(row, name, value or None)
        row.is_full = row.stored_bytes_most is not None and row.stored_bytes >= row.stored_bytes_most
        row.save(update_fields=[*new, "is_full"])
        changes.tell(was, {name: getattr(row, name) for name in new})
        if concurrent_steps != KEEP:
            _bring_limit(row, before, by=by)
    log.info(
        "quotas are set",
        org=row.slug,
        by=by,
        events_per_s=row.events_per_s,
        concurrent_steps=row.concurrent_steps,
        stored_bytes=row.stored_bytes_most,
    )
    return row


def _checked(what: str, value: int, least: int, most: int) -> int:
    if value in {KEEP, NO_QUOTA} or least <= value <= most:
        return value
    raise InvalidInput(f"{what}={value:,} is out of range; set it to {least:,}…{most:,}, or to 0 for no quota.")


def _bring_limit(organization: Organization, before: int | None, *, by: str) -> None:
    """The gate counts the quota of steps as the organization's own limit, which is as low or lower."""
    row = limits.find_limit(organization, "org")
    quota = organization.concurrent_steps
    if quota is None:
        if row is not None and before is not None and row.concurrency == before:  # it was the quota, none of its own
            row.concurrency = None
            only_that = row.rate_limit is None and row.weight is None
            (limits.delete_limit if only_that else limits.put_limit)(row, by=by, for_quota=True)
        return
    row = row or ThrottleOverride(scope="org", org_id=organization.id)
    is_of_quota = row.concurrency is None or row.concurrency > quota or row.concurrency == before
    if is_of_quota and row.concurrency != quota:
        row.concurrency = quota
        limits.put_limit(row, by=by, for_quota=True)
