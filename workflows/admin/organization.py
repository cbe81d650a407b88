from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils import timezone

from workflows.admin.checked import CheckedAdmin
from workflows.admin.scoped import Scope
from workflows.edge import access
from workflows.errors import InvalidInput
from workflows.models import AccessKey, Event, Flow, Organization, Run, Secret
from workflows.steps import secret_rules


@admin.register(Organization)
class OrganizationAdmin(CheckedAdmin):
    """An organization can be deleted while nothing has happened in it: with it the runs would lose their owner."""

    scope = Scope(path="id", change=access.CHANGE_ORGANIZATION)
    deletes_in_bulk = False
    list_display = ("slug", "name", "created_at")
    search_fields = ("slug", "name")
    fields = ("slug", "name")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """No role of an organization makes another one: Django's own permission does."""
        return request.user.has_perm("headrace_workflows.add_organization")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and any(
            model.objects.filter(**{name: obj.id}).exists()
            for model, name in ((Flow, "organization"), (Run, "org_id"), (Event, "org_id"))
        ):
            return False
        return super().has_delete_permission(request, obj)


@admin.register(AccessKey)
class AccessKeyAdmin(CheckedAdmin):
    """A new key is shown once, in the message after saving."""

    scope = Scope(path="organization_id", change=access.CHANGE_KEYS, see=access.CHANGE_KEYS)
    action_rights: ClassVar = {"revoke": access.CHANGE_KEYS}
    list_display = ("prefix", "kind", "name", "operator", "organization", "created_at", "revoked_at")
    list_filter = ("kind", "organization")
    fields = ("organization", "kind", "name", "operator", "prefix", "created_at", "revoked_at")
    readonly_fields = ("prefix", "created_at", "revoked_at")
    actions = ("revoke",)

    def has_change_permission(self, request: HttpRequest, obj: AccessKey | None = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: AccessKey, form: Any, change: bool) -> None:
        row, key = AccessKey.issue(obj.organization, obj.kind, obj.name, operator=obj.operator)
        obj.pk, obj.prefix, obj.digest = row.pk, row.prefix, row.digest
        messages.warning(request, f"The new key, shown this once: {key}")

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, keys: Any) -> None:
        before = [f"{key}: it was revoked before." for key in keys.exclude(revoked_at=None)]
        self.report(request, keys.filter(revoked_at=None).update(revoked_at=timezone.now()), "keys revoked", before)


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
    scope = Scope(path="organization_id", change=access.CHANGE_SECRETS, see=access.CHANGE_SECRETS)
    form = SecretForm
    list_display = ("name", "organization", "updated_at")
    list_filter = ("organization",)
