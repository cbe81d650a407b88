from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db.models import Count, Max, Q, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString

from dlq import services
from dlq.alerting import channels
from dlq.alerting.default_rules import RULES
from dlq.models import (
    Alert,
    AlertChannel,
    AlertNotification,
    AlertRule,
    DeadLetter,
    DeadLetterChange,
    DeadLetterComment,
    DeadLetterGroup,
)
from workflows.admin.actions.once_more import confirmation
from workflows.admin.bounded import BoundedAdmin, CategoryFilter, StepTypeFilter
from workflows.admin.checked import CheckedAdmin
from workflows.admin.readonly import ReadOnlyAdmin, ReadOnlyInline, json_block
from workflows.admin.scoped import Scope
from workflows.edge import access
from workflows.errors import WorkflowsError
from workflows.models import Organization
from workflows.presenters import redaction


class ChangeInline(ReadOnlyInline):
    model = DeadLetterChange
    fields = ("what", "by", "at", "reason", "run_id", "patch")
    readonly_fields = fields


@admin.register(DeadLetter)
class DeadLetterAdmin(BoundedAdmin):
    scope = Scope(path="org_id")
    action_rights: ClassVar = dict.fromkeys(
        ("replay", "resume", "ignore", "reopen", "replay_once_more", "resume_once_more"), access.CHANGE_LETTERS
    )
    list_display = ("id", "flow", "step_key", "category", "error_message_short", "attempts", "status", "failed_at")
    list_filter = ("status", CategoryFilter, StepTypeFilter, "flow")
    list_select_related = ("flow",)
    search_fields = ("error_message", "event_name")
    inlines = (ChangeInline,)
    actions = ("replay", "resume", "ignore", "reopen", "replay_once_more", "resume_once_more")
    fields = (
        "id", "flow", "run_id", "first_run_id", "step_key", "step_type", "category", "event_name", "event_id",
        "event_data_json", "error_name", "error_message", "error_stack", "attempts", "status", "reason",
        "replay_run_id", "auto_replay_at", "failed_at", "reprocessed_at",
    )  # fmt: skip

    def has_handle_permission(self, request: HttpRequest) -> bool:
        return self.may_act(request, "ignore")

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """With the errors of all rows, masked together before they are cut."""
        page = super().get_changelist_instance(request)
        page.result_list = rows = list(page.result_list)
        shown = redaction.texts([(row.error_message, row.run_id) for row in rows])
        for row, text in zip(rows, shown, strict=True):
            row.short_error = text[:100]
        return page

    @admin.display(description="error")
    def error_message_short(self, obj: DeadLetter) -> str:
        return str(obj.short_error)  # type: ignore[attr-defined]  # of the list's page

    @admin.display(description="Event data")
    def event_data_json(self, obj: DeadLetter) -> SafeString:
        return json_block(obj.event_data, obj.org_id)

    @admin.action(description="Replay from the start", permissions=["handle"])
    def replay(self, request: HttpRequest, rows: QuerySet[DeadLetter]) -> None:
        by = request.user.get_username()
        self._handle(request, rows, "replayed", lambda org, row: services.replay(org, row.id, by=by))

    @admin.action(description="Resume from the failed step", permissions=["handle"])
    def resume(self, request: HttpRequest, rows: QuerySet[DeadLetter]) -> None:
        by = request.user.get_username()
        self._handle(request, rows, "resumed", lambda org, row: services.replay(org, row.id, by=by, mode="resume"))

    @admin.action(description="Ignore", permissions=["handle"])
    def ignore(self, request: HttpRequest, rows: QuerySet[DeadLetter]) -> None:
        by = request.user.get_username()
        self._handle(
            request, rows, "ignored", lambda org, row: services.ignore(org, row.id, by=by, reason="in the admin")
        )

    @admin.action(description="Reopen", permissions=["handle"])
    def reopen(self, request: HttpRequest, rows: QuerySet[DeadLetter]) -> None:
        by = request.user.get_username()
        self._handle(request, rows, "reopened", lambda org, row: services.reopen(org, row.id, by=by))

    def _handle(self, request: HttpRequest, rows: QuerySet[DeadLetter], what: str, act: Any) -> None:
        organizations = Organization.objects.in_bulk({row.org_id for row in rows})
        self.apply(request, rows, what, lambda row: act(organizations[row.org_id], row))

    @admin.action(description="Replay once more what was repaired already", permissions=["handle"])
    def replay_once_more(self, request: HttpRequest, rows: QuerySet[DeadLetter]) -> TemplateResponse | None:
        return self._once_more(request, rows, "start", "the runs are replayed from the start")

    @admin.action(description="Resume once more what was repaired already", permissions=["handle"])
    def resume_once_more(self, request: HttpRequest, rows: QuerySet[DeadLetter]) -> TemplateResponse | None:
        return self._once_more(request, rows, "resume", "the runs are resumed from the failed step")

    def _once_more(
        self, request: HttpRequest, rows: QuerySet[DeadLetter], mode: str, description: str
    ) -> TemplateResponse | None:
        question, by = confirmation(self.admin_site, request, rows, description), request.user.get_username()
        if question is None:
            self._handle(
                request,
                rows,
                "repaired once more",
                lambda org, row: services.replay(org, row.id, by=by, mode=mode, force=True),
            )
        return question


