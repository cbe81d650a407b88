"""Headrace's own Celery app. The app of the project around it keeps its settings, its queues and its workers.

A process that publishes uses it as it is; `headrace.celery` makes a worker of it. Celery is transport: what must
survive lives in Postgres (docs/explanation/engine.md).
"""

from __future__ import annotations

from typing import Any

from celery import Celery

from workflows.this_process.configuration import celery_settings, configuration

TASKS_QUEUE = "headrace.tasks"


def _settings() -> dict[str, Any]:
    told = configuration()
    return {
        "broker_url": told.broker_url,
        "worker_send_task_events": told.step_events,
        "timezone": "UTC",
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "ack_emulation": False,  # delivery is at most once by choice; rescue, not the broker, guarantees it
            "socket_connect_timeout": 2,
            "socket_timeout": 10,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        "broker_pool_limit": 4,
        "task_ignore_result": False,
        "task_acks_late": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_serializer": "json",
        "result_extended": True,
        "db_reuse_max": 1000,
        "task_default_queue": TASKS_QUEUE,
        "worker_prefetch_multiplier": 1,
        "worker_disable_rate_limits": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_enable_soft_shutdown_on_idle": False,
        "worker_soft_shutdown_timeout": 10,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "task_routes": {"workflows.steps.*": {"queue": "headrace.io"}},
        **celery_settings(),
    }


def has_beat_rows() -> bool:
    """Whether the clock of this app is django-celery-beat: then schedules and alert rules have rows of it.

    Elsewhere the leader looks by itself. (Rows in a project that has a beat of its own would be sent by that one.)
    """
    return "django_celery_beat" in str(app.conf.beat_scheduler)


# No fixups: those of Django are for workers, and would act in workers of the project's app too.
app = Celery("headrace", set_as_current=False, fixups=[])
app.add_defaults(_settings)
