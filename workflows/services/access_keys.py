"""Keys: whose one is, issuing, rotating and revoking.

A key is looked up for each request, so that one that is revoked or expires is refused by the next one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from workflows.edge import access
from workflows.engine.sql import services as sql
from workflows.errors import Forbidden, InvalidInput, KeyExpired, KeyIssuedBefore, KeyNotFound, KeyNotInForce
from workflows.models import AccessKey, Organization
from workflows.payload import text_fault
from workflows.services.access import changes, key_uses
from workflows.this_process.configuration import PRESET_KEYS

MAX_NAME = 100
LONGEST = dt.timedelta(days=3_653)
DEFAULT_OVERLAP = dt.timedelta(days=1)
MAX_OVERLAP = dt.timedelta(days=90)
Has = Callable[[str], bool]
"""Whether a login has the right of a word of `access.RIGHTS`."""


def find(key: str) -> AccessKey | None:
    """The key, with its organization; None for one that was never issued. It may be revoked or expired.

    By a prepared statement: the ORM makes its SQL anew each time, which took most of a request.
    """
    digest = AccessKey.digest_of(key)
    for row in sql.access_key(digest=digest):
        organization = Organization.from_db(
            "default",
            (
                "id",
                "slug",
                "name",
                "skips_arrivals",
                "redaction",
                "events_per_s",
                "is_full",
                "created_at",
            ),  # as the model
            (
                row.org_id,
                row.org_slug,
                row.org_name,
                row.org_skips_arrivals,
                row.org_redaction,
                row.events_per_s,
                row.is_full,
                row.org_created_at,
            ),
        )
        names = (
            "id", "organization_id", "kind", "name", "prefix", "digest", "operator", "scopes", "created_at",
            "expires_at", "revoked_at",
        )  # fmt: skip
        values = (
            row.id, row.org_id, row.kind, row.name, row.prefix, digest, row.operator, row.scopes, row.created_at,
            row.expires_at, row.revoked_at,
        )  # fmt: skip
        found = AccessKey.from_db("default", names, values)
        found.organization = organization
        found.is_expired = row.expired
        return found
    return None


def find_valid(key: str, kind: str) -> AccessKey | None:
    """The key where it is of this kind and in force; its use is noted. Raises KeyExpired."""
    found = find(key)
    if found is None or found.kind != kind or found.revoked_at is not None:
        return None
    if found.is_expired:
        raise KeyExpired(
            f"The key {found.prefix}… expired at {found.expires_at:%Y-%m-%d %H:%M} UTC: use its successor."
        )
    key_uses.note_use(found.digest)
    return found


def has_right(key: AccessKey, right: str) -> bool:
    """Whether the key's scopes allow a right (a word of `access.RIGHTS`). One without scopes has every right."""
    return not key.scopes or right in _with_included(key.scopes)


def _with_included(scopes: Collection[str]) -> set[str]:
    """The scopes, and those that one of them includes, as the rights of logins do."""
    named = {permission: word for word, permission in access.RIGHTS.items()}
    included = {named[less] for less, more in access.INCLUDED.items() if named[more] in scopes}
    return {*scopes, *included}


def issue(
    organization: Organization,
    kind: str,
    name: str,
    *,
    scopes: Collection[str] = (),
    operator: bool = False,
    expires_at: dt.datetime | None = None,
    by: AccessKey | None = None,
    may: Has | None = None,
    as_operator: bool = False,
    key_id: UUID | None = None,
) -> tuple[AccessKey, str]:
    """A new key of the organization: its row, and the key itself, which is shown this once.

    `scopes`: the rights of an API key; none: all of them. `by`: the key that asks, `may`: whether the login that asks
    has a right; neither gives more than it has. `as_operator`: an operator of the installation asks; nobody else
    issues an operator's key. `key_id`: the id that it gets; a second call with it makes no second key.
    Raises InvalidInput, Forbidden, KeyIssuedBefore.
    """
    name = _checked_name(name)
    if kind not in AccessKey.Kind.values:
        raise InvalidInput(f"kind: {kind!r} is unknown; use {' or '.join(AccessKey.Kind.values)}.")
    wanted = checked_scopes(kind, scopes)
    if operator and kind != AccessKey.Kind.API:
        raise InvalidInput("operator: only an API key can be an operator's.")
    now = timezone.now()
    if expires_at is not None and not now < expires_at <= now + LONGEST:
        raise InvalidInput("expires: give a time that lies ahead, within ten years.")
    _refuse_operator(operator, by, as_operator=as_operator)
    if by is not None:
        _refuse_more(by, kind, wanted, expires_at)
    if may is not None:
        _refuse_more_than_login(may, kind, wanted)
    given = {"scopes": wanted, "expires_at": expires_at, **({} if key_id is None else {"id": key_id})}
    try:
        with transaction.atomic():
            return AccessKey.issue(organization, kind, name, operator=operator, **given)
    except IntegrityError:
        if key_id is None:
            raise
        raise KeyIssuedBefore from None


def _checked_name(name: str) -> str:
    """The name without spaces around it. Raises InvalidInput."""
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or text_fault(name):
        raise InvalidInput(f"name: 1 to {MAX_NAME} characters, to recognise the key by.")
    if name in PRESET_KEYS:
        raise InvalidInput(f"name: {name} is that of a key which the environment sets; choose another.")
    return name


