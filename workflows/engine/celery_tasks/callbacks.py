"""In the workers of the application, where the app is installed: tells of ends what a callback alone can't tell."""

from __future__ import annotations

import re
from typing import Any

import structlog
from celery import current_app, shared_task, signals, states
from celery.exceptions import NotRegistered, TaskRevokedError

from workflows.engine.celery_tasks import ends
from workflows.engine.celery_tasks.ends import End
from workflows.engine.celery_tasks.user_app import end_queue

log = structlog.get_logger(__name__)
_OURS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-\d+(?:\.\d+)?")


def is_ours(task_id: object) -> bool:
    """Whether it is the id of a task that a step has sent."""
    return isinstance(task_id, str) and _OURS.fullmatch(task_id) is not None


def tell(task_id: str, end: End) -> None:
    """Put an end into the queue of ends. Raises nothing: without it the watch learns less, or later."""
    try:
        current_app.send_task(
            ends.FAILED, kwargs={"task_id": task_id, "end": end}, queue=end_queue(), serializer="json",
            ignore_result=True,
        )  # fmt: skip
    except Exception as error:
        log.warning("the end of a task can't be told", task_id=task_id, error=f"{type(error).__name__}: {error}")


@shared_task(name=ends.FAILED, ignore_result=True)
def on_failure(request: Any, error: Any, traceback: Any, task_id: str = "", failed: bool = True) -> None:
    """Celery's callback for a task that has failed: called in the process that had it."""
    tell(task_id, ends.of_failed_request(error, traceback))


def connect() -> None:
    """Tell of the ends for which Celery calls no callback. Of other tasks nothing is told."""
    signals.task_postrun.connect(_on_postrun, weak=False, dispatch_uid="headrace.celery_tasks.postrun")
    signals.task_unknown.connect(_on_unknown, weak=False, dispatch_uid="headrace.celery_tasks.unknown")
    signals.task_revoked.connect(_on_revoked, weak=False, dispatch_uid="headrace.celery_tasks.revoked")


def _on_postrun(task_id: str = "", state: str = "", retval: Any = None, **_: Any) -> None:
    if state == states.IGNORED and is_ours(task_id):
        end = ends.of_ignored(retval)
        if end is not None:
            tell(task_id, end)


def _on_unknown(id: str = "", name: str = "", **_: Any) -> None:  # noqa: A002  (Celery's name)
    if is_ours(id):
        tell(id, ends.of_exception(NotRegistered(name)))


def _on_revoked(request: Any = None, terminated: bool = False, expired: bool = False, **_: Any) -> None:
    task_id = getattr(request, "id", "")
    if is_ours(task_id):
        how = "it expired before a worker took it" if expired else "it was terminated" if terminated else "revoked"
        tell(task_id, ends.of_exception(TaskRevokedError(how)))
