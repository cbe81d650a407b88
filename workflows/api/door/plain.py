"""Which requests are plain: `POST /e/{key}` and `POST /api/workflows/{slug}/run` without anything unusual about them.

Unusual is what a middleware or view of Django's would have a say in: a host that is not served, a cookie, a query, a
body of unknown or large size, letters that are written in percent. Those go to Django, which answers as it always did.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from workflows.edge import tags
from workflows.payload import Json, text_fault
from workflows.services.intake import PlainRun

Scope = Mapping[str, Any]
MOST_BYTES = 256 * 1024
"""Larger bodies are read in a thread: the event loop is not held up by them."""
MOST_RUNS = 1_000
MOST_HOSTS = 1_000
_RUN = re.compile(r"/api/workflows/([-a-zA-Z0-9_]+)/run")
_EVENT = re.compile(r"/e/([\w.~-]+)", re.ASCII)
BEARER = re.compile(rb"[Bb]earer ([!-~]+)")
_ONCE = frozenset({b"host", b"authorization", b"content-length", b"x-forwarded-proto"})
_UNUSUAL = frozenset({b"cookie", b"transfer-encoding", b"content-encoding", b"expect"})


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A plain request: what it is for, and by which key."""

    kind: Literal["run", "event"]
    key: str
    slug: str
    is_secure: bool
    """Whether it came over TLS, by what the server or the proxy before it says."""


class Hosts(set[bytes]):
    """The values of the header Host that are served, as they came."""

    def serves(self, host: bytes) -> bool:
        if host in self:
            return True
        domain, _ = split_domain_port(host.decode("latin-1"))
        served = validate_host(domain, settings.ALLOWED_HOSTS)
        if served and len(self) < MOST_HOSTS:
            self.add(host)
        return served


def plain(scope: Scope, hosts: Hosts) -> Plain | None:
    """The request where it is plain; None for every other one."""
    path = scope["path"]
    if scope["method"] != "POST" or is_unusual(scope):
        return None
    run = _RUN.fullmatch(path)
    event = _EVENT.fullmatch(path)
    if run is None and event is None:
        return None
    once = headers_of(scope)
    if once is None or not once.get(b"content-length", b"").isdigit() or not hosts.serves(once.get(b"host", b"")):
        return None
    if int(once[b"content-length"][:12]) > MOST_BYTES:
        return None
    is_secure = is_over_tls(scope, once)
    if event is not None:
        return Plain(kind="event", key=event[1], slug="", is_secure=is_secure)
    assert run is not None
    token = BEARER.fullmatch(once.get(b"authorization", b""))
    return Plain(kind="run", key=token[1].decode(), slug=run[1], is_secure=is_secure) if token else None


def is_unusual(scope: Scope) -> bool:
    """Whether its address has a query, a prefix, or letters that are written in percent."""
    path: str = scope["path"]
    is_plain = not scope["query_string"] and not scope.get("root_path")
    return not is_plain or scope.get("raw_path", path.encode()) != path.encode()


def is_over_tls(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """By what the server or the proxy before it says."""
    return scope["scheme"] == "https" or _is_forwarded_https(headers.get(b"x-forwarded-proto", b""))


def _is_forwarded_https(value: bytes) -> bool:
    is_believed = getattr(settings, "SECURE_PROXY_SSL_HEADER", None) is not None
    return is_believed and value.split(b",", 1)[0].strip() == b"https"


def headers_of(scope: Scope) -> dict[bytes, bytes] | None:
    """Those that count; None where one is unusual, stands there twice, or holds a NUL."""
    once: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _ONCE:
            if name in once:
                return None
            once[name] = value
        if name in _UNUSUAL or b"\0" in value:
            return None
    return once


def wanted_runs(body: Json) -> list[PlainRun] | None:
    """The runs that a body asks for; None for one with other fields."""
    if not isinstance(body, list):
        one = _wanted(body)
        return None if one is None else [one]
    if not 1 <= len(body) <= MOST_RUNS:
        return None
    found = [one for each in body if (one := _wanted(each)) is not None]
    return found if len(found) == len(body) else None


def _wanted(body: Json) -> PlainRun | None:
    if not isinstance(body, dict) or not body.keys() <= {"triggerData", "userId", "tags"}:
        return None
    user = body.get("userId", "")
    if not isinstance(user, str) or len(user) > 200 or text_fault(user):
        return None
    words = body.get("tags", [])
    if not isinstance(words, list) or len(words) > tags.MAX_TAGS or not all(map(tags.is_tag, words)):
        return None
    value = body.get("triggerData")
    return PlainRun(input={} if value is None else value, user_id=user, tags=words)
