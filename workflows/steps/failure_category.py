"""Which category a failure has: from the exception, its hints, or an HTTP status (docs/reference/errors.md).

An exception may carry hints, whatever its class: `category` (a name of `Category`), `status_code` (or
`response.status_code`, as httpx and requests have it), and `retry_after` (seconds, a time, or a text such as "60s").
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx
from django.core.exceptions import ImproperlyConfigured
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError
from pydantic import ValidationError

from workflows.duration import parse_ms
from workflows.errors import Category, ExpressionError, PayloadTooLarge, RetryAfter, StepFailure

MAX_SERVER_RETRY_WAITS = 10
MAX_TOLD_WAIT_S = 3_600.0


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a category means. `tries`: at most so many, whatever the policy allows; None leaves it to the policy."""

    tries: int | None
    alerts: bool = False


RULES: dict[Category, Rule] = {
    Category.TRANSIENT: Rule(tries=None),
    Category.RATE_LIMITED: Rule(tries=None),
    Category.RESOURCE: Rule(tries=2),
    Category.INVALID_INPUT: Rule(tries=1),
    Category.BUSINESS: Rule(tries=1),
    Category.AUTH: Rule(tries=1, alerts=True),
    Category.CONFIGURATION: Rule(tries=1, alerts=True),
    Category.INVALID_OUTPUT: Rule(tries=1),
}
ALERTING = tuple(category.value for category, rule in RULES.items() if rule.alerts)

_BY_CLASS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Category], ...] = (
    (PayloadTooLarge, Category.INVALID_OUTPUT),
    (ExpressionError, Category.CONFIGURATION),
    ((MemoryError, RecursionError), Category.RESOURCE),
    ((ImproperlyConfigured, ImportError, NotImplementedError), Category.CONFIGURATION),
    ((ValidationError, DjangoValidationError), Category.INVALID_INPUT),
    (IntegrityError, Category.BUSINESS),
)
_BY_STATUS = {
    401: Category.AUTH,
    403: Category.AUTH,
    407: Category.AUTH,
    408: Category.TRANSIENT,
    409: Category.BUSINESS,
    425: Category.TRANSIENT,
    429: Category.RATE_LIMITED,
    501: Category.CONFIGURATION,
    505: Category.CONFIGURATION,
}


def of_status(status: int) -> Category:
    """The category of an HTTP answer that is no success."""
    known = _BY_STATUS.get(status)
    if known is not None:
        return known
    return Category.TRANSIENT if status >= 500 else Category.INVALID_INPUT


def of_exception(error: BaseException) -> Category:
    """The category of an exception: its own, its hints', its class's; one that nobody knows is transient."""
    if isinstance(error, StepFailure):
        return error.category
    hint = getattr(error, "category", None)
    if isinstance(hint, str) and hint in Category.__members__.values():
        return Category(hint)
    status = status_of(error)
    if status is not None:
        return of_status(status)
    for classes, category in _BY_CLASS:
        if isinstance(error, classes):
            return category
    return Category.TRANSIENT


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an exception carries."""
    for holder in (error, getattr(error, "response", None)):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int) and not isinstance(status, bool) and 400 <= status <= 599:
            return status
    return None


def server_wait_s(error: BaseException, now: dt.datetime | None = None) -> float | None:
    """Seconds that the exception asks to wait, clamped to an hour; None where it asks for nothing that makes sense."""
    now = now or dt.datetime.now(dt.UTC)
    if isinstance(error, RetryAfter):
        return clamp_s(error.wait_s(now))
    asked = getattr(error, "retry_after", None)
    if asked is not None:
        try:
            return clamp_s(RetryAfter(asked).wait_s(now))
        except (ValueError, TypeError):
            return None
    response = getattr(error, "response", None)
    if isinstance(response, httpx.Response) or hasattr(response, "headers"):
        seconds = retry_after_s(response.headers.get("retry-after"), now)  # type: ignore[union-attr]
        return None if seconds is None else clamp_s(seconds)
    return None


def clamp_s(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_TOLD_WAIT_S) if math.isfinite(seconds) else MAX_TOLD_WAIT_S


def retry_after_s(value: str | None, now: dt.datetime) -> float | None:
    """Seconds of a `Retry-After` header (a number or an HTTP date); None where it is missing or malformed."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if at.tzinfo is None:  # "-0000": UTC, says RFC 5322
        at = at.replace(tzinfo=dt.UTC)
    return max(0.0, (at - now).total_seconds())


def quota_wait_s(value: str, now: dt.datetime) -> float | None:
    """Seconds until a quota is renewed, by the value of a `reset` header: a time (seconds or milliseconds of the epoch,
    an HTTP date), a number of seconds, or text like 6m0s."""
    try:
        number = float(value)
    except ValueError:
        try:
            return parse_ms(value) / 1000
        except ValueError:
            return retry_after_s(value, now)
    if not math.isfinite(number) or number < 0:
        return None
    if number > 1e11:
        number /= 1000
    return max(0.0, number - now.timestamp()) if number > 1e8 else number
