from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils import timezone

from workflows.models import AccessKey, Organization, Secret


@admin.register(Organization)
class OrganizationAdmin(admin.ModelAdmin[Organization]):
    list_display = ("slug", "name", "created_at")
    search_fields = ("slug", "name")


@admin.register(AccessKey)
class AccessKeyAdmin(admin.ModelAdmin[AccessKey]):
    """A new key is shown once, in the message after saving."""

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
        count = keys.filter(revoked_at=None).update(revoked_at=timezone.now())
        messages.success(request, f"{count} keys revoked.")


class SecretForm(forms.ModelForm):  # type: ignore[type-arg]
    value = forms.CharField(widget=forms.PasswordInput, help_text="Stored encrypted; it can't be shown again.")

    class Meta:
        model = Secret
        fields = ("organization", "name")

    def save(self, commit: bool = True) -> Any:
        self.instance.value = self.cleaned_data["value"]
        return super().save(commit)


@admin.register(Secret)
class SecretAdmin(admin.ModelAdmin[Secret]):
    form = SecretForm
    list_display = ("name", "organization", "updated_at")
    list_filter = ("organization",)
