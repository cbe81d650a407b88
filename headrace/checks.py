"""`manage.py check` in a project that Headrace is added to: what is missing, and what to write."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core import checks
from django.db import DatabaseError, connection, connections, router
from django.urls import NoReverseMatch, reverse

from throttling.errors import EnvironmentValueError
from workflows.steps.registry import COMPUTE_QUEUE, IO_QUEUE
from workflows.this_process.configuration import configuration

LABELS = ("headrace_throttling", "headrace_workflows", "headrace_dlq")
NEEDED = ("django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.messages")
PROCESSORS = (
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
)
SEEN_WITHIN_S = 60
WORKER = (
    "DJANGO_SETTINGS_MODULE=… celery -A headrace worker -P threads -c 4 -Q headrace.io,headrace.tasks,headrace.compute"
)
Messages = Iterable[checks.CheckMessage]


def register() -> None:
    """Have Django make these checks; the one that asks for workers with `check --database default` only."""
    checks.register(check_project, "headrace")
    checks.register(check_workers, "headrace", checks.Tags.database)


def check_project(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[checks.CheckMessage]:
    """What the settings miss."""
    missing = [*_apps()]
    return missing or [*_database(), *_configuration(), *_routes(), *_templates()]


def check_workers(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """Whether a worker of each queue has reported lately."""
    if "default" not in (databases or ()):
        return []
    try:
        queues = _queues_of_workers()
    except DatabaseError:
        return [
            checks.Warning("The tables of Headrace are not there.", hint="Run manage.py migrate.", id="headrace.W011")
        ]
    if IO_QUEUE not in queues:
        return [
            checks.Warning(
                "No worker of Headrace has reported within a minute: runs are accepted, and none is performed.",
                hint=f"Start one: {WORKER}",
                id="headrace.W012",
            )
        ]
    if COMPUTE_QUEUE not in queues:
        hint = f"Start a worker with -Q {COMPUTE_QUEUE}, or add that queue to the one that there is."
        text = f"No worker takes the queue {COMPUTE_QUEUE}: scripts and other steps that compute wait."
        return [checks.Warning(text, hint=hint, id="headrace.W013")]
    return []


def _queues_of_workers() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT unnest(queues) FROM {apps.get_model('headrace_workflows', 'Worker')._meta.db_table} "
            "WHERE seen_at > now() - make_interval(secs => %s)",
            [SEEN_WITHIN_S],
        )
        return {queue for (queue,) in cursor.fetchall()}


def _database() -> Messages:
    if connections["default"].vendor != "postgresql":
        yield checks.Error(
            "Headrace keeps everything in Postgres, and the database `default` is not one.",
            hint="Set DATABASES['default'] to a Postgres database (ENGINE django.db.backends.postgresql).",
            id="headrace.E001",
        )
    alias = router.db_for_write(apps.get_model("headrace_workflows", "Run"))
    if alias != "default":
        yield checks.Error(
            f"A router sends the tables of Headrace to the database {alias!r}; its own connections go to `default`.",
            hint=f"Have the router send the apps {', '.join(LABELS)} to `default`.",
            id="headrace.E002",
        )


def _pooler() -> Messages:
    """Behind a pooler in the mode `transaction`, Django may keep nothing with a connection either."""
    default = settings.DATABASES["default"]
    options = default.get("OPTIONS", {})
    wrong = [
        name
        for name, is_wrong in (
            ("'DISABLE_SERVER_SIDE_CURSORS': True", not default.get("DISABLE_SERVER_SIDE_CURSORS")),
            ("no prepare_threshold in OPTIONS", options.get("prepare_threshold") is not None),
            ("no options in OPTIONS", bool(options.get("options"))),
        )
        if is_wrong
    ]
    if wrong:
        yield checks.Warning(
            "DB_POOLER is `transaction`, and Django keeps cursors, statements or settings with its connections.",
            hint=f"DATABASES['default'] needs: {'; '.join(wrong)}.",
            id="headrace.W014",
        )


def _configuration() -> Messages:
    try:
        told = configuration()
    except EnvironmentValueError as error:
        yield checks.Error(str(error), id="headrace.E003")
        return
    if told.db_pooler:
        yield from _pooler()
    if not told.redis_url:
        yield checks.Error(
            "Headrace has no Redis or Valkey.",
            hint="Set HEADRACE = {'REDIS_URL': 'redis://localhost:6379/0'}, or REDIS_URL in the environment.",
            id="headrace.E004",
        )
    for is_wanted, module, extra, what in (
        (told.alert_urls, "apprise", "alerts", "ALERT_URLS"),
        (told.sentry_dsn, "sentry_sdk", "sentry", "SENTRY_DSN"),
    ):
        if is_wanted and importlib.util.find_spec(module) is None:
            hint = f"pip install 'headrace[{extra}]'"
            yield checks.Error(f"{what} is set, and {module} is not installed.", hint=hint, id="headrace.E005")
    if "localhost" in told.public_url and not settings.DEBUG:
        yield checks.Warning(
            f"Callbacks and links in alerts begin with {told.public_url}.",
            hint="HEADRACE = {'PUBLIC_URL': 'https://shop.example.com/headrace'}: the address of the include.",
            id="headrace.W006",
        )


def _apps() -> Messages:
    missing = [f"headrace.{label.removeprefix('headrace_')}" for label in LABELS if label not in apps.app_configs]
    missing += [name for name in NEEDED if not apps.is_installed(name)]
    if missing:
        hint = "Add " + ", ".join(f"'{name}'" for name in missing) + " to INSTALLED_APPS."
        yield checks.Error("Headrace needs apps that are not installed.", hint=hint, id="headrace.E007")


def _routes() -> Messages:
    try:
        reverse("headrace:runs")
    except NoReverseMatch:
        yield checks.Error(
            "Headrace has no address: neither its API nor its pages can be reached.",
            hint="path('headrace/', include('headrace.urls')) in the urlpatterns of ROOT_URLCONF.",
            id="headrace.E008",
        )


def _templates() -> Messages:
    configured: list[dict[str, Any]] = settings.TEMPLATES
    engines = [each for each in configured if each["BACKEND"].endswith(".DjangoTemplates")]
    known = {name for each in engines for name in each.get("OPTIONS", {}).get("context_processors", ())}
    finds = any(each.get("APP_DIRS") or each.get("OPTIONS", {}).get("loaders") for each in engines)
    missing = [name for name in PROCESSORS if name not in known]
    if not engines or missing or not finds:
        wanted = ", ".join(missing) or "'APP_DIRS': True"
        yield checks.Error(
            "The pages of Headrace can't be rendered.",
            hint=f"TEMPLATES needs the backend DjangoTemplates with APP_DIRS and context processors: {wanted}.",
            id="headrace.E009",
        )
