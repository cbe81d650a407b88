"""From an exception to what happens next. Pure: the category decides (docs/reference/errors.md)."""

from __future__ import annotations

import traceback
from collections.abc import Iterable

from throttling.retry import RetryPolicy
from workflows.engine.worker import ending
from workflows.errors import Category, NonRetriable, StepFailure
from workflows.steps import failure_category, masking
from workflows.steps.masking import Secrets
from workflows.steps.outcome import Failed, Outcome, Retry, StepError

MAX_MESSAGE_CHARACTERS = 4_000
MAX_TRACEBACK_CHARACTERS = 16_000
MAX_CLASS_CHARACTERS = 500


def describe(error: BaseException, secrets: Secrets | Iterable[str] = ()) -> StepError:
    """The exception as it is stored: masked, then bounded (a secret must not survive by being cut), fit for JSON.

    The notes of a failure of our own (the traceback of sandboxed code, say) stand in the place of its traceback.
    """
    known = masking.of(secrets)
    try:
        notes = [str(note) for note in getattr(error, "__notes__", [])] if isinstance(error, StepFailure) else []
        said, category = str(error), failure_category.of_exception(error)
    except BaseException as another:  # an exception that can't even be described
        ending.raise_if_ending(another)
        notes, said, category = [], "", Category.TRANSIENT
    detail = "\n".join(notes) if notes else "".join(traceback.format_exception(error))
    return StepError(
        category=category,
        name=type(error).__name__,
        message=storable(known.mask(said or type(error).__name__))[:MAX_MESSAGE_CHARACTERS],
        traceback=storable(known.mask(detail))[-MAX_TRACEBACK_CHARACTERS:],
        class_path=f"{type(error).__module__}.{type(error).__qualname__}"[:MAX_CLASS_CHARACTERS],
    )


def storable(text: str) -> str:
    """The text without what Postgres refuses."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def decide(
    error: StepError,
    *,
    policy: RetryPolicy,
    attempt: int,
    server_retry_waits: int,
    retry_after_s: float | None,
    final: bool = False,
) -> Outcome:
    """Retry or fail, after the failed try number `attempt`.

    `retry_after_s`: the wait that the server asked for, an hour at most; ten of them cost no attempt. `final`: the
    handler says that trying again can't help. A policy of the category's own replaces the step's, and the category's
    rule.
    """
    own = policy.of_category(error.category.value)
    cap = None if own else failure_category.RULES[error.category].tries
    effective = own or policy
    allowed = effective.max_attempts if cap is None else min(effective.max_attempts, cap)
    if final or cap == 1:
        return Failed(error=error)
    if retry_after_s is not None and server_retry_waits < failure_category.MAX_SERVER_RETRY_WAITS:
        return Retry(error=error, delay_s=failure_category.clamp_s(retry_after_s), by_server=True)
    if attempt >= allowed:
        return Failed(error=error)
    return Retry(
        error=error, delay_s=max(effective.delay_after(attempt) / 1000, failure_category.clamp_s(retry_after_s or 0.0))
    )


def is_final(error: BaseException) -> bool:
    """Whether the exception itself says that trying again can't help."""
    return isinstance(error, NonRetriable)
