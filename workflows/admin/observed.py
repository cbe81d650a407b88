"""The application's own Celery tasks, as they were observed, and those that steps have sent. Only shown."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from workflows.admin.bounded import BoundedPaginator
from workflows.admin.readonly import ReadOnlyAdmin
from workflows.admin.scoped import Scope
from workflows.errors import InvalidInput
from workflows.models import CeleryTask, ObservedTask
from workflows.selectors import observed


class ShownStateFilter(admin.SimpleListFilter):
    """By the state that is shown."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state) for state in (*ObservedTask.State.values, observed.UNKNOWN)]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if not self.value():
            return queryset
        try:
            return observed.with_state(queryset, str(self.value()))
        except InvalidInput:
            return queryset.none()


@admin.register(ObservedTask)
class ObservedTaskAdmin(ReadOnlyAdmin):
    """Outside of the promises: what a process did not tell is not here."""

    scope = Scope(path="org_id")
    list_display = ("id", "name", "shown", "queue", "hostname", "retries", "error", "sent_at", "duration", "seen_at")
    list_filter = (ShownStateFilter,)
    search_fields = ("=id", "=name", "=root_id")
    show_full_result_count = False
    paginator = BoundedPaginator
    readonly_fields = ("shown", "duration")

    @admin.display(description="state")
    def shown(self, task: ObservedTask) -> str:
        return observed.shown_state(task)

    @admin.display(description="seconds")
    def duration(self, task: ObservedTask) -> str:
        if task.started_at is None or task.ended_at is None:
            return ""
        return f"{(task.ended_at - task.started_at).total_seconds():.3f}"


@admin.register(CeleryTask)
class CeleryTaskAdmin(ReadOnlyAdmin):
    scope = Scope(path="org_id")
    list_display = ("task_id", "name", "state", "sends", "created_at", "sent_at", "ended_at", "ended_by")
    show_full_result_count = False
    paginator = BoundedPaginator
    exclude = ("end",)
