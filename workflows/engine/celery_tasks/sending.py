"""Sending the Celery task of a step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from celery.canvas import Signature
from celery.exceptions import QueueNotFound
from kombu.exceptions import EncodeError, KombuError
from kombu.exceptions import OperationalError as BrokerError

from workflows.engine.celery_tasks import ends
from workflows.engine.celery_tasks.user_app import check_allowed, check_registered, end_queue, user_app
from workflows.errors import Category, ConfigurationFailure, NonRetriable, StepFailure
from workflows.steps.types.celery_task import OPTIONS, CeleryTaskConfig

BROKER_AWAY = (BrokerError, KombuError, ConnectionError, TimeoutError, OSError)


@dataclass(kw_only=True)
class Sending:
    """A task as it is sent: `options` are those of the step."""

    task_id: str
    config: CeleryTaskConfig
    options: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        given = {name: getattr(self.config, name) for name in OPTIONS}
        self.options = {name: value for name, value in given.items() if value is not None}

    @property
    def queue(self) -> str:
        """The name of the queue into which it goes; empty for what the router does not name."""
        app = user_app()
        task = app.tasks.get(self.config.task)
        options = {**(task._get_exec_options() if task else {}), **self.options}
        named = {name: options[name] for name in ("queue", "exchange", "routing_key") if options.get(name)}
        route = app.amqp.router.route(named, self.config.task, self.config.args, self.config.kwargs, task)
        queue = route.get("queue")
        return str(getattr(queue, "name", queue) or "")

    @property
    def is_redelivered(self) -> bool:
        """Whether the broker delivers it again where its worker is lost."""
        app = user_app()
        task = app.tasks.get(self.config.task)
        return bool(task.acks_late if task is not None else app.conf.task_acks_late)


def check(config: CeleryTaskConfig) -> None:
    """Raises ConfigurationFailure for a task that can't be sent from here."""
    app = user_app()
    check_allowed(config.task)
    if config.registered:
        check_registered(config.task)
    if app.conf.task_always_eager:
        raise ConfigurationFailure(
            "task_always_eager is on: tasks would be executed in Headrace's own worker. Switch it off; it is for tests."
        )
    queue = end_queue()
    if not app.conf.task_create_missing_queues and queue not in app.amqp.queues:
        raise ConfigurationFailure(
            f"The Celery app makes no missing queues (task_create_missing_queues): declare {queue!r} in task_queues, "
            "through which its workers tell of ends."
        )


def send(sending: Sending, producer: Any) -> None:
    """Give the task to the broker, once.

    Raises one of BROKER_AWAY where that does not answer, and a StepFailure for what can't be sent.
    """
    config, app = sending.config, user_app()
    check(config)
    task = app.tasks.get(config.task)
    options = {
        **sending.options,
        "task_id": sending.task_id,
        "link": _callback(ends.SUCCEEDED, sending.task_id, immutable=not config.output),
        "link_error": _callback(ends.FAILED, sending.task_id, failed=True),
        "producer": producer,
        "retry": False,
        "add_to_parent": False,
    }
    try:
        if task is not None:
            task.apply_async(args=config.args, kwargs=config.kwargs, **options)
        else:
            app.send_task(config.task, args=config.args, kwargs=config.kwargs, **options)
    except TypeError as error:
        raise NonRetriable(
            f"{config.task} does not take these arguments: {error}", category=Category.INVALID_INPUT
        ) from None
    except (EncodeError, QueueNotFound) as error:
        raise ConfigurationFailure(f"{config.task} can't be sent: {type(error).__name__}: {error}") from None
    except (*BROKER_AWAY, StepFailure):
        raise
    except Exception as error:
        raise ConfigurationFailure(f"{config.task} can't be sent: {type(error).__name__}: {error}") from error


def _callback(name: str, task_id: str, *, immutable: bool = False, failed: bool = False) -> Signature:
    """What Celery calls at the end, in the worker. It stores no result, and needs nothing of ours there."""
    return Signature(
        name,
        app=user_app(),
        kwargs={"task_id": task_id, **({"failed": True} if failed else {})},
        immutable=immutable,
        options={"queue": end_queue(), "serializer": "json", "ignore_result": True},
    )
