"""`oauth_api_call`: an HTTP call with an OAuth 2.0 token, fetched, cached until it expires and renewed once on 401."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any, Literal

import httpx
from pydantic import model_validator

from workflows.errors import Category, NonRetriable, StepFailure
from workflows.steps.context import StepContext
from workflows.steps.http_request import RequestConfig, build, heed, judge, perform
from workflows.steps.registry import Mode, StepConfig, StepType, register

EXPIRY_MARGIN_S = 30.0
MAX_TOKENS = 1_000


class OAuth(StepConfig):
    """Where the token comes from: the client-credentials grant or the refresh-token grant (RFC 6749)."""

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


class OAuthApiCallConfig(RequestConfig):
    """A request that carries an OAuth token."""

    oauth: OAuth


@dataclass(frozen=True, kw_only=True)
class Token:
    value: str
    expires_at: float
    """By the monotonic clock."""
    refresh_token: str | None


class TokenCache:
    """Tokens by what they were asked with. One request at a time fetches a token, the others wait for it.

    A refresh token that the server rotates is kept, and used instead of the configured one.
    """

    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, context: StepContext, oauth: OAuth, *, stale: str | None = None) -> str:
        """A valid token; one equal to `stale` is replaced."""
        key = hashlib.sha256(f"{context.org_id}{oauth.model_dump_json()}".encode()).hexdigest()
        async with self._locks.setdefault(key, asyncio.Lock()):
            token = self._tokens.get(key)
            if token is None or token.value == stale or token.expires_at <= time.monotonic():
                token = await _fetch(context, oauth, token.refresh_token if token else None)
                if len(self._tokens) >= MAX_TOKENS:
                    self._tokens.pop(next(iter(self._tokens)))
                self._tokens[key] = token
            return token.value


TOKENS = TokenCache()


async def _fetch(context: StepContext, oauth: OAuth, rotated: str | None) -> Token:
    form: dict[str, str] = {"grant_type": oauth.grant}
    if oauth.grant == "refresh_token":
        form["refresh_token"] = rotated or oauth.refresh_token or ""
    form |= {name: value for name, value in (("scope", oauth.scope), ("audience", oauth.audience)) if value}
    auth: httpx.Auth | None = None
    if oauth.client_auth == "basic" and oauth.client_secret:
        auth = httpx.BasicAuth(oauth.client_id, oauth.client_secret)
    else:
        form["client_id"] = oauth.client_id
        if oauth.client_secret:
            form["client_secret"] = oauth.client_secret
    config = RequestConfig.model_validate(
        {"url": oauth.token_url, "method": "POST", "form": form, "headers": {"accept": "application/json"}}
    )
    request = build(config, {}, context)
    answer = await perform(config, request, auth)
    if answer.status in {400, 401, 403}:
        reason = answer.body[:300].decode("utf-8", "replace")
        raise NonRetriable(f"{request.url.host} refused a token ({answer.status}): {reason}", category=Category.AUTH)
    if answer.status != 200:
        raise StepFailure(f"{request.url.host} answered {answer.status} instead of a token.")
    try:
        document = json.loads(answer.body)
        value, lifetime_s = str(document["access_token"]), float(document.get("expires_in") or 300)
    except (ValueError, KeyError, TypeError):
        raise StepFailure(f"{request.url.host} answered without an access_token.", category=Category.AUTH) from None
    margin_s = min(EXPIRY_MARGIN_S, lifetime_s / 10)
    return Token(
        value=value,
        expires_at=time.monotonic() + lifetime_s - margin_s,
        refresh_token=document.get("refresh_token") or rotated,
    )


async def handle(context: StepContext) -> Any:
    config: OAuthApiCallConfig = context.config
    token = await TOKENS.get(context, config.oauth)
    request = build(config, {"authorization": f"Bearer {token}"}, context)
    answer = await perform(config, request)
    if answer.status == 401:
        token = await TOKENS.get(context, config.oauth, stale=token)
        request = build(config, {"authorization": f"Bearer {token}"}, context)
        answer = await perform(config, request)
    heed(answer, context)
    return judge(config, answer, request.url.host)


register(
    StepType(
        name="oauth_api_call",
        summary="An HTTP call with an OAuth 2.0 token that is kept until it expires.",
        config_model=OAuthApiCallConfig,
        handler=handle,
        mode=Mode.ASYNC,
        outbound=True,
        timeout_ms=60_000,
    )
)
