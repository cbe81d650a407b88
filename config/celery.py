"""The Celery app. Celery is transport: what must survive lives in Postgres (docs/explanation/engine.md)."""

from __future__ import annotations

import os
import sys
from typing import Any

from celery import Celery, signals
from django.conf import settings

from config import services

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # they import the web; `up` and CI run them
if not settings.configured:
    services.use_services()  # `celery -A config …` by hand; Django's own commands have done it already

app = Celery("headrace")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "ack_emulation": False,  # delivery is at most once by choice; rescue, not the broker, guarantees it
        "socket_connect_timeout": 2,
        "socket_timeout": 10,
        "socket_keepalive": True,
        "health_check_interval": 25,
    },
    broker_pool_limit=4,
    task_ignore_result=False,
    task_acks_late=False,
    task_serializer="json",
    accept_content=["json"],
    result_serializer="json",
    result_extended=True,
    db_reuse_max=1000,
    task_default_queue="headrace.tasks",
    worker_prefetch_multiplier=1,
    worker_disable_rate_limits=True,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_enable_soft_shutdown_on_idle=False,
    worker_soft_shutdown_timeout=10,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    task_routes={"workflows.steps.*": {"queue": "headrace.io"}},
)
app.autodiscover_tasks()


@signals.setup_logging.connect
def _keep_our_logging(**_: Any) -> None:
    """A receiver here tells Celery to leave logging as Django's settings made it."""


def fit_to_command_line() -> None:
    """What the app needs where this process is Flower. (A process may be told what it is after this was imported.)"""
    if "flower" in sys.argv[1:]:
        from config import flower_guard, flower_queues  # noqa: PLC0415  (nobody else needs Flower)

        os.nice(10)  # it looks at every step: where cores are scarce the workers go first
        app.conf.broker_pool_limit = None  # its inspections hold a connection each, and want another: no limit
        flower_guard.install()
        flower_queues.install()


fit_to_command_line()


def _add_engine() -> None:
    from workflows.engine.worker.bootstep import EngineStep  # noqa: PLC0415  (needs configured settings)

    app.steps["worker"].add(EngineStep)


app.on_after_finalize.connect(lambda **_: _add_engine(), weak=False)
