"""Results of tasks, from the rows of their runs."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone

from workflows import this_process
from workflows.errors import ResourceExhausted, StepCancelled, StepFailure
from workflows.models import Attempt, Run, Step, StepRun
from workflows.models.run import ENDED_STEP
from workflows.steps.django_tasks import lookup
from workflows.steps.django_tasks.api import Task, TaskError, TaskResult, TaskResultStatus

TYPES = ("django_task", "django_compute_task")
HEAD_START_S_PER_POINT = 6
"""A task's priority of −100 … 100 is −600 … 600 seconds of head start."""
MAX_CONFIGS = 10_000
_STATUS = {
    StepRun.Status.RUNNING: TaskResultStatus.RUNNING,
    StepRun.Status.COMPLETED: TaskResultStatus.SUCCESSFUL,
    StepRun.Status.FAILED: TaskResultStatus.FAILED,
    StepRun.Status.SKIPPED: TaskResultStatus.FAILED,
    StepRun.Status.CANCELLED: TaskResultStatus.FAILED,
}
_READ = (
    "status", "attempt", "losses", "server_retry_waits", "step_id", "worker_id", "started_at", "ended_at", "output",
    "reason", "run__input", "run__priority", "run__cancel_reason",
)  # fmt: skip
_FAILED_ATTEMPTS = (Attempt.Status.FAILED, Attempt.Status.LOST)


def enqueued_at(run_id: UUID) -> dt.datetime:
    """When a run was asked for: the time of its id, in milliseconds."""
    at = dt.datetime.fromtimestamp((run_id.int >> 80) / 1000, dt.UTC)
    return at if timezone.is_aware(timezone.now()) else timezone.make_naive(at)


def new_result(
    task: Task[..., Any],
    *,
    id_: UUID,
    run_id: UUID,
    args: list[Any],
    kwargs: Mapping[str, Any],
    backend: str,
    status: TaskResultStatus = TaskResultStatus.READY,
) -> TaskResult[Any]:
    """The result of a task that has not been started yet."""
    return TaskResult(
        task=task,
        id=str(id_),
        status=status,
        enqueued_at=enqueued_at(run_id),
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=args,
        kwargs=dict(kwargs),
        backend=backend,
        errors=[],
        worker_ids=[],
    )


def change(result: TaskResult[Any], **values: Any) -> None:
    """Set fields of a result, which is frozen for everybody else."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """The configuration of a step that runs a task."""

    task: str
    backend: str
    queue_name: str
    of_input: bool
    """Its arguments are the run's input: the run is the task."""


class _Tasks(dict[tuple[TaskConfig, int], tuple[Any, Any]]):
    """Tasks as they are enqueued, each with that of the code. Making one validates it, which takes as long as a short
    task."""

    def of(self, task: Task[..., Any], config: TaskConfig, priority: int) -> Task[..., Any]:
        """The task of the code with this queue, backend and priority. Raises what the backend refuses it with."""
        made = self.get((config, priority))
        if made is None or made[0] is not task:
            own = replace(task, run_after=None, priority=priority, queue_name=config.queue_name, backend=config.backend)
            if len(self) >= MAX_CONFIGS:
                self.clear()
            made = self[config, priority] = (task, own)
        kept: Task[..., Any] = made[1]
        return kept


class _Configs(dict[UUID, TaskConfig]):
    """Configurations by step, as this process has read them; they never change."""


def of_steps(rows: QuerySet[StepRun]) -> list[TaskResult[Any]]:
    """The results of these steps, which run tasks, in no order: by two queries, and a third where a try has failed."""
    steps = list(rows.select_related("run").only(*_READ))
    configs = _configs({row.step_id for row in steps if row.step_id is not None})
    usable = [row for row in steps if row.step_id in configs]
    attempts: dict[UUID, list[Attempt]] = defaultdict(list)
    told = [row for row in usable if row.status != StepRun.Status.COMPLETED or _earlier_tries(row)]
    if any(row.started_at is not None for row in told):
        found = Attempt.objects.filter(
            run_id__in={row.run_id for row in told}, step_run_id__in=[row.id for row in told]
        )
        for attempt in found.order_by("id").defer("input", "logs"):
            attempts[attempt.step_run_id].append(attempt)
    return [_result(row, configs[row.step_id], attempts[row.id]) for row in usable if row.step_id is not None]


def of_running(step_run_id: UUID, run_id: UUID) -> tuple[list[str], list[TaskError], dt.datetime | None]:
    """The workers of a running step, its own the last; the errors of its earlier tries; when the first of them began.

    (A step that lost its worker may be performed by a process of the worker's, which does not know the worker.)
    """
    tries = list(Attempt.objects.filter(run_id=run_id, step_run_id=step_run_id).order_by("id").defer("input", "logs"))
    mine = StepRun.objects.filter(id=step_run_id).values_list("worker_id", flat=True).first()
    workers = [_worker(worker_id) for worker_id in (*(attempt.worker_id for attempt in tries), mine)]
    return workers, _errors(tries), tries[0].started_at if tries else None


