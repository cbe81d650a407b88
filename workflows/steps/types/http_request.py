"""`http_request`: one HTTP call."""

from __future__ import annotations

import base64
import codecs
import datetime as dt
import json
import re
import ssl
from collections.abc import Mapping
from typing import Any, Literal

import httpx
from pydantic import Field, model_validator

from workflows.duration import Duration
from workflows.errors import Category, InvalidOutput, NonRetriable, RetryAfter, StepFailure
from workflows.payload import MAX_OUTPUT_BYTES
from workflows.steps import failure_category
from workflows.steps.context import StepContext
from workflows.steps.http import client
from workflows.steps.http.client import Answer
from workflows.steps.registry import Mode, StepConfig, StepType, register

Scalar = str | int | float | bool
MAX_HEADER = 8_000
_JSON_TYPE = re.compile(r"(?:application|text)/(?:[\w.!#$&^-]+\+)?json", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Auth(StepConfig):
    """`{type: basic, username, password}` or `{type: bearer, token}`."""

    type: Literal["basic", "bearer"]
    username: str | None = None
    password: str | None = None
    token: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Auth:
        if self.type == "basic" and (self.username is None or self.password is None):
            raise ValueError("basic auth needs username and password")
        if self.type == "bearer" and not self.token:
            raise ValueError("bearer auth needs token")
        return self


class RequestConfig(StepConfig):
    """What to send and how to read the answer. At most one of `json`, `form` and `body`."""

    url: str = Field(min_length=1, max_length=8_000)
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: dict[str, Scalar | None] = Field(default_factory=dict, description="Null: the header is left out.")
    query: dict[str, Scalar | list[Scalar | None] | None] = Field(
        default_factory=dict, description="Added to the query of the url. Null: the parameter is left out."
    )
    json_body: Any = Field(None, alias="json")
    form: dict[str, Scalar | list[Scalar | None] | None] | None = None
    body: str | None = None
    timeout: Duration = Field(30_000, ge=1, le=3_600_000)
    success: list[int] | None = Field(None, description="Status codes that count as success; by default 200 … 299.")
    response: Literal["auto", "json", "text", "base64", "none"] = "auto"
    max_response_bytes: int = Field(1024 * 1024, ge=1, le=MAX_OUTPUT_BYTES)
    follow_redirects: bool = False

    @model_validator(mode="after")
    def _one_body(self) -> RequestConfig:
        given = [name for name in ("json_body", "form", "body") if name in self.model_fields_set]
        if len(given) > 1:
            raise ValueError("give only one of json, form and body")
        return self


class HttpRequestConfig(RequestConfig):
    """A request with optional basic or bearer authentication."""

    auth: Auth | None = None


def build(config: RequestConfig, headers: dict[str, str], context: StepContext) -> httpx.Request:
    """The request. Raises NonRetriable (configuration) for a URL that can't be used."""
    try:
        sent = {
            "user-agent": "headrace",
            "idempotency-key": f"{context.step_run_id}",
            **_headers(config.headers),
            **headers,
        }
    except ValueError as error:
        raise NonRetriable(f"The request can't be built: {error}.", category=Category.CONFIGURATION) from None
    body: dict[str, Any] = {}
    if "json_body" in config.model_fields_set:
        body["content"] = json.dumps(config.json_body, ensure_ascii=False).encode()
        sent.setdefault("content-type", "application/json")
    elif config.form is not None:
        body["data"] = {name: [value for _, value in _pairs({name: given})] for name, given in config.form.items()}
    elif config.body is not None:
        body["content"] = config.body.encode()
    timeout_s = min(config.timeout / 1000, max(context.remaining_s, 0.001))
    try:
        request = client.request(
            config.method, config.url, query=_pairs(config.query), headers=sent, timeout_s=timeout_s, **body
        )
    except (httpx.InvalidURL, UnicodeError, ValueError, TypeError) as error:
        raise NonRetriable(f"The request can't be built: {error}", category=Category.CONFIGURATION) from None
    port = request.url.port
    is_address = _HOST.fullmatch(request.url.raw_host.decode("ascii")) and (port is None or 0 < port < 65_536)
    if request.url.scheme not in {"http", "https"} or not is_address:
        shown = context.secrets.mask(config.url)
        raise NonRetriable(f"{shown!r} is no http or https URL with a host.", category=Category.CONFIGURATION)
    if request.url.userinfo:
        request.headers["authorization"] = basic(request.url.username, request.url.password, context)
        context.secrets.add(request.url.password)
    return request


def basic(username: str, password: str, context: StepContext) -> str:
    """The Authorization header for a name and a password; what it is made of is masked from now on."""
    value = client.basic(username, password)
    context.secrets.add(value.removeprefix("Basic "), value.removeprefix("Basic ").rstrip("="))
    return value


def _headers(given: Mapping[str, Scalar | None]) -> dict[str, str]:
    """The headers with lower-case names. Raises ValueError, naming the header, for what no header can hold."""
    found: dict[str, str] = {}
    for name, value in given.items():
        if value is None:
            continue
        text = _text(value)
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name[:60]!r} is no name of a header")
        if any(character in text for character in "\r\n\0") or len(text) > MAX_HEADER:
            raise ValueError(f"the header {name!r} holds a line break or NUL, or more than {MAX_HEADER:,} characters")
        if not text.isascii():
            raise ValueError(f"the header {name!r} holds characters beyond ASCII: encode them")
        found[name.lower()] = text.strip(" \t")
    return found