def checked_scopes(kind: str, scopes: Collection[str]) -> list[str]:
    """The scopes, each once and in order. Raises InvalidInput for a word that is no right, and for an event key's."""
    for word in scopes:
        if word not in access.RIGHTS:
            raise InvalidInput(f"scope {word[:50]!r} is unknown; there are {', '.join(access.RIGHTS)}.")
    if scopes and kind != AccessKey.Kind.API:
        raise InvalidInput("scopes: an event key has none; it sends events, and nothing else.")
    return [word for word in access.RIGHTS if word in scopes]


def _refuse_operator(operator: bool, by: AccessKey | None, *, as_operator: bool) -> None:
    """Raises Forbidden where an operator's key is asked for by another than an operator."""
    if operator and not (as_operator or (by is not None and by.operator)):
        raise Forbidden("Only an operator of the installation, or an operator's key, issues an operator's key.")


def _rights_of(kind: str, scopes: Collection[str]) -> Collection[str]:
    """The rights that a key with these scopes gives: without scopes all of them; of an event key, to send events."""
    return scopes or (access.RIGHTS if kind == AccessKey.Kind.API else ["run_flows"])


def _refuse_more_than_login(may: Has, kind: str, scopes: Collection[str]) -> None:
    """Raises Forbidden where a key would give more than the login has that asks for it."""
    missing = [word for word in _rights_of(kind, scopes) if not may(word)]
    if missing:
        raise Forbidden(
            f"Your login has not the right to {', '.join(access.WHAT[access.RIGHTS[word]] for word in missing)} here, "
            "so it can't issue a key that has: choose scopes among your rights, or ask an admin of the organization."
        )


def _refuse_more(by: AccessKey, kind: str, scopes: Collection[str], expires_at: dt.datetime | None) -> None:
    """Raises Forbidden where a key would give more than it has."""
    if by.scopes:
        missing = [word for word in _rights_of(kind, scopes) if word not in _with_included(by.scopes)]
        if missing:
            raise Forbidden(f"This key has no scope {', '.join(missing)}, so it can't issue a key that has.")
    if by.expires_at is not None and (expires_at is None or expires_at > by.expires_at):
        raise Forbidden(
            f"This key expires at {by.expires_at:%Y-%m-%d %H:%M} UTC: one that it issues may not outlive it."
        )


def rotate(
    organization: Organization,
    key_id: UUID,
    *,
    overlap: dt.timedelta = DEFAULT_OVERLAP,
    by: AccessKey | None = None,
    may: Has | None = None,
    as_operator: bool = False,
) -> tuple[AccessKey, str]:
    """A successor with the same rights, and its key; the old one expires after the overlap.

    The successor of a key with an expiry lives as long from now on as the old one was to. `by`, `may` and
    `as_operator`: as `issue` has them.
    Raises KeyNotFound, KeyNotInForce, InvalidInput, Forbidden.
    """
    if not dt.timedelta(0) <= overlap <= MAX_OVERLAP:
        raise InvalidInput("overlap: from 0 to 90 days.")
    now = timezone.now()
    with transaction.atomic():
        old = _locked(organization, key_id)
        _refuse_ended(old, now)
        if old.successors.filter(revoked_at=None).exists():
            raise KeyNotInForce("The key was rotated already: rotate its successor.")
        if old.name in PRESET_KEYS:
            raise KeyNotInForce(f"The environment sets this key: give {old.name} another value, and start anew.")
        expires_at = _expiry_of_successor(old, now)
        if by is None or by.id != old.id:
            _refuse_operator(old.operator, by, as_operator=as_operator)
        if by is not None and by.id != old.id:
            _refuse_more(by, old.kind, old.scopes, expires_at)
        if may is not None:
            _refuse_more_than_login(may, old.kind, old.scopes)
        made = AccessKey.issue(
            organization, old.kind, old.name, operator=old.operator, scopes=old.scopes, expires_at=expires_at,
            replaces=old,
        )  # fmt: skip
        old.expires_at = min(now + overlap, old.expires_at or now + overlap)
        old.save(update_fields=["expires_at"])
    return made


def _expiry_of_successor(old: AccessKey, now: dt.datetime) -> dt.datetime | None:
    """As long from now on as the key was to live. Where it was rotated before, and its successor was revoked, its own
    expiry is that of the overlap: the successor says how long it was to be."""
    meant = old.successors.order_by("created_at").first() or old
    return None if meant.expires_at is None else now + (meant.expires_at - meant.created_at)


def revoke(organization: Organization, key_id: UUID) -> AccessKey:
    """The key, which is refused from now on. Raises KeyNotFound, KeyNotInForce."""
    with transaction.atomic():
        row = _locked(organization, key_id)
        if row.revoked_at is not None:
            raise KeyNotInForce(f"{row}: it was revoked before.")
        row.revoked_at = timezone.now()
        row.save(update_fields=["revoked_at"])
    return row


def rename(organization: Organization, key_id: UUID, name: str) -> AccessKey:
    """The key under another name; what it is and may stays. Raises KeyNotFound, KeyNotInForce, InvalidInput."""
    name = _checked_name(name)
    with transaction.atomic():
        row = _locked(organization, key_id)
        if row.name in PRESET_KEYS:
            raise KeyNotInForce("The environment sets this key, and finds it by its name: it keeps that.")
        changes.tell({"name": row.name}, {"name": name})
        row.name = name
        row.save(update_fields=["name"])
    return row


def _locked(organization: Organization, key_id: UUID) -> AccessKey:
    found = AccessKey.objects.select_for_update(of=("self",)).filter(organization=organization, id=key_id).first()
    if found is None:
        raise KeyNotFound
    return found


def _refuse_ended(key: AccessKey, now: dt.datetime) -> None:
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        raise KeyNotInForce(f"{key}: it is revoked or has expired; issue a new one.")
