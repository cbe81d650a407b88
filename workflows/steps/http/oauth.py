"""OAuth 2.0 tokens (RFC 6749): fetched once, kept by organization and credential, renewed by one at a time.

An access token is kept in memory until shortly before it expires. A refresh token that the server rotates is stored
encrypted, so that every worker goes on with it, and a restart loses nothing. Two workers never spend the same refresh
token: the one that renews holds a lease, which is a row and not a transaction, since the network is asked meanwhile;
the others wait for what it gets. A renewal that has begun is finished and stored even if its step is cancelled; storing
is tried until the lease ends, since the server may take the refresh token that was spent no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import structlog
from cachetools import LRUCache
from django.db import connections
from pydantic import BaseModel, ConfigDict, model_validator

from workflows.edge.unavailable import may_pass
from workflows.steps.masking import Secrets
from workflows.steps.tools import TOOLS, StoredTokens, TokenStatements
from workflows.this_process.configuration import encryption_keys

log = structlog.get_logger(__name__)
EXPIRY_MARGIN_S = 30.0
MAX_TOKENS = 1_000
LEASE_S = 40.0
FETCH_FOR_S = 30.0
"""All of a renewal, which must be over before the lease is."""
LOOK_EVERY_S = 0.1
STORE_AGAIN_S = 0.2
LONGEST_S = 366 * 86_400.0
UNUSED_S = 400 * 86_400.0


class OAuth(BaseModel):
    """Where the token comes from: the client-credentials grant or the refresh-token grant (RFC 6749)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_url: str
    client_id: str
    client_secret: str | None = None
    grant: Literal["client_credentials", "refresh_token"] = "client_credentials"
    refresh_token: str | None = None
    scope: str | None = None
    audience: str | None = None
    client_auth: Literal["basic", "body"] = "basic"

    @model_validator(mode="after")
    def _complete(self) -> OAuth:
        if self.grant == "refresh_token" and not self.refresh_token:
            raise ValueError("the refresh_token grant needs refresh_token")
        if self.grant == "client_credentials" and not self.client_secret:
            raise ValueError("the client_credentials grant needs client_secret")
        return self


@dataclass(frozen=True, kw_only=True)
class Token:
    """An access token, and the refresh token that the server gave with it (None: the one used stays good)."""

    value: str
    good_s: float
    """For so long it is used."""
    refresh_token: str | None = None


class TokenRefused(Exception):
    """The server refuses what a token is asked with; `reason` says how, without secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


Fetch = Callable[[str | None], "asyncio.Future[Token] | Any"]
"""Asks the server for a token, with a refresh token where the grant needs one. Raises TokenRefused."""


def read_token(document: Any) -> Token:
    """The token in a server's answer. Raises ValueError where there is none that can be used."""
    if not isinstance(document, Mapping):
        raise ValueError("no object")
    value, refresh = document.get("access_token"), document.get("refresh_token")
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("no access_token")
    try:
        lifetime_s = float(document.get("expires_in") or 300)
    except (TypeError, ValueError):
        lifetime_s = 300.0
    if not math.isfinite(lifetime_s):
        lifetime_s = 300.0
    lifetime_s = min(max(lifetime_s, 0.0), LONGEST_S)
    return Token(
        value=value,
        good_s=lifetime_s - min(EXPIRY_MARGIN_S, lifetime_s / 10),
        refresh_token=refresh if isinstance(refresh, str) and refresh else None,
    )


def _keyed(text: str) -> str:
    """A hash that nobody can guess the text by who reads the database, by the newest key."""
    return _keyed_by_all(text)[0]


def _keyed_by_all(text: str) -> list[str]:
    """The hashes of a text by all keys, that of the newest first."""
    encoded = text.encode("utf-8", "surrogatepass")
    return [hmac.new(key.encode(), encoded, hashlib.sha256).hexdigest() for key in encryption_keys()]


Key = tuple[UUID, str]


class Tokens:
    """The access tokens of this process, by organization and credential, and the renewals that are under way."""

    def __init__(self) -> None:
        self._kept: LRUCache[Key, tuple[str, float]] = LRUCache(MAX_TOKENS)
        self._renewals: dict[Key, asyncio.Task[str]] = {}

    async def get(self, org_id: UUID, oauth: OAuth, fetch: Fetch, secrets: Secrets, *, stale: str = "") -> str:
        """A valid access token; one equal to `stale` was refused, and is renewed. It is masked from now on.

        Raises TokenRefused, or what `fetch` raises.
        """
        key = (org_id, _keyed(oauth.model_dump_json()))
        value, good_until = self._kept.get(key, ("", 0.0))
        if not value or value == stale or good_until <= time.monotonic():
            renewal = self._renewals.get(key)
            if renewal is None or renewal.get_loop() is not asyncio.get_running_loop():
                renewal = asyncio.create_task(self._renew(key, oauth, fetch, secrets, stale))
                self._renewals[key] = renewal
                renewal.add_done_callback(lambda task: self._renewed(key, task))
            value = await asyncio.shield(renewal)
        secrets.add(value)
        return value

    def _renewed(self, key: Key, task: asyncio.Task[str]) -> None:
        if self._renewals.get(key) is task:
            del self._renewals[key]
        if not task.cancelled():
            task.exception()  # taken note of: those that waited for it may be gone

    async def _renew(self, key: Key, oauth: OAuth, fetch: Fetch, secrets: Secrets, stale: str) -> str:
        def keep(token: Token) -> None:
            secrets.add(token.value, token.refresh_token)
            self._kept[key] = (token.value, time.monotonic() + token.good_s)

        async with asyncio.timeout(2 * LEASE_S):  # another's, and its own
            if oauth.grant == "refresh_token":
                token = await _renewed_by_one(key, oauth, fetch, secrets, stale, keep)
            else:
                token = await asyncio.wait_for(fetch(None), FETCH_FOR_S)
        keep(token)
        return token.value


