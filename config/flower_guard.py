"""One door for all of Flower: its own check leaves out `/metrics`, `/healthcheck` and what is static.

Loaded by `config.celery` in the process of `celery -A config flower`, however that was started. With a login provider
(`--auth`) Flower checks its pages by a cookie; then the door is closed for what it leaves out.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import math
import time
from collections import deque
from typing import Any

import tornado.web
from cachetools import FIFOCache
from flower.app import Flower  # type: ignore[import-untyped]
from flower.utils.authentication import authenticate  # type: ignore[import-untyped]
from tornado.httputil import HTTPServerRequest

TRIES = 10
WITHIN_S = 300.0
MAX_ADDRESSES = 10_000
LEFT_OUT = ("/metrics", "/healthcheck")
NO_LOGIN = (
    "Flower has no login: set FLOWER_BASIC_AUTH=user:password (or --auth with a provider). It shows the arguments of "
    "tasks and can stop workers."
)


class Brake:
    """So many wrong passwords by address and time. (There is one Flower: this need not be shared.)"""

    def __init__(self) -> None:
        self._failures: FIFOCache[str, deque[float]] = FIFOCache(MAX_ADDRESSES)

    def wait_s(self, address: str, now: float) -> float:
        """Seconds until another try is looked at; 0: now."""
        failures = self._failures.get(address, deque())
        while failures and failures[0] <= now - WITHIN_S:
            failures.popleft()
        return failures[0] + WITHIN_S - now if len(failures) >= TRIES else 0.0

    def fail(self, address: str, now: float) -> None:
        failures = self._failures.get(address, deque(maxlen=TRIES))
        failures.append(now)
        self._failures[address] = failures  # the last to be forgotten now


class Refusal(tornado.web.RequestHandler):
    """The answer at the door."""

    def initialize(self, status: int, retry_after_s: float = 0.0) -> None:
        self._status, self._retry_after_s = status, retry_after_s

    def prepare(self) -> None:
        self.set_status(self._status)
        if self._status == 401:
            self.set_header("WWW-Authenticate", 'Basic realm="flower"')
            self.finish("Log in.")
        else:
            seconds = math.ceil(self._retry_after_s)
            self.set_header("Retry-After", str(seconds))
            self.finish(f"There were too many tries to log in from here: try again in {seconds} seconds.")


def install() -> None:
    """Put the door in front of every handler of Flower's."""
    Flower.find_handler = _find_handler
    original = Flower.__init__

    def refusing(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.brake = Brake()
        if not (self.options.basic_auth or self.options.auth):
            raise SystemExit(NO_LOGIN)

    Flower.__init__ = refusing


def _find_handler(app: Any, request: HTTPServerRequest, **kwargs: Any) -> Any:
    refusal = _refusal(app, request, time.monotonic())
    if refusal is not None:
        return app.get_handler_delegate(request, Refusal, refusal)
    return tornado.web.Application.find_handler(app, request, **kwargs)


def _refusal(app: Any, request: HTTPServerRequest, now: float) -> dict[str, Any] | None:
    """What to answer instead; None where the request may go on."""
    if not app.options.basic_auth:
        left_out = request.path.endswith(LEFT_OUT)
        return {"status": 401} if left_out and not _has_cookie(app, request) else None
    address = request.remote_ip or ""
    wait_s = app.brake.wait_s(address, now)
    if wait_s:
        return {"status": 429, "retry_after_s": wait_s}
    given = request.headers.get("Authorization", "")
    if any(hmac.compare_digest(known.encode(), _login_of(given)) for known in app.options.basic_auth):
        return None
    if given:
        app.brake.fail(address, now)
    return {"status": 401}


def _has_cookie(app: Any, request: HTTPServerRequest) -> bool:
    """Whether the request carries the cookie that Flower gave to a login that may enter."""
    cookie = request.cookies.get("user")
    user = tornado.web.decode_signed_value(app.settings["cookie_secret"], "user", cookie.value) if cookie else None
    return bool(user and authenticate(app.options.auth, user.decode()))


def _login_of(header: str) -> bytes:
    """The login of a Basic header; empty for another one."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
