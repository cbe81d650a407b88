"""Workers of Headrace's own Celery app: `DJANGO_SETTINGS_MODULE=shop.settings celery -A headrace worker …`.

Only such processes import this: it sets up Django, and makes what the app's workers do.
"""

from __future__ import annotations

import os
from typing import Any

import django
from celery import _state, signals
from celery.fixups import django as django_fixup
from django.apps import apps

from workflows.this_process import celery_app

app = celery_app.app

if not os.environ.get("DJANGO_SETTINGS_MODULE"):
    raise SystemExit(
        "headrace: DJANGO_SETTINGS_MODULE is not set. Name the settings of your project: "
        "DJANGO_SETTINGS_MODULE=shop.settings celery -A headrace worker …"
    )
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # they import the web; `manage.py check` runs them
app._fixups.append(django_fixup.fixup(app))


@signals.setup_logging.connect
def _keep_our_logging(**_: Any) -> None:
    """A receiver here tells Celery to leave logging as Django's settings made it."""


def _add_engine() -> None:
    from workflows.engine.worker.bootstep import EngineStep  # noqa: PLC0415  (needs configured settings)

    app.steps["worker"].add(EngineStep)


def _leave_current(project: Any) -> None:
    """Celery makes a worker's app the current one; tasks of the project are sent by the project's app all the same."""
    if project is None or project is app:
        return

    def give_back(**_: Any) -> None:
        project.set_current()
        project.set_default()

    for begun in (signals.worker_ready, signals.worker_process_init):
        begun.connect(give_back, weak=False)


def _own_tasks() -> list[str]:
    """The apps whose tasks these workers know: Headrace's, and no other of the project."""
    if not apps.ready:
        django.setup(set_prefix=False)
    _leave_current(_state._tls.current_app)
    return [apps.get_app_config(label).name for label in ("headrace_workflows", "headrace_dlq")]


app.autodiscover_tasks(_own_tasks)
app.on_after_finalize.connect(lambda **_: _add_engine(), weak=False)
