"""How long things are kept, and how far deleting is."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest

from workflows.admin.checked import SEEN, CheckedAdmin, SeenForm
from workflows.admin.readonly import ReadOnlyAdmin
from workflows.admin.scoped import Scope
from workflows.edge import access
from workflows.engine.retention.subjects import SUBJECTS
from workflows.errors import InvalidInput
from workflows.models import RetentionRule, RetentionState
from workflows.selectors.upkeep.retention import announcement_of
from workflows.services.retention import rules


class RuleForm(SeenForm):
    """Checked as the API checks it."""

    stamp = "changed_at"

    subject = forms.ChoiceField(
        choices=[(subject.name, f"{subject.name}: {subject.meaning}") for subject in SUBJECTS.values()]
    )

    class Meta:
        model = RetentionRule
        fields = ("organization", "subject", "days")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        try:
            rules.check(cleaned.get("organization"), cleaned["subject"], cleaned.get("days"))
        except InvalidInput as error:
            raise ValidationError(str(error)) from None
        taken = RetentionRule.objects.filter(organization=cleaned.get("organization"), subject=cleaned["subject"])
        if taken.exclude(pk=self.instance.pk).exists():
            raise ValidationError("There is such a rule already: change that one.")
        return cleaned


@admin.register(RetentionRule)
class RetentionRuleAdmin(CheckedAdmin):
    """What is kept for longer is kept within half a minute; what may go sooner goes with the next pass."""

    scope = Scope(path="organization_id", change=access.CHANGE_ORGANIZATION)
    form = RuleForm
    list_display = ("subject", "organization", "days", "meaning", "changed_by", "changed_at")
    list_filter = ("subject",)
    readonly_fields = ("changed_by", "changed_at")

    @admin.display(description="what that means")
    def meaning(self, rule: RetentionRule) -> str:
        return SUBJECTS[rule.subject].meaning if rule.subject in SUBJECTS else "nothing any more"

    def save_model(self, request: HttpRequest, obj: RetentionRule, form: Any, change: bool) -> None:
        by, seen = f"user {request.user.get_username()}", form.cleaned_data[SEEN]
        if change:
            before = RetentionRule.objects.get(pk=obj.pk)
            if (before.organization_id, before.subject) != (obj.organization_id, obj.subject):
                rules.clear_rule(before.organization, before.subject, by=by, seen=seen)
                seen = ""
        obj.pk = rules.set_rule(obj.organization, obj.subject, obj.days, by=by, seen=seen).pk

    def delete_model(self, request: HttpRequest, obj: RetentionRule) -> None:
        rules.clear_rule(obj.organization, obj.subject, by=f"user {request.user.get_username()}")

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[RetentionRule]) -> None:
        for row in queryset:
            self.delete_model(request, row)
        messages.info(request, "The rule for all, the environment or the default holds again.")


@admin.register(RetentionState)
class RetentionStateAdmin(ReadOnlyAdmin):
    """How far deleting is."""

    list_display = ("announcement", "dry_until", "began_at", "ended_at", "next_at")

    @admin.display(description="what is to come")
    def announcement(self, state: RetentionState) -> str:
        return announcement_of(state) or "What has expired is deleted."
