"""The Celery app of this project: Headrace's own, with the tasks of every app."""

from __future__ import annotations

import os
import sys

from django.conf import settings

from config import services

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # they import the web; `up` and CI run them
if not settings.configured:
    services.use_services()  # `celery -A config …` by hand; Django's own commands have done it already

from headrace import celery as workers

app = workers.app
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.set_default()
app.set_current()


def fit_to_command_line() -> None:
    """What the app needs where this process is Flower. (A process may be told what it is after this was imported.)"""
    if "flower" in sys.argv[1:]:
        from config import flower_guard, flower_queues  # noqa: PLC0415  (nobody else needs Flower)

        os.nice(10)  # it looks at every step: where cores are scarce the workers go first
        app.conf.broker_pool_limit = None  # its inspections hold a connection each, and want another: no limit
        flower_guard.install()
        flower_queues.install()


fit_to_command_line()
