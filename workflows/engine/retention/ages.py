"""Tables whose rows are deleted by their age alone: each names its subject, and deletes a bounded number at a time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from celery.states import READY_STATES
from django.apps import apps
from django.db import transaction
from django.db.models import Exists, Max, Model, OuterRef, Q, QuerySet

from throttling.models import ThrottleChange
from workflows.engine.sql import upkeep as sql
from workflows.models import (
    AuditEntry,
    BulkOperation,
    CeleryTask,
    CronFire,
    ImportedRun,
    LoginTry,
    OperationChange,
    PrunedCount,
)
from workflows.models.run import first_id

Old = Callable[[dt.datetime], "QuerySet[Any]"]


@dataclass(frozen=True, kw_only=True)
class AgedTable:
    """`old` gives the rows of a table that are older than a time and that nothing needs. A table without a subject has
    a bound of its own, and gets the time of now. Rows are deleted in the order of `by`, with the rows of other tables
    that refer to them by a foreign key (`with_rows`: (model, field)). `guarded`: Postgres lets nobody but retention
    delete them."""

    name: str
    subject: str
    old: Old
    by: str = "pk"
    with_rows: Sequence[tuple[type[Model], str]] = ()
    guarded: bool = False

    def delete(self, before: dt.datetime, limit: int) -> int:
        """Delete a page of old rows. Returns how many.

        They are locked, but for those that somebody has locked, and then looked at again by a statement that sees what
        was committed before: one that is needed by now (an operation that was resumed) stays, with its own rows.
        """
        rows = self.old(before)
        ids = list(rows.order_by(self.by).values_list("pk", flat=True)[:limit])
        if not ids:
            return 0
        of_page = rows.model._default_manager.filter(pk__in=ids)
        with transaction.atomic():
            locked = list(of_page.select_for_update(skip_locked=True).order_by("pk").values_list("pk", flat=True))
            free = list(rows.filter(pk__in=locked).values_list("pk", flat=True))
            if self.guarded:
                sql.allow_deletion()
            for model, field in self.with_rows:
                delete_raw(model._default_manager.filter(**{f"{field}__in": free}))
            return delete_raw(rows.model._default_manager.filter(pk__in=free))

    def count(self, before: dt.datetime) -> int:
        """How many there are."""
        return self.old(before).count()


def delete_raw(rows: QuerySet[Any]) -> int:
    """Delete rows by one statement, without loading them. Returns how many there were."""
    return int(rows._raw_delete(using=rows.db) or 0)  # None, where the query is known to have none


def _cron_fires(before: dt.datetime) -> QuerySet[Any]:
    """The latest of each schedule stays: it says when it fired last."""
    later = CronFire.objects.filter(
        flow_id=OuterRef("flow_id"), schedule=OuterRef("schedule"), fire_at__gt=OuterRef("fire_at")
    )
    old = CronFire.objects.filter(id__lt=first_id(before.timestamp())).exclude(outcome=CronFire.Outcome.QUEUED)
    return old.filter(Exists(later))


def _operations(before: dt.datetime) -> QuerySet[Any]:
    """One that is stopped is old when nobody has touched it since: until then it may go on."""
    touched = OperationChange.objects.filter(operation_id=OuterRef("id"), at__gte=before)
    stopped = Q(status=BulkOperation.Status.STOPPED) & ~Exists(touched)
    old = BulkOperation.objects.filter(id__lt=first_id(before.timestamp()))
    return old.filter(Q(status=BulkOperation.Status.COMPLETED, ended_at__lt=before) | stopped)


def _limit_history(before: dt.datetime) -> QuerySet[Any]:
    """The latest stays: its id is the revision of the policies."""
    latest = ThrottleChange.objects.aggregate(latest=Max("id"))["latest"] or 0
    return ThrottleChange.objects.filter(at__lt=before, id__lt=latest)


def _audit(before: dt.datetime) -> QuerySet[Any]:
    return AuditEntry.objects.filter(at__lt=before)


def _counts(now: dt.datetime) -> QuerySet[Any]:
    """The statistics look back for a week."""
    return PrunedCount.objects.filter(minute__lt=now - dt.timedelta(days=8))


def _login_tries(now: dt.datetime) -> QuerySet[Any]:
    """The brake on logins looks back for minutes, and deletes them where there is a next try."""
    return LoginTry.objects.filter(at__lt=now - dt.timedelta(hours=1))


def _imported(now: dt.datetime) -> QuerySet[Any]:
    """Their time is over: their runs are deleted like others, or were with their flow."""
    return ImportedRun.objects.filter(kept_until__lt=now - dt.timedelta(days=1))


def _task_results(before: dt.datetime) -> QuerySet[Any]:
    """Those of ended tasks: `date_done` moves with each state. One of a task that a step waits for stays, since the
    step may not have read it."""
    results = apps.get_model("django_celery_results.TaskResult")._default_manager
    awaited = CeleryTask.objects.filter(task_id=OuterRef("task_id"))
    found: QuerySet[Any] = results.filter(~Exists(awaited), date_done__lt=before, status__in=READY_STATES)
    return found


def _of(model: str, **where: str) -> Old:
    """The rows of a model of another app, where it is installed; `where` names the field of the time."""
    (field,) = where.values()

    def old(before: dt.datetime) -> QuerySet[Any]:
        rows: QuerySet[Any] = apps.get_model(model)._default_manager.filter(**{f"{field}__lt": before})
        return rows

    return old


def _others() -> list[AgedTable]:
    """Those of apps that a project need not have."""
    tables: tuple[tuple[str, str, str, Old, str], ...] = (
        ("admin", "django_admin_log", "audit", _of("admin.LogEntry", field="action_time"), "action_time"),
        ("sessions", "django_session", "sessions", _of("sessions.Session", field="expire_date"), "expire_date"),
        ("django_celery_results", "django_celery_results_taskresult", "task_results", _task_results, "date_done"),
        ("django_celery_results", "django_celery_results_groupresult", "task_results",
         _of("django_celery_results.GroupResult", field="date_done"), "date_done"),
    )  # fmt: skip
    return [
        AgedTable(name=name, subject=subject, old=old, by=by)
        for app, name, subject, old, by in tables
        if any(config.label == app for config in apps.get_app_configs())
    ]


OF_WORKFLOWS = (
    AgedTable(name="headrace_workflows_cronfire", subject="cron_fires", old=_cron_fires),
    AgedTable(
        name="headrace_workflows_bulkoperation",
        subject="operations",
        old=_operations,
        with_rows=((OperationChange, "operation"),),
    ),
    AgedTable(name="headrace_throttling_throttlechange", subject="limit_history", old=_limit_history),
    AgedTable(name="headrace_workflows_auditentry", subject="audit", old=_audit, by="at", guarded=True),
    AgedTable(name="headrace_workflows_logintry", subject="", old=_login_tries, by="at"),
    AgedTable(name="headrace_workflows_prunedcount", subject="", old=_counts, by="minute"),
    AgedTable(name="headrace_workflows_importedrun", subject="", old=_imported, by="kept_until"),
)
TABLES: dict[str, AgedTable] = {table.name: table for table in OF_WORKFLOWS}


def register(*tables: AgedTable) -> None:
    """Add the tables of an app. Raises ValueError where there is one of that name already."""
    for table in tables:
        if TABLES.setdefault(table.name, table) is not table:
            raise ValueError(f"the table {table.name!r} is registered twice")


def all_tables() -> list[AgedTable]:
    """Those that are registered, and those of Django and Celery that the project has."""
    return [*TABLES.values(), *_others()]
