from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from workflows.admin.readonly import ReadOnlyAdmin, ReadOnlyInline
from workflows.admin.scoped import Scope
from workflows.edge import access
from workflows.errors import OperationNotTurned
from workflows.models import BulkOperation, OperationChange, Organization
from workflows.services import bulk


class OperationChangeInline(ReadOnlyInline):
    model = OperationChange
    fields = ("what", "by", "at")
    readonly_fields = fields


@admin.register(BulkOperation)
class BulkOperationAdmin(ReadOnlyAdmin):
    """Bulk operations: how far they are, who asked for them; to stop and to resume."""

    scope = Scope(path="org_id")
    action_rights: ClassVar = {"stop": access.CHANGE_RUNS, "resume": access.CHANGE_RUNS}
    list_display = (
        "id",
        "action",
        "status",
        "done",
        "passed_over",
        "repaired_before",
        "matched",
        "matched_at_least",
        "per_second",
        "created_by",
        "created_at",
    )
    list_filter = ("status", "action")
    inlines = (OperationChangeInline,)
    actions = ("stop", "resume")

    def has_turn_permission(self, request: HttpRequest) -> bool:
        return self.may_act(request, "stop")

    @admin.action(description="Stop", permissions=["turn"])
    def stop(self, request: HttpRequest, operations: QuerySet[BulkOperation]) -> None:
        self._turn(request, operations, "stopped", bulk.stop)

    @admin.action(description="Resume", permissions=["turn"])
    def resume(self, request: HttpRequest, operations: QuerySet[BulkOperation]) -> None:
        self._turn(request, operations, "resumed", bulk.resume)

    def _turn(self, request: HttpRequest, operations: QuerySet[BulkOperation], what: str, verb: Any) -> None:
        by = request.user.get_username()
        organizations = Organization.objects.in_bulk({each.org_id for each in operations})

        def turn(operation: BulkOperation) -> None:
            latest = OperationChange.objects.filter(operation=operation).count()
            now = verb(organizations[operation.org_id], operation.id, by=by)
            if OperationChange.objects.filter(operation=operation).count() == latest:
                raise OperationNotTurned(f"It is {now.status}: it can't be {what}.")

        self.apply(request, operations, f"operations {what}", turn)
