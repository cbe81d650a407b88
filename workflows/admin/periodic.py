"""The pages of django-celery-beat, beside the triggers and tasks that the project keeps rows for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django_celery_beat.admin import (
    ClockedScheduleAdmin,
    CrontabScheduleAdmin,
    IntervalScheduleAdmin,
    PeriodicTaskAdmin,
    SolarScheduleAdmin,
)
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from workflows.admin.actions import audited
from workflows.admin.checked import CheckedAdmin
from workflows.edge import access
from workflows.errors import Forbidden, WorkflowsError
from workflows.services import schedules

for _model in (ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule):
    admin.site.unregister(_model)

KEPT_TASKS = frozenset({"celery.backend_cleanup", "headrace.evaluate_alerts"})
"""Their rows are made anew where they are deleted: by beat when it starts, and by `migrate`."""
CLEANUP = "celery.backend_cleanup"
"""Beat writes the schedule of this one anew at each start."""


class TaskUnchanged(WorkflowsError):
    """It is so already."""

    status, code = 409, "task_unchanged"


class TaskNotRun(WorkflowsError):
    """It fires what is due of its trigger, and nothing is due: start the flow instead (`manage.py trigger <flow>`)."""

    status, code = 409, "task_not_run"


@admin.register(PeriodicTask)
class GuardedPeriodicTaskAdmin(CheckedAdmin, PeriodicTaskAdmin):  # type: ignore[misc]  # it is untyped
    """The row of a flow's schedule is changed by its trigger; here it is switched on and off, with the trigger."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[PeriodicTask]:
        """All rows; of the schedules of flows those of the login's organizations."""
        rows: QuerySet[PeriodicTask] = super().get_queryset(request)
        if access.is_operator(request.user):
            return rows
        own = schedules.beat_rows(access.organizations_of(request.user))
        return rows.exclude(pk__in=schedules.beat_rows().exclude(pk__in=own.values("pk")).values("pk"))

    def owner_of(self, row: Model) -> UUID | None:
        """That of the trigger, for the schedule of a flow."""
        trigger = schedules.trigger_of(row) if isinstance(row, PeriodicTask) else None
        return trigger.organization_id if trigger else None

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and (_is_flows(obj) or obj.task == CLEANUP):
            return False
        return bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and (_is_flows(obj) or obj.task in KEPT_TASKS):
            return False
        return super().has_delete_permission(request, obj)

    def get_actions(self, request: HttpRequest, *args: Any, **more: Any) -> dict[str, Any]:
        """Beat's own actions ask for no permission."""
        actions = super().get_actions(request, *args, **more)
        if self.has_change_permission(request):
            return actions
        return {name: action for name, action in actions.items() if name not in PeriodicTaskAdmin.actions}

    @admin.action(description="Enable selected tasks")
    def enable_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        self.apply(request, queryset, "tasks enabled", _switch(request, lambda _: True))

    @admin.action(description="Disable selected tasks")
    def disable_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        self.apply(request, queryset, "tasks disabled", _switch(request, lambda _: False))

    @admin.action(description="Toggle activity of selected tasks")
    def toggle_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        self.apply(request, queryset, "tasks toggled", _switch(request, lambda enabled: not enabled))

    @admin.action(description="Run selected tasks")
    def run_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        flows = [row for row in queryset if _is_flows(row)]
        others = queryset.exclude(pk__in=[row.pk for row in flows])
        chosen = list(others)
        if flows or not chosen:
            self.report(request, (), "run", [f"{row.name}: {TaskNotRun()}" for row in flows])
        if chosen:
            super().run_tasks(request, others)
            if all(row.task in self.celery_app.tasks for row in chosen):  # else beat's page has run none of them
                audited.action(request, self, chosen)


def _is_flows(row: PeriodicTask) -> bool:
    return bool(row.task == schedules.TASK and row.name.startswith(schedules.PREFIX))


def _switch(request: HttpRequest, wanted: Callable[[bool], bool]) -> Callable[[PeriodicTask], None]:
    """Switches a task: of a flow's schedule the trigger, which decides whether the flow starts."""

    def switch(row: PeriodicTask) -> None:
        trigger = schedules.trigger_of(row)
        before = trigger.enabled if trigger else row.enabled
        if wanted(before) == before:
            raise TaskUnchanged(f"It is {'enabled' if before else 'disabled'} already.")
        if trigger is not None:
            permission = "headrace_workflows.change_trigger"
            may = (permission, access.CHANGE_FLOWS)
            if not any(access.allows_in(request.user, each, trigger.organization_id) for each in may):
                raise Forbidden(f"It is a flow's schedule: that takes the role editor, or the permission {permission}.")
            schedules.switch(trigger, enabled=wanted(before))
            return
        row.enabled, row.last_run_at = wanted(before), None
        row.save()  # beat is told by a signal

    return switch


@admin.register(CrontabSchedule)
class CheckedCrontabAdmin(CheckedAdmin, CrontabScheduleAdmin):  # type: ignore[misc]
    """One that flows' schedules use is not changed here: their triggers say when they fire, and beat only looks."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and schedules.beat_rows().filter(crontab=obj).exists():
            return False
        return bool(super().has_change_permission(request, obj))


@admin.register(IntervalSchedule)
class CheckedIntervalAdmin(CheckedAdmin, IntervalScheduleAdmin):  # type: ignore[misc]
    pass


@admin.register(SolarSchedule)
class CheckedSolarAdmin(CheckedAdmin, SolarScheduleAdmin):  # type: ignore[misc]
    pass


@admin.register(ClockedSchedule)
class CheckedClockedAdmin(CheckedAdmin, ClockedScheduleAdmin):  # type: ignore[misc]
    pass
