"""From an exception to what happens next. Pure: the category decides (docs/reference/errors.md)."""

from __future__ import annotations

import traceback

from throttling.limits import RetryPolicy
from workflows.engine.outcome import Failed, Outcome, Retry, StepError
from workflows.errors import Category, ExpressionError, PayloadTooLarge, RetryAfter, StepFailure

MAX_TOLD_WAITS = 10
MAX_TOLD_WAIT_S = 3_600.0
MAX_MESSAGE_CHARACTERS = 4_000
MAX_TRACEBACK_CHARACTERS = 16_000
_FINAL = frozenset(
    {
        Category.INVALID_INPUT,
        Category.BUSINESS,
        Category.AUTH,
        Category.CONFIGURATION,
        Category.INVALID_OUTPUT,
    }
)


def categorise(error: BaseException) -> Category:
    """The category of an exception; one that nobody knows is transient."""
    if isinstance(error, StepFailure):
        return error.category
    if isinstance(error, ExpressionError):
        return Category.CONFIGURATION
    if isinstance(error, PayloadTooLarge):
        return Category.INVALID_OUTPUT
    if isinstance(error, MemoryError | RecursionError):
        return Category.RESOURCE
    return Category.TRANSIENT


def describe(error: BaseException) -> StepError:
    """The exception as it is stored: bounded, and fit for JSON."""
    notes = getattr(error, "__notes__", [])
    detail = "\n".join(notes) if notes else "".join(traceback.format_exception(error))
    return StepError(
        category=categorise(error),
        name=type(error).__name__,
        message=_storable(str(error) or type(error).__name__)[:MAX_MESSAGE_CHARACTERS],
        traceback=_storable(detail)[-MAX_TRACEBACK_CHARACTERS:],
    )


def _storable(text: str) -> str:
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def decide(error: StepError, *, policy: RetryPolicy, attempt: int, told_waits: int, told_s: float | None) -> Outcome:
    """Retry or fail, after the failed try number `attempt`.

    `told_s` is the wait that the other side asked for: ten of them, of an hour at most each, cost no attempt.
    """
    if error.category in _FINAL:
        return Failed(error=error)
    if told_s is not None and told_waits < MAX_TOLD_WAITS:
        return Retry(error=error, delay_s=min(max(told_s, 0.0), MAX_TOLD_WAIT_S), told=True)
    allowed = min(policy.max_attempts, 2) if error.category is Category.RESOURCE else policy.max_attempts
    if attempt >= allowed:
        return Failed(error=error)
    delay_s = policy.delay_after(attempt) / 1000
    return Retry(error=error, delay_s=max(delay_s, min(told_s or 0.0, MAX_TOLD_WAIT_S)))


def told_wait_s(error: BaseException) -> float | None:
    """The wait that the exception asks for, in seconds."""
    return error.seconds if isinstance(error, RetryAfter) else None
