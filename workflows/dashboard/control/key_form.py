"""The form that issues a key: what it offers a login, and what it says."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import uuid6
from django.core import signing
from django.http import HttpRequest, QueryDict
from django.utils import timezone

from workflows.dashboard.access import user_id
from workflows.duration import parse_ms
from workflows.edge import access
from workflows.edge.access import INCLUDED, RIGHTS, WHAT
from workflows.edge.values import moment
from workflows.errors import InvalidInput
from workflows.models import AccessKey, Organization

SALT = "headrace.keys.issue"
KEPT_S = 24 * 3_600
EXPIRIES: Mapping[str, str] = {
    "7d": "in 7 days",
    "30d": "in 30 days",
    "90d": "in 90 days",
    "365d": "in a year",
    "": "never",
    "at": "at a time …",
}
"""By the value of a form: when a key expires."""
DEFAULT_EXPIRY = "90d"
OVERLAPS: Mapping[str, str] = {
    "0": "not at all",
    "1h": "1 hour",
    "24h": "a day",
    "7d": "7 days",
    "30d": "30 days",
}
"""By the value of a form: how long a key that was rotated still holds."""
DEFAULT_OVERLAP = "24h"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """A right that a key may have. `is_mine`: the login has it, so that it can give it."""

    word: str
    what: str
    includes: str
    is_mine: bool


def scopes(request: HttpRequest, organization: Organization) -> list[Scope]:
    """All rights, in their order."""
    included = {more: WHAT[less] for less, more in INCLUDED.items()}
    return [
        Scope(
            word=word,
            what=WHAT[permission],
            includes=included.get(permission, ""),
            is_mine=access.allows(request.user, permission, organization),
        )
        for word, permission in RIGHTS.items()
    ]


@dataclass(frozen=True, kw_only=True)
class KeyForm:
    """What a form asks for; checked by the verb."""

    key_id: UUID
    kind: str
    name: str
    scopes: list[str]
    operator: bool
    expires_at: dt.datetime | None


def read(request: HttpRequest, organization: Organization) -> KeyForm:
    """The form of a request. Raises InvalidInput."""
    given: QueryDict = request.POST
    kind, ticked = given.get("kind", ""), given.getlist("scopes")
    is_all = given.get("rights") == "all"
    if is_all and ticked:
        raise InvalidInput("scopes: choose all rights, or some of them; the form says both.")
    if kind == AccessKey.Kind.API and not is_all and not ticked:
        raise InvalidInput("scopes: choose what the key may change, or that it may change everything.")
    return KeyForm(
        key_id=_id_of(request, organization),
        kind=kind,
        name=given.get("name", ""),
        scopes=ticked,
        operator=given.get("operator") == "yes",
        expires_at=_expiry(given.get("expires", DEFAULT_EXPIRY), given.get("expires_at", "").strip()),
    )


def _expiry(choice: str, at: str) -> dt.datetime | None:
    if choice not in EXPIRIES:
        raise InvalidInput(
            f"expires: {choice[:20]!r} is none of {', '.join(filter(None, EXPIRIES))}, or nothing for never."
        )
    if choice == "at":
        if not at:
            raise InvalidInput("expires: write the time, in UTC, or choose how long the key holds.")
        return moment(at, "expires")
    if at:
        raise InvalidInput("expires: a time was written; choose “at a time”, or leave it out.")
    return timezone.now() + dt.timedelta(milliseconds=parse_ms(choice)) if choice else None


def overlap(given: Mapping[str, Any]) -> dt.timedelta:
    """How long the old key of a rotation still holds. Raises InvalidInput."""
    choice = str(given.get("overlap", DEFAULT_OVERLAP))
    if choice not in OVERLAPS:
        raise InvalidInput(f"overlap: {choice[:20]!r} is none of {', '.join(OVERLAPS)}.")
    return dt.timedelta(milliseconds=parse_ms(choice)) if choice != "0" else dt.timedelta(0)


# --- a form is used once ----------------------------------------------------------------------------------------------


def once(request: HttpRequest, organization: Organization) -> str:
    """What a form carries so that it issues one key, however often it is sent: the id of that key, signed."""
    return signing.dumps([str(uuid6.uuid7()), str(organization.id), user_id(request)], salt=SALT)


def _id_of(request: HttpRequest, organization: Organization) -> UUID:
    """The id that the form's key gets; a new one where it carries none. Raises InvalidInput."""
    text = request.POST.get("once", "")
    if not text:
        return uuid6.uuid7()
    try:
        key_id, org_id, login = signing.loads(text, salt=SALT, max_age=KEPT_S)
    except signing.BadSignature:
        raise InvalidInput("This form is older than a day, or was changed on its way: open the page again.") from None
    if (org_id, login) != (str(organization.id), user_id(request)):
        raise InvalidInput("This form was made for another login or organization: open the page again.")
    return UUID(key_id)
