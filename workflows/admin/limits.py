from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from throttling.errors import ThrottlingError
from throttling.models import ThrottleChange, ThrottleOverride
from workflows.admin.checked import SEEN, CheckedAdmin, SeenForm
from workflows.admin.readonly import ReadOnlyAdmin, json_block
from workflows.admin.scoped import Scope
from workflows.edge import access
from workflows.errors import WorkflowsError
from workflows.services import limits


class OverrideForm(SeenForm):
    """Checked by the same verb that the API calls."""

    stamp = "changed_at"

    class Meta:
        model = ThrottleOverride
        exclude = ("changed_by",)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            draft = ThrottleOverride(**{name: value for name, value in cleaned.items() if name != SEEN})
            try:
                limits.check_limit(draft)
            except (ThrottlingError, WorkflowsError) as error:
                raise ValidationError(str(error)) from None
            cleaned["org_id"] = draft.org_id  # that of its flow, where it is for one
        return cleaned


@admin.register(ThrottleOverride)
class ThrottleOverrideAdmin(CheckedAdmin):
    """Live overrides of limits and retries: a change holds on all workers within a second."""

    scope = Scope(path="org_id", change=access.CHANGE_LIMITS)
    form = OverrideForm
    list_display = ("__str__", "concurrency", "rate_limit", "rate_period_ms", "weight", "changed_by", "changed_at")
    list_filter = ("scope",)
    search_fields = ("type", "name", "note")
    readonly_fields = ("changed_by", "changed_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """A weight decides over the shares of other organizations: operators of the installation set it."""
        return self.readonly_fields if access.is_operator(request.user) else (*self.readonly_fields, "weight")

    def save_model(self, request: HttpRequest, obj: ThrottleOverride, form: Any, change: bool) -> None:
        before = ThrottleOverride.objects.get(pk=obj.pk) if change else None
        limits.put_limit(
            obj,
            by=f"user {request.user.get_username()}",
            instead_of=before,
            keep_weight=not access.is_operator(request.user),
        )

    def delete_model(self, request: HttpRequest, obj: ThrottleOverride) -> None:
        by = f"user {request.user.get_username()}"
        limits.delete_limit(obj, by=by, keep_weight=not access.is_operator(request.user))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ThrottleOverride]) -> None:
        for row in queryset:
            self.delete_model(request, row)
        messages.info(request, "What is shipped, configured or defined holds again.")


@admin.register(ThrottleChange)
class ThrottleChangeAdmin(ReadOnlyAdmin):
    """Who changed which override when."""

    scope = Scope(path="org_id")
    list_display = ("id", "at", "by", "place")
    list_filter = ("by",)
    fields = ("at", "by", "place", "org_id", "what_was", "what_is")

    @admin.display(description="before")
    def what_was(self, change: ThrottleChange) -> SafeString:
        return json_block(change.before)

    @admin.display(description="after")
    def what_is(self, change: ThrottleChange) -> SafeString:
        return json_block(change.after)
