"""Enqueuing a task: a run of its flow, in the caller's transaction."""

from __future__ import annotations

import datetime as dt
import inspect
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import uuid6
from django.utils import timezone

from workflows.edge import transactions
from workflows.engine.pipeline.trigger import NewRun, checked_start
from workflows.engine.pipeline.trigger import trigger as trigger_runs
from workflows.engine.state import flow_cache
from workflows.errors import InvalidInput
from workflows.models import StepRun
from workflows.services.django_tasks import flows
from workflows.services.django_tasks.options import ATTRIBUTE, TaskSource
from workflows.steps.django_tasks import lookup, results, values
from workflows.steps.django_tasks.api import InvalidTaskError, Task, TaskResult, TaskResultDoesNotExist

KIND = "task"


def enqueue(
    task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, options: Any, organization: str
) -> tuple[TaskResult[Any], bool]:
    """Store a run of the task. Returns its result, and whether it was made now (not where the task's `idempotency` or
    `singleton` gives an earlier one).

    Raises InvalidTaskError for a task that no worker would find or whose options can't be used, TypeError or ValueError
    for arguments that are no JSON, PayloadTooLarge over 512 KiB, OtherTransaction, FlowPaused, FlowArchived.
    """
    transactions.refuse_other("enqueue()")
    source = _source(task)
    given: dict[str, Any] = {"args": values.plain(list(args), "args"), "kwargs": values.plain(kwargs, "kwargs")}
    starts_at = _starts_at(task)
    if task.run_after is not None:
        given["run_after"] = task.run_after.isoformat()
    flow = flows.published(source, options, organization)
    id_ = uuid6.uuid7()
    made = trigger_runs(
        flow_cache.flow_of(flow.version_id),
        [NewRun(input=given, priority=int(task.priority) * results.HEAD_START_S_PER_POINT, run_at=starts_at, id=id_)],
        org_id=flow.org_id,
        kind=KIND,
    )
    if made.run_ids[0] != id_:
        return result_of(made.run_ids[0], backend=task.backend, organization=organization), False
    new = results.new_result(
        task, id_=id_, run_id=id_, args=given["args"], kwargs=given["kwargs"], backend=task.backend
    )
    return new, True


def result_of(result_id: object, *, backend: str, organization: str) -> TaskResult[Any]:
    """The result with an id: that of a run that was enqueued, or of a step of another flow that runs a task.

    What the open transaction has enqueued is found. Raises TaskResultDoesNotExist.
    """
    try:
        id_ = UUID(str(result_id))
    except ValueError:
        raise TaskResultDoesNotExist(f"{result_id!r} is no id of a result.") from None
    org_id = flows.organization_id(organization)
    rows = StepRun.objects.filter(org_id=org_id, type__in=results.TYPES)
    for found in (rows.filter(run_id=id_), rows.filter(id=id_)):
        for result in results.of_steps(found):
            if result.id == str(id_) and result.backend == backend:
                return result
    raise TaskResultDoesNotExist(f"The backend {backend!r} has no result {id_}; it may have been deleted with its run.")


def _source(task: Task[..., Any]) -> TaskSource:
    path = lookup.path_of(task)
    if path.startswith("__main__."):
        raise InvalidTaskError(f"{path} is defined in a script: no worker could import it. Move it to a module.")
    try:
        lookup.task_at(path)
    except lookup.TaskGone as error:
        raise InvalidTaskError(f"No worker would find this task: {error}") from error
    return TaskSource(
        path=path,
        backend=task.backend,
        queue_name=task.queue_name,
        is_async=inspect.iscoroutinefunction(task.func),
        own=getattr(task.func, ATTRIBUTE, _NONE),
    )


_NONE: Mapping[str, Any] = {}


def _starts_at(task: Task[..., Any]) -> dt.datetime | None:
    if task.run_after is None:
        return None
    at = task.run_after if timezone.is_aware(task.run_after) else timezone.make_aware(task.run_after)
    try:
        return checked_start(at)
    except InvalidInput as error:
        raise InvalidTaskError(f"run_after: {error}") from None
