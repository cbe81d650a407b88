"""Lists of tables with millions of rows: nothing on such a page reads a whole table."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest

from workflows.admin.readonly import ReadOnlyAdmin
from workflows.admin.scoped import seen_rows
from workflows.errors import Category
from workflows.models import Trigger
from workflows.models.run import STARTED_BY
from workflows.steps.registry import QUEUES, REGISTRY

MOST_LISTED = 10_000
"""A list has pages for so many rows, the newest; filters lead to the others."""
MOST_CHOICES = 200


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than MOST_LISTED."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[:MOST_LISTED].count())


class BoundedAdmin(ReadOnlyAdmin):
    """A page of a table that grows for ever: newest first, by the primary key."""

    paginator = BoundedPaginator
    show_full_result_count = False
    ordering: ClassVar = ("-pk",)
    list_per_page = 50

    def response_action(self, request: HttpRequest, queryset: Any, *args: Any, **more: Any) -> Any:
        """ "All rows" of the list are those that it has pages for."""
        if request.POST.get("select_across") == "1":
            queryset = queryset.filter(pk__in=list(queryset.order_by("-pk").values_list("pk", flat=True)[:MOST_LISTED]))
        return super().response_action(request, queryset, *args, **more)


class OneOf(admin.SimpleListFilter):
    """A filter by a field whose values are known without reading the table."""

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(**{self.parameter_name or "": self.value()}) if self.value() else queryset


class TypeFilter(OneOf):
    title, parameter_name = "type", "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted(REGISTRY)]


class StepTypeFilter(TypeFilter):
    parameter_name = "step_type"


class CategoryFilter(OneOf):
    title, parameter_name = "category", "category"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted(Category)]


class QueueFilter(OneOf):
    title, parameter_name = "queue", "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in QUEUES]


class EventNameFilter(OneOf):
    """The names that triggers listen to; any other name is searched for."""

    title, parameter_name = "name", "name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        seen = seen_rows(model_admin.admin_site, Trigger, request)
        heard = (Trigger.objects.all() if seen is None else seen).filter(kind=Trigger.Kind.EVENT).order_by("event_name")
        return [(name, name) for name in heard.values_list("event_name", flat=True).distinct()[:MOST_CHOICES]]


class StartedByFilter(OneOf):
    title, parameter_name = "started by", "trigger"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in STARTED_BY]