async def _renewed_by_one(
    key: Key, oauth: OAuth, fetch: Fetch, secrets: Secrets, stale: str, keep: Callable[[Token], None]
) -> Token:
    """The token that another worker has stored; or a new one, once nobody else asks for it."""
    lease = uuid.uuid4()
    _, *older = _keyed_by_all(oauth.model_dump_json())
    if older:
        await asyncio.to_thread(_adopt, key, older)
    while True:
        until = time.monotonic() + LEASE_S
        claim = await asyncio.to_thread(_claim, key, lease, _keyed(stale) if stale else "")
        if claim.token is not None:
            return claim.token
        if claim.mine:
            token, rotated = await _spend(key, oauth, fetch, secrets, lease, claim)
            keep(token)
            await _stored(key, claim.generation, token, rotated, until)
            return token
        await asyncio.sleep(LOOK_EVERY_S)


async def _spend(
    key: Key, oauth: OAuth, fetch: Fetch, secrets: Secrets, lease: UUID, claim: _Claim
) -> tuple[Token, str | None]:
    """What the refresh token gives, and the refresh token to be stored (None: the stored one stays).

    A stored one that is refused gives way to the configured one."""
    refused = False
    candidates = dict.fromkeys([claim.refresh_token or oauth.refresh_token, oauth.refresh_token])
    secrets.add(*candidates)
    try:
        async with asyncio.timeout(FETCH_FOR_S):
            for position, refresh_token in enumerate(candidates, 1):
                try:
                    token: Token = await fetch(refresh_token)
                    break
                except TokenRefused:
                    refused = True
                    if position == len(candidates):
                        raise
        return token, token.refresh_token or (oauth.refresh_token if refused else None)
    except BaseException:
        with contextlib.suppress(Exception):  # the lease ends by itself
            await asyncio.to_thread(_release, key, lease, refused)
        raise


async def _stored(key: Key, generation: int, token: Token, refresh_token: str | None, until: float) -> None:
    """Store what was fetched; again and again while Postgres is away, until the lease ends and another may renew."""
    while True:
        try:
            await asyncio.to_thread(_store, key, generation, token, refresh_token)
            return
        except Exception as error:
            if not may_pass(error):
                raise
            if time.monotonic() > until:
                log.error("renewed tokens can't be stored: a rotated refresh token is lost", error=str(error)[:200])
                return
        await asyncio.sleep(STORE_AGAIN_S)


# --- the rows -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """What a look at the row gave: a good token, or the right to renew (`mine`), or neither."""

    mine: bool
    token: Token | None
    refresh_token: str | None
    generation: int


def _adopt(key: Key, older: list[str]) -> None:
    """Keep what was stored under an encryption key of before."""
    with _statements() as sql:
        sql.adopt_oauth_credential(org=key[0], identity=key[1], older=older)


def _claim(key: Key, lease: UUID, stale: str) -> _Claim:
    from workflows.models.encryption import decrypt  # noqa: PLC0415  (step types are loaded before the models)

    org_id, identity = key
    with _statements() as sql:
        seen = sql.look_at_oauth_tokens(org=org_id, identity=identity, stale=stale)
    row: StoredTokens
    is_mine = False
    if seen and (seen[0].good_s is not None or seen[0].leased):
        row = seen[0]
    else:
        with _statements() as sql:
            row = claimed = sql.claim_oauth_refresh(
                id=uuid.uuid4(), org=org_id, identity=identity, stale=stale, lease=lease, lease_s=LEASE_S
            )[0]
        is_mine = claimed.mine
    token = None
    if row.good_s is not None and row.access_token is not None:
        token = Token(value=decrypt(bytes(row.access_token), "an access token"), good_s=row.good_s)
    elif is_mine and not row.generation:  # it may be new: a moment for those that are not used any more
        with _statements() as sql:
            sql.forget_oauth_credentials(org=org_id, unused_s=UNUSED_S)
    stored = decrypt(bytes(row.refresh_token), "a refresh token") if row.refresh_token is not None else None
    return _Claim(mine=is_mine, token=token, refresh_token=stored, generation=row.generation)


def _store(key: Key, generation: int, token: Token, refresh_token: str | None) -> None:
    from workflows.models.encryption import encrypt  # noqa: PLC0415

    with _statements() as sql:
        sql.store_oauth_tokens(
            org=key[0],
            identity=key[1],
            generation=generation,
            refresh_token=encrypt(refresh_token) if refresh_token else None,
            access_token=encrypt(token.value),
            digest=_keyed(token.value),
            good_s=token.good_s,
        )


def _release(key: Key, lease: UUID, refused: bool) -> None:
    with _statements() as sql:
        sql.release_oauth_refresh(org=key[0], identity=key[1], lease=lease, refused=refused)


@contextlib.contextmanager
def _statements() -> Iterator[TokenStatements]:
    """For one statement by itself, on a connection that goes back at once: the network is never asked within one."""
    assert TOOLS.tokens is not None, "The step types are used before the application has started."
    try:
        yield TOOLS.tokens
    finally:
        connections.close_all()
