"""`celery_task`: runs a Celery task of the application, unchanged, on its own queue and workers."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from celery import Task
from celery.canvas import Signature
from pydantic import Field, field_validator

from workflows.errors import Category, ConfigurationFailure, NonRetriable, ResourceExhausted, StepFailure
from workflows.steps.context import StepContext
from workflows.steps.registry import WATCHED_LANE, Mode, StepConfig, StepType, register
from workflows.steps.tools import TOOLS

MAX_NAME = 255
HOUR_MS = 3_600_000
BEFORE_S = 0.1
"""So long before the deadline of the visit the handler itself says that the time is up."""
REFUSED_OPTIONS = frozenset({
    "task_id", "eta", "countdown", "link", "link_error", "chord", "group_id", "group_index", "root_id", "parent_id",
    "chain", "producer", "connection", "router", "reply_to", "retries", "add_to_parent", "stamped_headers",
})  # fmt: skip
"""Of a signature: what the step itself decides."""
OPTIONS = ("queue", "exchange", "routing_key", "priority", "serializer", "compression", "expires", "time_limit",
           "soft_time_limit", "headers", "ignore_result")  # fmt: skip


class CeleryTaskConfig(StepConfig):
    """A registered task with its arguments. Options that are left out are the task's own.

    The step is `running` while the task waits in its queue, is executed, or is retried by Celery: give it a `timeout`
    (an hour, unless given). What the task returns is the output.
    """

    task: str = Field(min_length=1, max_length=MAX_NAME, description="The name under which it is registered.")
    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    queue: str | None = Field(None, min_length=1, max_length=255)
    exchange: str | None = Field(None, max_length=255)
    routing_key: str | None = Field(None, max_length=255)
    priority: int | None = Field(None, ge=0, le=255)
    serializer: str | None = Field(None, max_length=50, description="Of the arguments; the task's own by default.")
    compression: str | None = Field(None, max_length=50)
    expires: float | None = Field(None, gt=0, description="Seconds; a task that has not begun by then is dropped.")
    time_limit: float | None = Field(None, gt=0, description="Seconds; its process is killed then (prefork only).")
    soft_time_limit: float | None = Field(None, gt=0, description="Seconds; SoftTimeLimitExceeded is raised in it.")
    headers: dict[str, str] | None = None
    ignore_result: bool | None = Field(
        None, description="Celery stores no result. The step has its output all the same."
    )
    output: bool = Field(True, description="False: what it returns is not wanted (and need not be JSON); it is null.")
    registered: bool = Field(True, description="False: the name is not known here, only to the workers of the task.")
    terminate: bool = Field(
        True, description="On cancel or timeout: end the process that executes it, if it is started."
    )

    @field_validator("task")
    @classmethod
    def _name(cls, name: str) -> str:
        if any(character.isspace() or not character.isprintable() for character in name):
            raise ValueError("task: a name without spaces, such as shop.tasks.charge")
        return name


def config_of(task: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The configuration of a step that runs a task: of a task object, its name, or a signature with its options.

    Raises ConfigurationFailure for what is no single task, or has arguments that are no JSON.
    """
    config: dict[str, Any] = {}
    if isinstance(task, Signature):
        if task.subtask_type:
            raise ConfigurationFailure(
                f"A {task.subtask_type} is no single task: give each of its tasks a step of its own (parallel, map)."
            )
        options = dict(task.options)
        if refused := sorted(name for name in options if name in REFUSED_OPTIONS and options[name]):
            raise ConfigurationFailure(
                f"{task.task}: the step decides over {', '.join(refused)}; leave it out, and use sleeps and steps."
            )
        config = {name: options[name] for name in OPTIONS if options.get(name) is not None}
        given, named, name = [*args, *task.args], {**task.kwargs, **kwargs}, str(task.task)
    else:
        given, named = list(args), kwargs
        name = task if isinstance(task, str) else str(getattr(task, "name", "") or "")
        if not isinstance(task, str | Task) and not (name and callable(getattr(task, "apply_async", None))):
            raise ConfigurationFailure(f"{task!r} is no Celery task: decorate it with @shared_task or @app.task.")
    for label, value in [*enumerate(given, 1), *named.items()]:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationFailure(
                f"{name}: argument {label} is no JSON ({error}). Pass text, numbers, lists and dicts: the id of an "
                "object instead of the object, `isoformat()` of a time."
            ) from None
    return {"task": name, "args": given, "kwargs": named, **config}


async def handle(context: StepContext) -> Any:
    """Send the task once, and wait for its end. Cancelled, or out of time, it revokes the task."""
    config: CeleryTaskConfig = context.config
    watch = TOOLS.watch(context)
    try:
        async with asyncio.timeout(context.remaining_s - BEFORE_S) as timer:
            await watch.begun
            left_s = context.remaining_s - BEFORE_S - watch.age_s
            timer.reschedule(asyncio.get_running_loop().time() + max(left_s, 0.05))
            end = await watch.ended
    except TimeoutError:
        watch.revoke("the step's time is up")
        raise ResourceExhausted(
            f"The Celery task {config.task} did not end within the step's timeout, and was revoked. Does a worker "
            "consume its queue? If it only takes long, give the step a longer `timeout`."
        ) from None
    except asyncio.CancelledError:
        if context.cancelled.is_set():
            watch.revoke("the run was cancelled")
        raise
    finally:
        watch.close()
    if end["state"] == "SUCCESS":
        return end.get("result")
    return _fail(end["error"])


def _fail(error: dict[str, Any]) -> NoReturn:
    """Raise the task's failure under its own name."""
    category = Category(error.get("category", Category.TRANSIENT))
    base: type[StepFailure] = NonRetriable if error.get("final") else StepFailure
    name = str(error.get("name") or "TaskFailed")
    failure = type(name if name.isidentifier() else "TaskFailed", (base,), {})(
        error.get("message") or name, category=category
    )
    if error.get("traceback"):
        failure.add_note(str(error["traceback"]))
    if error.get("retry_after_s") is not None:
        setattr(failure, "retry_after", float(error["retry_after_s"]))  # noqa: B010  (a hint, as any exception has it)
    raise failure


register(
    StepType(
        name="celery_task",
        summary="Runs a Celery task of the application on its own queue and workers, and waits for its result.",
        config_model=CeleryTaskConfig,
        handler=handle,
        mode=Mode.ASYNC,
        lane=WATCHED_LANE,
        outbound=True,
        watches=True,
        timeout_ms=HOUR_MS,
    )
)
