"""Running the function of a task, in a thread of the pool or on the event loop."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async
from django.db import connections
from django.utils import timezone

from workflows import this_process
from workflows.errors import Category, ConfigurationFailure
from workflows.steps.context import StepContext, WorkerIdentity
from workflows.steps.django_tasks import lookup, results
from workflows.steps.django_tasks.api import (
    InvalidTaskBackendError,
    TaskContext,
    TaskResult,
    TaskResultStatus,
    task_backends,
    task_started,
)
from workflows.steps.django_tasks.values import plain


class _OurBackend(Protocol):
    """What this module asks of a backend of ours."""

    @property
    def organization_slug(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTaskContext(TaskContext):
    """What a task with `takes_context` gets here: Django's context, and the step that runs it."""

    step: StepContext

    @property
    def idempotency_key(self) -> str:
        """The same for every try of this task: for services that are to do it once."""
        return str(self.step.step_run_id)

    def progress(self, percent: float, message: str = "") -> None:
        """Show how far the task is: 0 … 100, and a message of 500 characters at most. Raises ValueError."""
        self.step.progress(percent, message)

    def check_cancelled(self) -> None:
        """Raises StepCancelled once the run has been cancelled."""
        self.step.check_cancelled()


@dataclass(frozen=True, kw_only=True)
class _Call:
    function: Any
    args: list[Any]
    kwargs: dict[str, Any]

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)


def run_blocking(context: StepContext) -> Any:
    """Run the task in this thread. Returns what it returns, as JSON. Django's connections are closed afterwards."""
    try:
        call = _prepare(context)
        run = async_to_sync(call.function) if call.is_async else call.function
        return _value(run(*call.args, **call.kwargs))
    finally:
        connections.close_all()


async def run_on_loop(context: StepContext) -> Any:
    """Run the task on the event loop. What it calls by `sync_to_async`, the ORM too, has a thread and connections that
    no other task uses; they end with it."""
    call = await asyncio.to_thread(_prepare_beside, context)
    async with ThreadSensitiveContext() as own:
        try:
            run = call.function if call.is_async else sync_to_async(call.function)
            return _value(await run(*call.args, **call.kwargs))
        finally:
            if own in SyncToAsync.context_to_thread_executor:  # it has had a thread
                await sync_to_async(connections.close_all)()


def _prepare_beside(context: StepContext) -> _Call:
    """The same as `_prepare`, in a thread that others use after it: receivers of the signal may use the database."""
    try:
        return _prepare(context)
    finally:
        connections.close_all()


def _prepare(context: StepContext) -> _Call:
    """The call, and its start told. Raises TaskGone and ConfigurationFailure."""
    config = context.config
    backend = _backend(config.backend, context.scope["org"]["slug"])
    task = lookup.task_at(config.task)
    result = _result(context)
    call = _Call(
        function=task.func,
        args=[StepTaskContext(task_result=result, step=context), *result.args]
        if task.takes_context
        else result.args[:],
        kwargs=dict(result.kwargs),
    )
    _check_arguments(call)
    task_started.send_robust(sender=type(backend), task_result=result)
    return call


def _backend(alias: str, organization: str) -> _OurBackend:
    """The backend of ours with this alias. Raises ConfigurationFailure where it is not this organization's."""
    try:
        backend: Any = task_backends[alias]
    except (InvalidTaskBackendError, KeyError) as error:
        raise ConfigurationFailure(f"TASKS of this worker has no usable backend {alias!r}: {error}") from error
    if getattr(backend, "organization_slug", None) is None:
        raise ConfigurationFailure(
            f"TASKS[{alias!r}] of this worker is no backend of Headrace: it must be the same as in the process that "
            "enqueues."
        )
    if backend.organization_slug != organization:
        raise ConfigurationFailure(
            f"The backend {alias!r} belongs to the organization {backend.organization_slug!r}: no other runs its tasks."
        )
    ours: _OurBackend = backend
    return ours


def _result(context: StepContext) -> TaskResult[Any]:
    """The result as it is now: running, with this try."""
    config, run = context.config, context.scope["run"]
    of_input = config.args is None and config.kwargs is None
    given = context.scope["input"] if of_input else {"args": config.args, "kwargs": config.kwargs}
    described = results.TaskConfig(
        task=config.task, backend=config.backend, queue_name=config.queue_name, of_input=of_input
    )
    result = results.new_result(
        results.task_of(described, run["priority"], given.get("run_after")),
        id_=context.run_id if of_input else context.step_run_id,
        run_id=context.run_id,
        args=given.get("args") or [],
        kwargs=given.get("kwargs") or {},
        backend=config.backend,
        status=TaskResultStatus.RUNNING,
    )
    now = timezone.now()
    worker = this_process.own(WorkerIdentity).id
    results.change(result, started_at=now, last_attempted_at=now, worker_ids=[worker.hex if worker else "unknown"])
    if context.earlier_tries:
        workers, errors, first = results.of_running(context.step_run_id, context.run_id)
        results.change(result, started_at=first or now, errors=errors, worker_ids=workers)
    return result


class _Signatures(WeakKeyDictionary[Any, inspect.Signature]):
    """Of the functions that this process has called."""


def _check_arguments(call: _Call) -> None:
    """Raises TypeError, in the category `invalid_input`, where the function does not take the arguments: it would fail
    in the same way each time."""
    known = this_process.own(_Signatures)
    signature = known.get(call.function)
    if signature is None:
        signature = known[call.function] = inspect.signature(call.function)
    try:
        signature.bind(*call.args, **call.kwargs)
    except TypeError as error:
        error.category = Category.INVALID_INPUT.value  # type: ignore[attr-defined]
        raise


def _value(returned: Any) -> Any:
    try:
        return plain(returned, "The return value")
    except (TypeError, ValueError) as error:
        error.category = Category.INVALID_OUTPUT.value  # type: ignore[union-attr]
        raise