def _pairs(given: Mapping[str, Scalar | list[Scalar | None] | None]) -> list[tuple[str, str]]:
    """Names with their values as text, each value of a list by itself; null is left out."""
    listed = ((name, value if isinstance(value, list) else [value]) for name, value in given.items())
    return [(name, _text(value)) for name, values in listed for value in values if value is not None]


def _text(value: Scalar) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


async def perform(config: RequestConfig, request: httpx.Request, context: StepContext) -> Answer:
    """Send it; network errors become transient failures that name the host."""
    host = request.url.host
    try:
        return await client.send(
            request,
            org_id=context.org_id,
            limit_bytes=config.max_response_bytes,
            follow_redirects=config.follow_redirects,
            secrets=context.secrets,
        )
    except httpx.TimeoutException as error:
        raise StepFailure(f"{host} did not answer within {config.timeout} ms ({type(error).__name__}).") from None
    except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, UnicodeError) as error:
        raise NonRetriable(f"The request can't be sent: {error}", category=Category.CONFIGURATION) from None
    except httpx.HTTPError as error:
        said = f"{host} can't be reached: {str(error) or type(error).__name__}"
        if _is_about_certificates(error):
            raise NonRetriable(said, category=Category.CONFIGURATION) from None
        raise StepFailure(said) from None


def _is_about_certificates(error: BaseException | None) -> bool:
    """Whether the server's certificate was refused: it will be the next time too."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def heed(answer: Answer, context: StepContext) -> None:
    """Where the provider says that it has had enough, no other step calls it until then either."""
    now = dt.datetime.now(dt.UTC)
    wait_s = (
        failure_category.retry_after_s(answer.headers.get("retry-after"), now) if answer.status in {429, 503} else None
    )
    if wait_s is None:
        wait_s = exhausted_for_s(answer.headers, now, refused=answer.status == 429)
    if wait_s:
        context.pause_provider(failure_category.clamp_s(wait_s))


def exhausted_for_s(headers: Mapping[str, str], now: dt.datetime, *, refused: bool = False) -> float | None:
    """Seconds until a quota is renewed, by `x-ratelimit-remaining` and `-reset` (also without `x-`); None while there
    is some left."""
    for prefix in ("x-ratelimit-", "ratelimit-", "x-rate-limit-"):
        remaining, reset = headers.get(f"{prefix}remaining"), headers.get(f"{prefix}reset")
        if reset is None or (not refused and (remaining or "").strip() not in {"0", "0.0"}):
            continue
        return failure_category.quota_wait_s(reset.strip(), now)
    return None


def judge(config: RequestConfig, answer: Answer, host: str, context: StepContext) -> dict[str, Any]:
    """The step's output. Raises the failure that the status code means."""
    expected = answer.status in config.success if config.success else 200 <= answer.status < 300
    if expected:
        return {"status": answer.status, "headers": dict(answer.headers), "body": parse(config, answer)}
    message = f"{host} answered {answer.status}: {quoted(answer, 500, context)}"
    now = dt.datetime.now(dt.UTC)
    wait_s = failure_category.retry_after_s(answer.headers.get("retry-after"), now)
    if wait_s is None and answer.status == 429:
        wait_s = exhausted_for_s(answer.headers, now, refused=True)
    if wait_s is not None and answer.status in {429, 503}:
        raise RetryAfter(wait_s, message)
    raise StepFailure(message, category=failure_category.of_status(answer.status))


def quoted(answer: Answer, characters: int, context: StepContext) -> str:
    """The beginning of an answer, for a message. Masked before it is cut: half a secret is not recognised any more."""
    return context.secrets.mask(answer.body.decode("utf-8", "replace"))[:characters]


def parse(config: RequestConfig, answer: Answer) -> Any:
    """The body in the form that the step asks for. Raises InvalidOutput where it has another one."""
    kind = config.response
    if kind == "none" or not answer.body:
        return None
    if kind == "base64":
        return base64.b64encode(answer.body).decode()
    if kind == "json" or (kind == "auto" and _is_json(answer.headers.get("content-type", ""))):
        try:
            return json.loads(answer.body.removeprefix(codecs.BOM_UTF8))
        except (ValueError, RecursionError) as error:
            raise InvalidOutput(f"The answer is no JSON: {str(error) or 'nested too deeply'}") from None
    try:
        text = answer.body.decode(answer.encoding)
    except (UnicodeDecodeError, LookupError):
        text = "\0"
    if "\0" not in text:
        return text
    if kind == "text":
        raise InvalidOutput(
            f"The answer is no {answer.encoding} text that can be stored; use response: base64."
        ) from None
    return base64.b64encode(answer.body).decode()


def _is_json(content_type: str) -> bool:
    """Whether it is the media type of one JSON document (application/json, …+json); ndjson and json-seq are none."""
    return bool(_JSON_TYPE.fullmatch(content_type.split(";", 1)[0].strip()))


async def handle(context: StepContext) -> Any:
    config: HttpRequestConfig = context.config
    headers: dict[str, str] = {}
    if config.auth and config.auth.type == "bearer":
        headers["authorization"] = f"Bearer {config.auth.token}"
    request = build(config, headers, context)
    if config.auth and config.auth.type == "basic":
        username, password = config.auth.username or "", config.auth.password or ""
        request.headers["authorization"] = basic(username, password, context)
    answer = await perform(config, request, context)
    heed(answer, context)
    return judge(config, answer, request.url.host, context)


register(
    StepType(
        name="http_request",
        summary="One HTTP call.",
        config_model=HttpRequestConfig,
        handler=handle,
        mode=Mode.ASYNC,
        outbound=True,
        timeout_ms=60_000,
    )
)
