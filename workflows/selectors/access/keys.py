"""The keys of an organization, how each stands, and those that want a look."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from workflows.edge.values import refuse_unstorable
from workflows.errors import KeyNotFound
from workflows.models import AccessKey, Organization
from workflows.selectors.access.authors import Change, authors
from workflows.this_process.configuration import PRESET_KEYS

EXPIRES_WITHIN = dt.timedelta(days=14)
UNUSED_FOR = dt.timedelta(days=90)
MOST = 1_000
SHOWN = 100
"""Keys on a page."""
KINDS_OF_ENTRIES = ("key", "access key", "organization")
"""By which faces name a key in the audit log. The entry of `organization create` stands for the first two keys of the
organization."""


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


# --- how each stands --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class KeyRow:
    """A key with how it stands: `live`, `expiring` (within EXPIRES_WITHIN), `overlapping` (its successor is there),
    `expired` or `revoked`. `by`: who made it, where the audit log still has it."""

    key: AccessKey
    state: str
    by: str
    successor: AccessKey | None = None

    @property
    def is_in_force(self) -> bool:
        return self.state not in {"expired", "revoked"}

    @property
    def is_preset(self) -> bool:
        """Whether the environment sets it, so that it is neither rotated nor renamed here."""
        return self.key.name in PRESET_KEYS


@dataclass(frozen=True, kw_only=True)
class KeyPage:
    """Some keys, the newest first; `following`: the cursor of the next ones, empty at the end."""

    rows: list[KeyRow]
    following: str


def page_of_keys(
    organization: Organization, *, ended: bool = False, search: str = "", before: UUID | None = None
) -> KeyPage:
    """A page of the keys in force, with `ended` of all; `search`: a part of the name, or the beginning of the key.

    Raises InvalidInput.
    """
    refuse_unstorable(search=search)
    now = timezone.now()
    found = AccessKey.objects.filter(organization=organization)
    if not ended:
        found = found.filter(_in_force(now))
    if search:
        found = found.filter(Q(name__icontains=search) | Q(prefix__startswith=search[:14]))
    if before is not None:
        found = found.filter(id__lt=before)
    keys_ = list(found.prefetch_related("successors").order_by("-id")[: SHOWN + 1])
    rows = _rows(organization, keys_[:SHOWN], now)
    return KeyPage(rows=rows, following=str(keys_[SHOWN - 1].id) if len(keys_) > SHOWN else "")


def key_row(organization: Organization, key_id: UUID) -> KeyRow:
    """One key. Raises KeyNotFound."""
    found = AccessKey.objects.filter(organization=organization, id=key_id).prefetch_related("successors").first()
    if found is None:
        raise KeyNotFound
    return _rows(organization, [found], timezone.now())[0]


def _rows(organization: Organization, found: Sequence[AccessKey], now: dt.datetime) -> list[KeyRow]:
    changes = [
        Change(
            mark=str(key.id),
            at=key.created_at,
            objects=[str(key.id), key.name if key.name in PRESET_KEYS else organization.slug]
            + ([str(key.replaces_id)] if key.replaces_id else []),
        )
        for key in found
    ]
    by = authors(organization, changes, KINDS_OF_ENTRIES)
    return [
        KeyRow(key=key, state=state_of(key, now), by=by.get(str(key.id), ""), successor=_successor(key))
        for key in found
    ]


def _successor(key: AccessKey) -> AccessKey | None:
    """The key that was issued in its place and was not revoked since."""
    return next((each for each in key.successors.all() if each.revoked_at is None), None)


def state_of(key: AccessKey, now: dt.datetime) -> str:
    """How a key stands, in one word."""
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "live"
    if key.expires_at <= now:
        return "expired"
    if _successor(key) is not None:
        return "overlapping"
    return "expiring" if key.expires_at <= now + EXPIRES_WITHIN else "live"
