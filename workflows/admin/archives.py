"""Archiving and deleting flows in the admin: actions that ask first, and the filter that shows what is archived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from workflows.admin.actions import audited
from workflows.admin.checked import CheckedAdmin
from workflows.edge import access
from workflows.errors import WorkflowsError
from workflows.models import Flow
from workflows.services.flows import archiving


class ArchivedFilter(admin.SimpleListFilter):
    """Archived flows are not listed unless they are asked for."""

    title = "archived"
    parameter_name = "archived"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Archived"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        listed = iter(super().choices(changelist))
        yield {**next(listed), "display": "Not archived"}
        yield from listed

    def queryset(self, request: HttpRequest, queryset: QuerySet[Flow]) -> QuerySet[Flow]:
        if self.value() == "all":
            return queryset
        return queryset.filter(archived_at__isnull=self.value() != "yes")


@dataclass(frozen=True, kw_only=True)
class _Question:
    """What an action asks before it is done."""

    action: str
    question: str
    consequence: str


ARCHIVE = _Question(
    action="archive",
    question="Archive these flows?",
    consequence="They start nothing any more, and leave the lists. Versions, runs and addresses of webhooks stay; "
    "publishing a flow again, or unarchiving it, brings it back.",
)
DELETE = _Question(
    action="delete_with_history",
    question="Delete these flows with all their history?",
    consequence="Their versions, runs, steps and dead letters are deleted for good. To keep those, archive them.",
)


class ArchivingActions(CheckedAdmin):
    """The actions of the list of flows. Each flow is done by the verb that API and CLI call, or it is said why not."""

    actions = ("archive", "unarchive", "delete_with_history")

    action_rights: ClassVar = {
        "archive": access.CHANGE_FLOWS,
        "unarchive": access.CHANGE_FLOWS,
        "delete_with_history": access.DELETE_FLOWS,
    }

    def has_archive_permission(self, request: HttpRequest) -> bool:
        return self.may_act(request, "archive")

    def has_erase_permission(self, request: HttpRequest) -> bool:
        return self.may_act(request, "delete_with_history")

    @admin.action(description="Archive the selected flows (their history is kept)", permissions=["archive"])
    def archive(self, request: HttpRequest, flows: QuerySet[Flow]) -> HttpResponse | None:
        def archive(flow: Flow) -> str:
            archiving.archive(flow.organization, flow.slug, by=request.user.get_username())
            return "archived."

        return self._ask_and_do(request, flows, ARCHIVE, archive)

    @admin.action(description="Unarchive the selected flows", permissions=["archive"])
    def unarchive(self, request: HttpRequest, flows: QuerySet[Flow]) -> None:
        def unarchive(flow: Flow) -> str:
            archiving.unarchive(flow.organization, flow.slug, by=request.user.get_username())
            return "back."

        self._do(request, flows, unarchive)

    @admin.action(description="Delete the selected flows with all their history", permissions=["erase"])
    def delete_with_history(self, request: HttpRequest, flows: QuerySet[Flow]) -> HttpResponse | None:
        def delete(flow: Flow) -> str:
            removal = archiving.delete(flow.organization, flow.slug, history="delete", by=request.user.get_username())
            return "deleted with its history." if removal.is_done else "its history is being deleted."

        return self._ask_and_do(request, flows, DELETE, delete)

    def _ask_and_do(
        self, request: HttpRequest, flows: QuerySet[Flow], ask: _Question, do: Callable[[Flow], str]
    ) -> HttpResponse | None:
        if request.POST.get("confirmed") != "yes":
            context = {
                **self.admin_site.each_context(request),
                "title": ask.question,
                "question": ask.question,
                "consequence": ask.consequence,
                "action": ask.action,
                "flows": flows.select_related("organization"),
                "opts": self.model._meta,
            }
            return TemplateResponse(request, "admin/headrace_workflows/flow/confirm.html", context)
        self._do(request, flows, do)
        return None

    def _do(self, request: HttpRequest, flows: QuerySet[Flow], do: Callable[[Flow], str]) -> None:
        done = []
        for flow in flows.select_related("organization"):
            try:
                messages.success(request, f"{flow.slug}: {do(flow)}")
                done.append(flow)
            except WorkflowsError as error:
                messages.error(request, f"{flow.slug}: {error}")
        if done:
            audited.action(request, self, done)
