"""What a Celery task came to, as JSON: {state: SUCCESS, result} or {state: FAILURE, error}. For the callbacks in the
application's workers, for what they send, and for what its result backend holds."""

from __future__ import annotations

import datetime as dt
import decimal
import traceback as tracebacks
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery import states
from celery.exceptions import Ignore, NotRegistered, Reject, TaskRevokedError
from kombu.exceptions import EncodeError

from workflows.engine.pipeline import retry_decision
from workflows.errors import Category, InvalidOutput, NonRetriable, WorkflowsError
from workflows.payload import dump
from workflows.steps import failure_category

SUCCEEDED = "headrace.celery_task_succeeded"
FAILED = "headrace.celery_task_failed"
REPLACED = "Replaced by new task"
"""What Celery's `replace` says when it ignores the task that is replaced."""

End = dict[str, Any]


class ToldEnd(NamedTuple):
    """An end, and who told of it."""

    task_id: str
    end: End
    by: str
    is_vague: bool = False
    """It says only that the task failed."""


_CATEGORIES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Category], ...] = (
    ((SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError), Category.RESOURCE),
    (TaskRevokedError, Category.BUSINESS),
    (Reject, Category.BUSINESS),
    (NotRegistered, Category.CONFIGURATION),
    (EncodeError, Category.INVALID_OUTPUT),
)
_SAID: tuple[tuple[type[BaseException], str], ...] = (
    (NotRegistered, "No worker of its queue knows the task {0}: install the code there, or correct queue and name."),
    (TaskRevokedError, "The task was not executed to its end: {0}."),
    (Reject, "The task rejected its message for good: {0}."),
    (
        EncodeError,
        "What the task returned is no JSON ({0}): return text, numbers, lists or dicts, or write `output: false`.",
    ),
)


def of_result(value: Any) -> End:
    """The end of a task that returned this. A value that can't be stored is a failure."""
    try:
        result = _plain(value)
        dump(result, what="The result of the Celery task")
    except (WorkflowsError, RecursionError) as error:
        said = "The result of the Celery task is nested too deeply." if isinstance(error, RecursionError) else None
        return of_exception(error if said is None else InvalidOutput(said))
    return {"state": states.SUCCESS, "result": result}


def of_exception(error: BaseException, traceback: str = "") -> End:
    """The end of a task that failed with this."""
    known = next((each for classes, each in _CATEGORIES if isinstance(error, classes)), None)
    described = retry_decision.describe(error)
    said = next((text for kind, text in _SAID if isinstance(error, kind)), "{0}")
    wait_s = None
    if known is None:
        try:
            wait_s = failure_category.server_wait_s(error)
        except Exception:
            wait_s = None
    return {
        "state": states.FAILURE,
        "error": {
            "name": described.name,
            "message": said.format(described.message)[: retry_decision.MAX_MESSAGE_CHARACTERS],
            "traceback": retry_decision.storable(traceback)[-retry_decision.MAX_TRACEBACK_CHARACTERS :]
            or described.traceback,
            "category": (known or described.category).value,
            "final": isinstance(error, NonRetriable | TaskRevokedError | Reject),
            "retry_after_s": wait_s,
        },
    }


def failure(name: str, message: str, category: Category, *, final: bool = False) -> End:
    """An end that no worker has told of."""
    error = {"name": name, "message": message, "category": category.value, "final": final, "retry_after_s": None}
    return {"state": states.FAILURE, "error": {**error, "traceback": ""}}


def vague() -> End:
    """The end of a task of which nothing is known but that it failed."""
    return failure(
        "TaskFailed",
        "The Celery task failed. Its worker has not said why, since Headrace is not installed there and no result is "
        "kept: look at the worker's log, add Headrace to its INSTALLED_APPS, or give the task a result backend.",
        Category.TRANSIENT,
    )


def of_message(payload: Any) -> ToldEnd | None:
    """The end of which a message in the queue of ends tells. None for a message that is none of ours."""
    if isinstance(payload, Mapping):  # of task_protocol 1
        payload = (payload.get("args") or (), payload.get("kwargs"))
    if not (isinstance(payload, list | tuple) and len(payload) >= 2 and isinstance(payload[1], Mapping)):
        return None
    args, kwargs = payload[0], payload[1]
    task_id = kwargs.get("task_id")
    if not isinstance(task_id, str) or not isinstance(args, Sequence):
        return None
    if isinstance(kwargs.get("end"), dict):
        return ToldEnd(task_id, kwargs["end"], "worker")
    if kwargs.get("failed"):
        return ToldEnd(task_id, vague(), "message", is_vague=True)
    return ToldEnd(task_id, of_result(args[0] if args else None), "message")


def of_meta(meta: Mapping[str, Any], *, wants_output: bool) -> End | None:
    """The end that a result backend has stored. None where the task goes on."""
    state, result = meta.get("status"), meta.get("result")
    if state == states.SUCCESS:
        return of_result(result if wants_output else None)
    if state not in {states.FAILURE, states.REVOKED, states.REJECTED}:
        return None
    if isinstance(result, BaseException):
        return of_exception(result, str(meta.get("traceback") or ""))
    if state == states.REVOKED:
        return of_exception(TaskRevokedError(str(result or "revoked")))
    return failure("TaskFailed", str(result or "The Celery task failed.")[:4_000], Category.TRANSIENT)


def of_failed_request(error: Any, traceback: Any) -> End:
    """The end of which Celery tells a callback, in the process that had the task."""
    if not isinstance(error, BaseException):
        return failure("TaskFailed", str(error), Category.TRANSIENT)
    if traceback is None or isinstance(traceback, str):
        return of_exception(error, traceback or "")
    try:
        return of_exception(error, "".join(tracebacks.format_exception(type(error), error, traceback)))
    except Exception:
        return of_exception(error, str(traceback))


def of_ignored(reason: Any) -> End | None:
    """The end of a task that has told Celery to ignore it. None where another task has taken its place and its id."""
    if isinstance(reason, Ignore) and str(reason) == REPLACED:
        return None
    return {"state": states.SUCCESS, "result": None}


def _plain(value: Any) -> Any:
    """A result as JSON: what Celery's JSON knows beside it becomes text. Raises InvalidOutput for anything else."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    raise InvalidOutput(
        f"The Celery task returned a {type(value).__name__}: return text, numbers, lists or dicts, or write "
        "`output: false`."
    )
