"""The keys of an organization, and those that want a look."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db.models import Q
from django.utils import timezone

from workflows.models import AccessKey, Organization

EXPIRES_WITHIN = dt.timedelta(days=14)
UNUSED_FOR = dt.timedelta(days=90)
MOST = 1_000


def keys(organization: Organization, *, ended: bool = False) -> list[AccessKey]:
    """The keys in force, newest first; with `ended` those that are revoked or have expired too."""
    found = AccessKey.objects.filter(organization=organization)
    if not ended:
        found = found.filter(_in_force(timezone.now()))
    return list(found.order_by("-id")[:MOST])


def _in_force(now: dt.datetime) -> Q:
    return Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))


@dataclass(frozen=True, kw_only=True)
class KeyTrouble:
    """A key that wants a look, of any organization, and why."""

    organization: str
    key: str
    reason: str

    def __str__(self) -> str:
        return f"The key {self.key} of {self.organization} {self.reason}"


def troubles(now: dt.datetime) -> list[KeyTrouble]:
    """Keys in force that expire soon and have no successor, and those that nobody uses."""
    rows = AccessKey.objects.filter(_in_force(now)).select_related("organization")
    soon = rows.filter(expires_at__lte=now + EXPIRES_WITHIN, successors=None)
    old = now - UNUSED_FOR
    unused = rows.filter(Q(last_used_at__lt=old) | Q(last_used_at=None, created_at__lt=old))
    return [
        *(_trouble(row, f"expires at {row.expires_at:%Y-%m-%d %H:%M} UTC: rotate it.") for row in soon[:MOST]),
        *(_trouble(row, "has not been used for 90 days: revoke it.") for row in unused[:MOST]),
    ]


def _trouble(row: AccessKey, reason: str) -> KeyTrouble:
    return KeyTrouble(organization=row.organization.slug, key=str(row), reason=reason)
