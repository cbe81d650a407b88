"""Redirects: what a request still says when it is sent on to where an answer points.

Within its origin everything that the step sends goes along. To another origin go only headers that say nothing of the
sender, and no body of a step that knows secrets. Cookies that answers set are dropped everywhere.
"""

from __future__ import annotations

import httpx

from workflows.errors import Category, NonRetriable
from workflows.steps.masking import Secrets

MAX_REDIRECTS = 20
HARMLESS = frozenset({
    "accept", "accept-charset", "accept-encoding", "accept-language", "connection", "user-agent", "content-type",
    "content-encoding", "content-language", "idempotency-key",
})  # fmt: skip
"""Headers that are sent to another origin, too, unless a secret stands in one."""
CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie"})
_OF_BODIES = frozenset({"content-type", "content-encoding", "content-language", "content-length", "transfer-encoding"})
_PORTS = {"http": 80, "https": 443}


class RedirectRefused(NonRetriable):
    """The redirect is not followed."""

    category = Category.CONFIGURATION


def following(request: httpx.Request, response: httpx.Response, secrets: Secrets) -> httpx.Request:
    """The request that follows a redirect. Raises RedirectRefused where there is none, or where it would give away
    something."""
    target = _target(request, response)
    host, where = request.url.host, _origin(target)
    if target.scheme not in _PORTS or not target.host:
        raise RedirectRefused(f"{host} redirects to {target.scheme}:…, which is no http or https address with a host.")
    if request.url.scheme == "https" and target.scheme == "http":
        raise RedirectRefused(
            f"{host} redirects from https to {where}: what is sent there can be read on the way. Call an https address."
        )
    method = _method(request.method, response.status_code)
    has_body = bool(request.content) and method == request.method
    headers = httpx.Headers(request.headers)
    if not has_body:
        for name in _OF_BODIES:
            headers.pop(name, None)
    if _origin(target) != _origin(request.url):
        headers.pop("host", None)
        if not _is_upgrade(request.url, target):
            if has_body and _is_confidential(request, secrets):
                raise RedirectRefused(
                    f"{host} redirects to {where}, another origin, and wants the body sent there; the step knows "
                    f"secrets, so it is not. Let the step call {where} itself."
                )
            for name in [name for name in headers if name not in HARMLESS or secrets.holds(headers[name])]:
                headers.pop(name, None)
    headers.pop("content-length", None)  # set anew with the body
    content = request.content if has_body else None
    return httpx.Request(method, target, headers=headers, content=content, extensions=request.extensions)


def _target(request: httpx.Request, response: httpx.Response) -> httpx.URL:
    try:
        target = request.url.join(response.headers["location"])
        if target.scheme in _PORTS and not target.host and not target.is_relative_url:
            target = target.copy_with(host=request.url.host)
        return target.copy_with(userinfo=b"") if target.userinfo else target
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise RedirectRefused(f"{request.url.host} redirects to no address: {error}") from None


def _method(method: str, status: int) -> str:
    """As browsers do it: 303 and 302 make it a GET, 301 a POST only."""
    if (status in {302, 303} and method != "HEAD") or (status == 301 and method == "POST"):
        return "GET"
    return method


def _origin(url: httpx.URL) -> str:
    default = _PORTS.get(url.scheme)
    port = url.port or default
    return f"{url.scheme}://{url.host}" + (f":{port}" if port != default else "")


def _is_upgrade(url: httpx.URL, target: httpx.URL) -> bool:
    """From http to https at the same host and the usual ports: the same server, and safer."""
    return _origin(url) == f"http://{url.host}" and _origin(target) == f"https://{url.host}"


def _is_confidential(request: httpx.Request, secrets: Secrets) -> bool:
    return bool(secrets) or not CREDENTIALS.isdisjoint(request.headers)
