"""`django_task` and `django_compute_task`: run a task of `django.tasks`, as `@task` has made it.

The backend of Headrace enqueues one-step runs of these types. A definition may have such a step too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from workflows.errors import ConfigurationFailure
from workflows.steps.context import StepContext
from workflows.steps.django_tasks import finished
from workflows.steps.registry import COMPUTE_QUEUE, TASKS_LANE, Mode, StepConfig, StepType, register

TIMEOUT_MS = 3_600_000
_LITERAL = frozenset({"task", "backend", "queue_name", "asynchronous"})


class ComputeTaskConfig(StepConfig):
    """A task by the path of its function, and its arguments: `args` and `kwargs`, else those of the run's input."""

    task: str = Field(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)+$", max_length=500, description="As `shop.tasks.send_mail`.")
    backend: str = Field(
        "default", max_length=100, description="An alias in the setting `TASKS`, of Headrace's backend."
    )
    queue_name: str = Field("default", max_length=100)
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None


class DjangoTaskConfig(ComputeTaskConfig):
    """A task by the path of its function, and its arguments: `args` and `kwargs`, else those of the run's input.

    `asynchronous` runs it on the event loop of the worker, for a coroutine function.
    """

    asynchronous: bool = False


def handle(context: StepContext) -> Any:
    """Run the task. On the event loop the answer is to be awaited."""
    try:
        from workflows.steps.django_tasks import perform  # noqa: PLC0415  (the package is an extra)
    except ImportError as error:
        raise ConfigurationFailure(
            f"This worker has no django.tasks: install the package django-tasks, or Django 6 ({error})."
        ) from error
    config: DjangoTaskConfig = context.config
    return perform.run_on_loop(context) if getattr(config, "asynchronous", False) else perform.run_blocking(context)


def _takes_input(config: Mapping[str, Any]) -> bool:
    return "args" not in config and "kwargs" not in config


def _is_async(config: Mapping[str, Any]) -> bool:
    return config.get("asynchronous") is True


register(
    StepType(
        name="django_task",
        summary="Runs a task of `django.tasks`.",
        config_model=DjangoTaskConfig,
        handler=handle,
        mode=lambda config: Mode.ASYNC if _is_async(config) else Mode.THREAD,
        lane=lambda config: "" if _is_async(config) else TASKS_LANE,
        timeout_ms=TIMEOUT_MS,
        raw_fields=_LITERAL,
        whole_scope=_takes_input,
        after_record=finished.add,
    )
)
register(
    StepType(
        name="django_compute_task",
        summary="Runs a task of `django.tasks` that uses a processor, on the compute workers.",
        config_model=ComputeTaskConfig,
        handler=handle,
        mode=Mode.THREAD,
        queue=COMPUTE_QUEUE,
        max_batch=1,
        timeout_ms=TIMEOUT_MS,
        raw_fields=_LITERAL,
        whole_scope=_takes_input,
        after_record=finished.add,
    )
)
