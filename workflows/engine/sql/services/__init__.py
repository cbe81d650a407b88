"""The statements of `services` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class AccessKeyRow(NamedTuple):
    id: UUID
    kind: str
    name: str
    prefix: str
    operator: bool
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    expired: bool
    revoked_at: datetime | None
    org_id: UUID
    org_slug: str
    org_name: str
    org_skips_arrivals: bool
    org_redaction: list[str]
    events_per_s: int | None
    is_full: bool
    org_created_at: datetime


def access_key(*, digest: str, cursor: database.Cursor | None = None) -> list[AccessKeyRow]:
    """An access key by its digest, in force or not, with its organization."""
    return database.fetch("access_key", {"digest": digest}, AccessKeyRow._make, cursor)


def adopt_oauth_credential(
    *, org: UUID, identity: str, older: Iterable[str], cursor: database.Cursor | None = None
) -> None:
    """Give the credential that was stored under an older encryption key its identity under the newest one, where
    none has that yet."""
    database.fetch("adopt_oauth_credential", {"org": org, "identity": identity, "older": list(older)}, tuple, cursor)


class ClaimOauthRefreshRow(NamedTuple):
    mine: bool
    refresh_token: bytes | None
    access_token: bytes | None
    generation: int
    good_s: float | None


def claim_oauth_refresh(
    *,
    id: UUID,
    org: UUID,
    identity: str,
    stale: str,
    lease: UUID,
    lease_s: float,
    cursor: database.Cursor | None = None,
) -> list[ClaimOauthRefreshRow]:
    """Take the right to renew the tokens of a credential, unless its access token is still good or somebody else
    renews it."""
    parameters = {"id": id, "org": org, "identity": identity, "stale": stale, "lease": lease, "lease_s": lease_s}
    return database.fetch("claim_oauth_refresh", parameters, ClaimOauthRefreshRow._make, cursor)


class CurrentVersionRow(NamedTuple):
    current_id: UUID | None
    is_archived: bool
    skips_arrivals: bool
    has_version: bool


def current_version(
    *, org: UUID, slug: str, version: UUID | None, cursor: database.Cursor | None = None
) -> list[CurrentVersionRow]:
    """The published version of a flow."""
    parameters = {"org": org, "slug": slug, "version": version}
    return database.fetch("current_version", parameters, CurrentVersionRow._make, cursor)


def forget_oauth_credentials(*, org: UUID, unused_s: float, cursor: database.Cursor | None = None) -> None:
    """Delete the credentials of an organization that no step has used for long."""
    database.fetch("forget_oauth_credentials", {"org": org, "unused_s": unused_s}, tuple, cursor)


def lock_controls(*, flow: UUID, keys: Iterable[str], cursor: database.Cursor | None = None) -> None:
    """Of callers that decide about the same keys of a flow, one after the other."""
    database.fetch("lock_controls", {"flow": flow, "keys": list(keys)}, tuple, cursor)


class LookAtOauthTokensRow(NamedTuple):
    leased: bool
    refresh_token: bytes | None
    access_token: bytes | None
    generation: int
    good_s: float | None


def look_at_oauth_tokens(
    *, org: UUID, identity: str, stale: str, cursor: database.Cursor | None = None
) -> list[LookAtOauthTokensRow]:
    """Look whether the access token of a credential is good, or somebody renews it."""
    parameters = {"org": org, "identity": identity, "stale": stale}
    return database.fetch("look_at_oauth_tokens", parameters, LookAtOauthTokensRow._make, cursor)


def note_key_uses(*, digests: Iterable[str], cursor: database.Cursor | None = None) -> None:
    """Note that keys were used now."""
    database.fetch("note_key_uses", {"digests": list(digests)}, tuple, cursor)


def release_oauth_refresh(
    *, org: UUID, identity: str, lease: UUID, refused: bool, cursor: database.Cursor | None = None
) -> None:
    """Give back the right to renew the tokens of a credential."""
    parameters = {"org": org, "identity": identity, "lease": lease, "refused": refused}
    database.fetch("release_oauth_refresh", parameters, tuple, cursor)


class RunsAboveRow(NamedTuple):
    id: UUID


def runs_above(*, id: UUID, limit: int, cursor: database.Cursor | None = None) -> list[RunsAboveRow]:
    """A run, and those above it that have started each other."""
    return database.fetch("runs_above", {"id": id, "limit": limit}, RunsAboveRow._make, cursor)


class StoreOauthTokensRow(NamedTuple):
    generation: int


def store_oauth_tokens(
    *,
    org: UUID,
    identity: str,
    generation: int,
    refresh_token: bytes | None,
    access_token: bytes,
    digest: str,
    good_s: float,
    cursor: database.Cursor | None = None,
) -> list[StoreOauthTokensRow]:
    """Store renewed tokens, unless somebody else has since."""
    parameters = {
        "org": org, "identity": identity, "generation": generation, "refresh_token": refresh_token,
        "access_token": access_token, "digest": digest, "good_s": good_s
    }  # fmt: skip
    return database.fetch("store_oauth_tokens", parameters, StoreOauthTokensRow._make, cursor)


class StreamChangesRow(NamedTuple):
    number: int
    kind: str
    id: UUID | None
    at: datetime


def stream_changes(
    *,
    orgs: Iterable[UUID],
    afters: Iterable[datetime],
    firsts: Iterable[UUID],
    page: int,
    cursor: database.Cursor | None = None,
) -> list[StreamChangesRow]:
    """What has changed in organizations, each since a moment of its own, for all live streams of a process at
    once."""
    parameters = {"orgs": list(orgs), "afters": list(afters), "firsts": list(firsts), "page": page}
    return database.fetch("stream_changes", parameters, StreamChangesRow._make, cursor)
