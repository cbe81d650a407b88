"""Who holds a live stream, and whether they still may: a key out of force or a session that ended reads no more."""

from __future__ import annotations

from collections.abc import Collection
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

from workflows.models import AccessKey


@dataclass(frozen=True, kw_only=True)
class Holder:
    """An API key (its row's id) or a dashboard session (its session key), and the organization that it reads."""

    kind: Literal["key", "session"]
    id: str
    org_id: UUID


def revoked(holders: Collection[Holder]) -> set[Holder]:
    """Those who may read no more; at most three statements for all of them."""
    keys = {each.id for each in holders if each.kind == "key"}
    sessions = {each.id for each in holders if each.kind == "session"}
    valid = {("key", each) for each in _valid_keys(keys)} | {("session", each) for each in _valid_sessions(sessions)}
    return {each for each in holders if (each.kind, each.id) not in valid}


def _valid_keys(ids: Collection[str]) -> set[str]:
    if not ids:
        return set()
    rows = AccessKey.objects.filter(id__in=list(ids), kind=AccessKey.Kind.API, revoked_at=None)
    rows = rows.filter(Q(expires_at=None) | Q(expires_at__gt=Now()))
    return {str(each) for each in rows.values_list("id", flat=True)}


def _valid_sessions(keys: Collection[str]) -> set[str]:
    if not keys:
        return set()
    rows = Session.objects.filter(session_key__in=list(keys), expire_date__gt=timezone.now())
    data: dict[str, dict[str, Any]] = {row.session_key: row.get_decoded() for row in rows}
    ids = {each[SESSION_KEY] for each in data.values() if SESSION_KEY in each}
    users = {str(user.pk): user for user in get_user_model()._default_manager.filter(pk__in=ids, is_active=True)}
    return {key for key, each in data.items() if _is_logged_in(each, users.get(str(each.get(SESSION_KEY))))}


def _is_logged_in(data: dict[str, Any], user: AbstractBaseUser | None) -> bool:
    """Whether the session is this user's; a change of the password ends it."""
    if user is None:
        return False
    given = data.get(HASH_SESSION_KEY, "")
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(given, each) for each in hashes)
