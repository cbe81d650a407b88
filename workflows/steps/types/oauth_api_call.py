"""`oauth_api_call`: an HTTP call with an OAuth 2.0 token, fetched, kept until it expires and renewed once on 401."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from typing import Any

from workflows import this_process
from workflows.errors import Category, NonRetriable, StepFailure
from workflows.steps.context import StepContext
from workflows.steps.http.oauth import OAuth, Token, TokenRefused, Tokens, read_token
from workflows.steps.registry import Mode, StepType, register
from workflows.steps.types.http_request import RequestConfig, basic, build, heed, judge, perform, quoted


class OAuthApiCallConfig(RequestConfig):
    """A request that carries an OAuth token."""

    oauth: OAuth


async def _fetch(context: StepContext, oauth: OAuth, refresh_token: str | None) -> Token:
    """A token from its server. Raises TokenRefused or StepFailure."""
    form: dict[str, str] = {"grant_type": oauth.grant}
    if refresh_token:
        form["refresh_token"] = refresh_token
    form |= {name: value for name, value in (("scope", oauth.scope), ("audience", oauth.audience)) if value}
    headers: dict[str, str] = {}
    context.secrets.add(oauth.client_secret)
    if oauth.client_auth == "basic" and oauth.client_secret:
        headers["authorization"] = basic(oauth.client_id, oauth.client_secret, context)
    else:
        form["client_id"] = oauth.client_id
        if oauth.client_secret:
            form["client_secret"] = oauth.client_secret
    config = RequestConfig.model_validate(
        {"url": oauth.token_url, "method": "POST", "form": form, "headers": {"accept": "application/json"}}
    )
    request = build(config, headers, context)
    host = request.url.host
    answer = await perform(config, request, context)
    if answer.status in {400, 401, 403}:
        raise TokenRefused(f"{host} refused a token ({answer.status}): {quoted(answer, 300, context)}")
    if answer.status != 200:
        raise StepFailure(f"{host} answered {answer.status} instead of a token.")
    try:
        return read_token(json.loads(answer.body))
    except (ValueError, RecursionError):
        raise StepFailure(f"{host} answered without an access_token.", category=Category.AUTH) from None


async def _token(context: StepContext, oauth: OAuth, stale: str = "") -> str:
    # Steps share a renewal, and it goes on where this one ends: its deadline is not theirs.
    fetch = functools.partial(_fetch, dataclasses.replace(context, deadline=math.inf), oauth)
    try:
        return await this_process.own(Tokens).get(context.org_id, oauth, fetch, context.secrets, stale=stale)
    except TokenRefused as error:
        raise NonRetriable(error.reason, category=Category.AUTH) from None


async def handle(context: StepContext) -> Any:
    config: OAuthApiCallConfig = context.config
    token = await _token(context, config.oauth)
    request = build(config, {"authorization": f"Bearer {token}"}, context)
    answer = await perform(config, request, context)
    if answer.status == 401:
        token = await _token(context, config.oauth, stale=token)
        request = build(config, {"authorization": f"Bearer {token}"}, context)
        answer = await perform(config, request, context)
    heed(answer, context)
    return judge(config, answer, request.url.host, context)


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
