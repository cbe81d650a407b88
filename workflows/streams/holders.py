"""Who holds a live stream, and whether they still may: a key out of force, a session that ended
and a member that was removed read no more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.sessions.models import Session
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from workflows.edge import access
from workflows.models import AccessKey


@dataclass(frozen=True, kw_only=True)
class Holder:
    """An API key (its row's id) or a dashboard session (its session key), and the organization that it reads."""

    kind: Literal["key", "session"]
    id: str
    org_id: UUID


def revoked(holders: Collection[Holder]) -> set[Holder]:
    """Those who may read no more; at most five statements for all of them."""
    keys = _valid_keys({each.id for each in holders if each.kind == "key"})
    users = _users_of_sessions({each.id for each in holders if each.kind == "session"})
    seen = access.seen_by(set(users.values()))
    return {each for each in holders if not _may_read(each, keys, users, seen)}


def _may_read(
    holder: Holder, keys: set[str], users: Mapping[str, AbstractBaseUser], seen: Mapping[Any, set[UUID]]
) -> bool:
    if holder.kind == "key":
        return holder.id in keys
    user = users.get(holder.id)
    return user is not None and (access.is_operator(user) or holder.org_id in seen.get(user.pk, ()))


def _valid_keys(ids: Collection[str]) -> set[str]:
    if not ids:
        return set()
    rows = AccessKey.objects.filter(id__in=list(ids), kind=AccessKey.Kind.API, revoked_at=None)
    rows = rows.filter(Q(expires_at=None) | Q(expires_at__gt=Now()))
    return {str(each) for each in rows.values_list("id", flat=True)}


def _users_of_sessions(keys: Collection[str]) -> dict[str, AbstractBaseUser]:
    """By session key, the login of each session that goes on."""
    if not keys:
        return {}
    rows = Session.objects.filter(session_key__in=list(keys), expire_date__gt=timezone.now())
    data: dict[str, dict[str, Any]] = {row.session_key: row.get_decoded() for row in rows}
    ids = {each[SESSION_KEY] for each in data.values() if SESSION_KEY in each}
    users = {str(user.pk): user for user in get_user_model()._default_manager.filter(pk__in=ids, is_active=True)}
    owners = {key: users.get(str(each.get(SESSION_KEY))) for key, each in data.items()}
    return {key: user for key, user in owners.items() if user is not None and _is_logged_in(data[key], user)}


def _is_logged_in(data: dict[str, Any], user: AbstractBaseUser) -> bool:
    """Whether the session is this user's; a change of the password ends it."""
    given = data.get(HASH_SESSION_KEY, "")
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(given, each) for each in hashes)
