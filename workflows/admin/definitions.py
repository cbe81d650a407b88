from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from workflows.admin.archives import ArchivedFilter, ArchivingActions
from workflows.admin.checked import CHANGED, SEEN, CheckedAdmin, SeenForm
from workflows.admin.readonly import ReadOnlyAdmin, ReadOnlyInline, json_block
from workflows.admin.scoped import Scope
from workflows.definitions import document
from workflows.definitions.validate import DefinitionProblems, parse
from workflows.edge import access
from workflows.edge.values import whole_number
from workflows.errors import WorkflowsError
from workflows.models import CronFire, EventSchema, Flow, FlowVersion, Organization, Step, Trigger
from workflows.services import events, schedules
from workflows.services.flows import editing
from workflows.steps.registry import REGISTRY


class FlowForm(SeenForm):
    """A flow as its definition; saving publishes a new version where it differs."""

    definition = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 40, "cols": 110, "spellcheck": "false"}),
        help_text="YAML or JSON; saving publishes it as the next version.",
    )

    class Meta:
        model = Flow
        fields = ("organization",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding and self.instance.current:
            current = self.instance.current
            self.initial["definition"] = current.source or document.dumps(current.definition)

    def state(self) -> str:
        """The number of the version that is current; publishing looks at it once more, and holds the flow."""
        return str(editing.number_of(self.instance))

    def what_happened(self, seen: str) -> str:
        try:
            editing.refuse_stale(self.instance, whole_number(seen) or 0)
        except WorkflowsError as error:
            return str(error)
        return super().what_happened(seen)

    def clean(self) -> dict[str, Any]:
        """What publishing would refuse is said in the form."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        organization = cleaned.get("organization") or getattr(self.instance, "organization", None)
        if "definition" in cleaned:
            flow = None if self.instance._state.adding else self.instance
            try:
                if organization is None:
                    parse(document.loads(cleaned["definition"]))
                else:
                    editing.check(organization, cleaned["definition"], flow)
            except DefinitionProblems as error:
                self.add_error("definition", [str(problem) for problem in error.problems])
            except WorkflowsError as error:
                self.add_error("definition", str(error))
        return cleaned


class VersionInline(ReadOnlyInline):
    model = FlowVersion
    fields = ("number", "checksum", "published_at")
    readonly_fields = fields


class TriggerInline(ReadOnlyInline):
    model = Trigger
    fields = ("key", "kind", "event_name", "condition", "config", "enabled")
    readonly_fields = fields


@admin.register(Flow)
class FlowAdmin(ArchivingActions):
    scope = Scope(path="organization_id", change=access.CHANGE_FLOWS)
    form = FlowForm
    deletes_in_bulk = False
    list_display = ("slug", "name", "organization", "version", "updated_at", "archived_at")
    list_select_related = ("organization", "current")
    list_filter = (ArchivedFilter, "organization")
    search_fields = ("slug", "name")
    inlines = (TriggerInline, VersionInline)

    @admin.display(description="version", ordering="current__number")
    def version(self, flow: Flow) -> int | None:
        return flow.current.number if flow.current else None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Flow]:
        return super().get_queryset(request).defer("current__definition", "current__source")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # there are actions for it, which ask what becomes of the history

    def get_readonly_fields(self, request: HttpRequest, obj: Flow | None = None) -> tuple[str, ...]:
        return ("organization",) if obj else ()

    def save_model(self, request: HttpRequest, obj: Flow, form: Any, change: bool) -> None:
        organization: Organization = obj.organization
        source = form.cleaned_data["definition"]
        flow, seen = (obj, int(form.cleaned_data["seen"])) if change else (None, 0)
        applied = editing.publish(organization, source, flow, seen=seen)
        form.applied = applied
        obj.pk, obj.slug, obj.name = applied.flow.pk, applied.flow.slug, applied.flow.name
        obj.refresh_from_db()
        if applied.changed or applied.unarchived:
            messages.success(request, editing.sentence_of(applied))
        elif form.has_changed():
            messages.info(request, editing.sentence_of(applied))

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        setattr(request, CHANGED, form.applied.changed)


class StepInline(ReadOnlyInline):
    model = Step
    fields = ("key", "type", "needs", "condition", "critical", "queue", "timeout_ms")
    readonly_fields = fields


@admin.register(FlowVersion)
class FlowVersionAdmin(ReadOnlyAdmin):
    scope = Scope(path="flow__organization_id")
    list_display = ("flow", "number", "published_at", "checksum")
    list_filter = ("flow",)
    fields = ("flow", "number", "published_at", "checksum", "definition_yaml")
    inlines = (StepInline,)

    @admin.display(description="Definition")
    def definition_yaml(self, obj: FlowVersion) -> SafeString:
        return format_html_join("", "<pre>{}</pre>", [(document.dumps(obj.definition),)])


@admin.register(Step)
class StepAdmin(ReadOnlyAdmin):
    """A step with its configuration laid out by the step type's model."""

    scope = Scope(path="version__flow__organization_id")
    list_display = ("key", "version", "type", "critical", "queue")
    list_filter = ("type",)
    fields = ("key", "version", "type", "needs", "condition", "critical", "queue", "timeout_ms", "configuration")

    @admin.display(description="Configuration")
    def configuration(self, obj: Step) -> SafeString:
        fields = REGISTRY[obj.type].config_model.model_fields
        rows = [
            (
                field.alias or name,
                json_block(obj.config.get(field.alias or name, field.get_default())),
                field.description or "",
            )
            for name, field in fields.items()
        ]
        return format_html_join("", "<p><b>{}</b> <span>{}</span> <i>{}</i></p>", rows)


@admin.register(Trigger)
class TriggerAdmin(CheckedAdmin):
    scope = Scope(path="organization_id", change=access.CHANGE_FLOWS)
    list_display = ("flow", "key", "kind", "event_name", "condition", "next_fire_at", "enabled")
    list_filter = ("kind", "enabled")
    list_editable = ("enabled",)
    readonly_fields = (
        "organization",
        "flow",
        "key",
        "named",
        "kind",
        "event_name",
        "condition",
        "config",
        "token",
        "fires_from",
        "next_fire_at",
        "position",
        "removed_at",
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Trigger, form: Any, change: bool) -> None:
        if form.has_changed():  # else a schedule would forget what it has not caught up with yet
            schedules.switch(obj, enabled=obj.enabled)


@admin.register(CronFire)
class CronFireAdmin(ReadOnlyAdmin):
    scope = Scope(path="org_id")
    list_display = ("flow", "schedule", "fire_at", "outcome", "run_id", "reason")
    list_filter = ("outcome", "flow")


class EventSchemaForm(SeenForm):
    """Checked by the verb that the API calls."""

    stamp = "updated_at"

    class Meta:
        model = EventSchema
        fields = ("organization", "name", "schema")

    def clean_schema(self) -> Any:
        schema = self.cleaned_data["schema"]
        try:
            events.check_schema(schema)
        except WorkflowsError as error:
            raise ValidationError(str(error)) from None
        return schema


@admin.register(EventSchema)
class EventSchemaAdmin(CheckedAdmin):
    scope = Scope(path="organization_id", change=access.CHANGE_FLOWS)
    form = EventSchemaForm
    list_display = ("name", "organization", "updated_at")
    list_filter = ("organization",)

    def get_readonly_fields(self, request: HttpRequest, obj: EventSchema | None = None) -> tuple[str, ...]:
        return ("organization", "name") if obj else ()  # another name is another schema

    def save_model(self, request: HttpRequest, obj: EventSchema, form: Any, change: bool) -> None:
        row = events.put_schema(obj.organization, obj.name, obj.schema, seen=form.cleaned_data[SEEN])
        obj.pk, obj.updated_at = row.pk, row.updated_at

    def delete_model(self, request: HttpRequest, obj: EventSchema) -> None:
        events.delete_schema(obj.organization, obj.name)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[EventSchema]) -> None:
        for row in queryset.select_related("organization"):
            self.delete_model(request, row)
