from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest

from workflows.admin.checked import CheckedAdmin
from workflows.admin.readonly import ReadOnlyAdmin
from workflows.edge import redaction
from workflows.edge.access import RIGHTS, WHAT
from workflows.errors import InvalidInput
from workflows.models import AccessKey, AuditEntry, Event, Flow, Organization, Run, Secret
from workflows.services import access_keys
from workflows.services.access import redacting
from workflows.steps import secret_rules


class LinesField(forms.CharField):
    """Texts, one a line."""

    def has_changed(self, initial: Any, data: Any) -> bool:
        return str(initial or "").split() != str(data or "").split()


class OrganizationForm(forms.ModelForm):  # type: ignore[type-arg]
    redaction = LinesField(
        widget=forms.Textarea(attrs={"rows": 4}),
        required=False,
        help_text="Fields of payloads whose values nobody is shown, one a line: password, data.card.number, …",
    )

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.initial["redaction"] = "" if self.instance._state.adding else "\n".join(self.instance.redaction)

    def clean_redaction(self) -> list[str]:
        lines = [line.strip() for line in str(self.cleaned_data["redaction"]).splitlines()]
        try:
            return redaction.checked([line for line in lines if line])
        except InvalidInput as error:
            raise forms.ValidationError(str(error)) from None


@admin.register(Organization)
class OrganizationAdmin(CheckedAdmin):
    """An organization can be deleted while nothing has happened in it: with it the runs would lose their owner."""

    deletes_in_bulk = False
    list_display = ("slug", "name", "created_at")
    search_fields = ("slug", "name")
    fields = ("slug", "name", "redaction")
    form = OrganizationForm

    def save_model(self, request: HttpRequest, obj: Organization, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        redacting.set_rules(obj, obj.redaction)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and any(
            model.objects.filter(**{name: obj.id}).exists()
            for model, name in ((Flow, "organization"), (Run, "org_id"), (Event, "org_id"))
        ):
            return False
        return super().has_delete_permission(request, obj)


class KeyForm(forms.ModelForm):  # type: ignore[type-arg]
    scopes = forms.MultipleChoiceField(
        choices=[(word, WHAT[permission]) for word, permission in RIGHTS.items()],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="What an API key may change; none: everything. Each key reads.",
    )


@admin.register(AccessKey)
class AccessKeyAdmin(CheckedAdmin):
    """A new key is shown once, in the message after saving."""

    form = KeyForm
    list_display = (
        "prefix", "kind", "name", "operator", "organization", "created_at", "expires_at", "last_used_at", "revoked_at",
    )  # fmt: skip
    list_filter = ("kind", "organization")
    fields = (
        "organization", "kind", "name", "operator", "scopes", "expires_at", "prefix", "created_at", "last_used_at",
        "replaces", "revoked_at",
    )  # fmt: skip
    readonly_fields = ("prefix", "created_at", "last_used_at", "replaces", "revoked_at")
    actions = ("rotate", "revoke")

    def has_change_permission(self, request: HttpRequest, obj: AccessKey | None = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: AccessKey, form: Any, change: bool) -> None:
        row, key = access_keys.issue(
            obj.organization, obj.kind, obj.name, scopes=obj.scopes, operator=obj.operator, expires_at=obj.expires_at
        )
        obj.pk, obj.prefix, obj.digest = row.pk, row.prefix, row.digest
        messages.warning(request, f"The new key, shown this once: {key}")

    @admin.action(description="Rotate the selected keys (the old ones hold for another day)", permissions=["add"])
    def rotate(self, request: HttpRequest, keys: Any) -> None:
        def rotate(row: AccessKey) -> None:
            _, key = access_keys.rotate(row.organization, row.id)
            messages.info(request, f"The successor of {row}, shown this once: {key}")

        self.apply(request, keys.select_related("organization"), "keys rotated", rotate)

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, keys: Any) -> None:
        rows = keys.select_related("organization")
        self.apply(request, rows, "keys revoked", lambda row: access_keys.revoke(row.organization, row.id))


def _checked(rule: Callable[[str], None], text: str) -> str:
    try:
        rule(text)
    except InvalidInput as error:
        raise forms.ValidationError(str(error)) from None
    return text


class SecretForm(forms.ModelForm):  # type: ignore[type-arg]
    value = forms.CharField(
        widget=forms.PasswordInput, strip=False, help_text="Stored encrypted; it can't be shown again."
    )

    class Meta:
        model = Secret
        fields = ("organization", "name")

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        return _checked(secret_rules.check_name, name)

    def clean_value(self) -> str:
        value = str(self.cleaned_data["value"])
        return _checked(secret_rules.check_value, value)

    def save(self, commit: bool = True) -> Any:
        self.instance.value = self.cleaned_data["value"]
        return super().save(commit)


@admin.register(Secret)
class SecretAdmin(CheckedAdmin):
    form = SecretForm
    list_display = ("name", "organization", "updated_at")
    list_filter = ("organization",)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    """Who changed what. Nobody changes an entry; retention alone deletes."""

    list_display = ("at", "actor_kind", "actor", "verb", "object_kind", "object_id", "org_id")
    list_filter = ("actor_kind",)
    search_fields = ("=actor", "=object_id", "=verb")
    show_full_result_count = False