def _configs(step_ids: set[UUID]) -> Mapping[UUID, TaskConfig]:
    known = this_process.own(_Configs)
    missing = step_ids - known.keys()
    for id_, config in Step.objects.filter(id__in=missing).values_list("id", "config") if missing else ():
        if len(known) > MAX_CONFIGS:
            known.clear()
        known[id_] = TaskConfig(
            task=config["task"],
            backend=config.get("backend", "default"),
            queue_name=config.get("queue_name", "default"),
            of_input="args" not in config and "kwargs" not in config,
        )
    return {id_: known[id_] for id_ in step_ids if id_ in known}


def _result(row: StepRun, config: TaskConfig, attempts: list[Attempt]) -> TaskResult[Any]:
    run: Run = row.run
    given: Mapping[str, Any] = run.input if config.of_input and isinstance(run.input, Mapping) else {}
    result = new_result(
        task_of(config, run.priority, given.get("run_after")),
        id_=run.id if config.of_input else row.id,
        run_id=run.id,
        args=given.get("args") or [],
        kwargs=given.get("kwargs") or {},
        backend=config.backend,
        status=_STATUS.get(StepRun.Status(row.status), TaskResultStatus.READY),
    )
    workers = [_worker(attempt.worker_id) for attempt in attempts]
    running = row.status == StepRun.Status.RUNNING
    if running or (row.status == StepRun.Status.COMPLETED and not attempts):
        workers.append(_worker(row.worker_id))
    starts = [attempt.started_at for attempt in attempts if attempt.started_at]
    change(
        result,
        started_at=starts[0] if starts else row.started_at,
        last_attempted_at=row.started_at if running or not starts else starts[-1],
        finished_at=row.ended_at if row.status in ENDED_STEP else None,
        errors=[*_errors(attempts), *_error_without_try(row, run)],
        worker_ids=workers,
    )
    if result.status == TaskResultStatus.SUCCESSFUL:
        change(result, _return_value=row.output)
    return result


def _earlier_tries(row: StepRun) -> int:
    return row.attempt - 1 + row.losses + row.server_retry_waits


def _worker(worker_id: UUID | None) -> str:
    return worker_id.hex if worker_id is not None else "unknown"


def _errors(attempts: Iterable[Attempt]) -> list[TaskError]:
    return [
        TaskError(exception_class_path=_class_path(attempt), traceback=_traceback(attempt.error or {}))
        for attempt in attempts
        if attempt.status in _FAILED_ATTEMPTS
    ]


def _class_path(attempt: Attempt) -> str:
    lost = attempt.status == Attempt.Status.LOST
    return (attempt.error or {}).get("classPath") or _path(ResourceExhausted if lost else StepFailure)


def _traceback(error: Mapping[str, Any]) -> str:
    return error.get("traceback") or f"{error.get('name', '')}: {error.get('message', '')}\n"


def _path(class_: type[BaseException]) -> str:
    return f"{class_.__module__}.{class_.__qualname__}"


def _error_without_try(row: StepRun, run: Run) -> list[TaskError]:
    """Why a task that was cancelled (or skipped) is no success."""
    if row.status not in {StepRun.Status.CANCELLED, StepRun.Status.SKIPPED}:
        return []
    why = run.cancel_reason or row.reason or "no reason was given"
    return [TaskError(exception_class_path=_path(StepCancelled), traceback=f"The run was {row.status}: {why}\n")]


def task_of(config: TaskConfig, head_start_s: int, run_after_text: Any) -> Task[..., Any]:
    """The task as it was enqueued: that of the code, or one that only stands in for it where there is none."""
    priority = max(-100, min(100, round(head_start_s / HEAD_START_S_PER_POINT)))
    run_after = dt.datetime.fromisoformat(run_after_text) if isinstance(run_after_text, str) else None
    bound: dict[str, Any] = {"priority": priority, "queue_name": config.queue_name, "backend": config.backend}
    try:
        task = lookup.task_at(config.task)
        if run_after is not None:
            return replace(task, run_after=run_after, **bound)
        return this_process.own(_Tasks).of(task, config, priority)
    except Exception:  # the function is gone, or the backend has been changed and refuses it
        return _unchecked(config.task, {**bound, "run_after": run_after, "takes_context": False})


def _unchecked(path: str, given: Mapping[str, Any]) -> Task[..., Any]:
    """A task that no backend has validated."""
    try:
        func = lookup.task_at(path).func
    except lookup.TaskGone:
        func = lookup.stand_in(path)
    task: Task[..., Any] = object.__new__(Task)
    for field in fields(Task):
        default = None if field.default is MISSING else field.default
        object.__setattr__(task, field.name, func if field.name == "func" else given.get(field.name, default))
    return task