if TYPE_CHECKING:
    Inline = admin.TabularInline[DeadLetterComment, DeadLetterGroup]
else:
    Inline = admin.TabularInline  # Django's own can't be subscripted


class CommentInline(Inline):
    model = DeadLetterComment
    extra = 1
    fields = ("text", "by", "at")
    readonly_fields = ("by", "at")
    can_delete = False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is not None and access.allows_in(request.user, access.CHANGE_LETTERS, obj.org_id)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class GroupForm(forms.ModelForm):  # type: ignore[type-arg]
    """Checked by the same rules that the API has."""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        changed = {name: cleaned.get(name) for name in ("snoozed_until", "auto_replay_s") if name in self.changed_data}
        try:
            services.check_group(**changed)
        except WorkflowsError as error:
            raise ValidationError(str(error)) from None
        return cleaned


@admin.register(DeadLetterGroup)
class DeadLetterGroupAdmin(CheckedAdmin):
    """Groups: assign, snooze, comment, and say whether they are replayed by themselves."""

    scope = Scope(path="org_id", change=access.CHANGE_LETTERS)
    form = GroupForm
    list_display = ("message", "step_type", "category", "failed", "total", "last_seen", "assigned_to", "snoozed_until")
    list_filter = ("category", "step_type", "assigned_to")
    search_fields = ("message", "fingerprint")
    readonly_fields = ("fingerprint", "step_type", "category", "error_name", "message", "location", "first_seen")
    fields = (*readonly_fields, "assigned_to", "snoozed_until", "auto_replay_s")
    inlines = (CommentInline,)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeadLetterGroup]:
        groups: QuerySet[DeadLetterGroup] = super().get_queryset(request)
        return groups.annotate(
            failed=Count("letters", filter=Q(letters__status="failed")),
            total=Count("letters"),
            last_seen=Max("letters__failed_at"),
        )  # fmt: skip

    @admin.display(ordering="failed")
    def failed(self, obj: Any) -> int:
        return int(obj.failed)

    @admin.display(ordering="total")
    def total(self, obj: Any) -> int:
        return int(obj.total)

    @admin.display(ordering="last_seen")
    def last_seen(self, obj: Any) -> Any:
        return obj.last_seen

    def save_model(self, request: HttpRequest, obj: DeadLetterGroup, form: Any, change: bool) -> None:
        organization, by = Organization.objects.get(id=obj.org_id), request.user.get_username()
        if "assigned_to" in form.changed_data:
            services.assign(organization, obj.id, to=obj.assigned_to, by=by)
        if "snoozed_until" in form.changed_data:
            services.snooze(organization, obj.id, until=obj.snoozed_until, by=by)
        if "auto_replay_s" in form.changed_data:
            services.set_auto_replay(organization, obj.id, after_s=obj.auto_replay_s, by=by)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        formset.save(commit=False)
        organization = Organization.objects.get(id=form.instance.org_id)
        for comment in formset.new_objects:
            services.comment(organization, form.instance.id, text=comment.text, by=request.user.get_username())


@admin.register(AlertRule)
class AlertRuleAdmin(CheckedAdmin):
    """A shipped rule is switched off, not deleted: `migrate` would make it anew."""

    scope = Scope(path="org_id", change=access.CHANGE_ALERTS)
    list_display = ("name", "metric", "comparison", "threshold", "window_s", "min_runs", "severity", "enabled")
    list_filter = ("metric", "severity", "enabled")
    list_editable = ("threshold", "enabled")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name",) if obj is not None and _is_shipped(obj) else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return not (obj is not None and _is_shipped(obj)) and super().has_delete_permission(request, obj)


def _is_shipped(rule: AlertRule) -> bool:
    return any(rule.name == each["name"] for each in RULES)


class ChannelForm(forms.ModelForm):  # type: ignore[type-arg]
    """The address is stored encrypted and never shown again."""

    url = forms.CharField(
        label="Address",
        required=False,
        widget=forms.PasswordInput(attrs={"size": 80}),
        help_text="As apprise takes it: slack://…, mailto://…, json://host/path. Empty: the one that there is.",
    )

    class Meta:
        model = AlertChannel
        fields = ("name", "url", "min_severity", "org_id", "enabled")

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"]).strip()
        if not url and self.instance.pk is None:
            raise ValidationError("Give an address.")
        problem = channels.problem_of(url) if url else None
        if problem:
            raise ValidationError(problem)
        return url

    def save(self, commit: bool = True) -> Any:
        if self.cleaned_data["url"]:
            self.instance.url = self.cleaned_data["url"]
        return super().save(commit)


@admin.register(AlertChannel)
class AlertChannelAdmin(CheckedAdmin):
    scope = Scope(path="org_id", change=access.CHANGE_ALERTS, see=access.CHANGE_ALERTS)
    form = ChannelForm
    list_display = ("name", "min_severity", "org_id", "enabled")


class NotificationInline(ReadOnlyInline):
    model = AlertNotification
    fields = ("channel", "kind", "status", "tries", "sent_at", "error")
    readonly_fields = fields


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    scope = Scope(path="org_id")
    list_display = ("title", "severity", "rule", "fired_at", "recovered_at")
    list_filter = ("severity", "rule")
    inlines = (NotificationInline,)
