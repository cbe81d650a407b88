from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import add_never_cache_headers

from workflows.admin.bounded import BoundedAdmin
from workflows.admin.checked import SEEN, CheckedAdmin, SeenForm
from workflows.admin.scoped import Scope
from workflows.edge import access, redaction
from workflows.edge.access import RIGHTS, WHAT
from workflows.errors import InvalidInput, WorkflowsError
from workflows.models import AccessKey, AuditEntry, Event, Flow, Membership, Organization, Run, Secret
from workflows.selectors.access.secrets import left_without
from workflows.services import access_keys
from workflows.services.access import changes, redacting, secrets
from workflows.services.tenancy import members, quotas
from workflows.steps import secret_rules

NEW_KEYS = "_new_keys"
"""What a request carries: the keys that it has made, each with its row."""
QUOTAS = ("events_per_s", "concurrent_steps", "stored_bytes_most")


class MembershipForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new member is named: a list of all logins of the installation is nothing for the admin of one organization."""

    member = forms.CharField(max_length=200, help_text="A login (anna) or a team (group:finance).")

    class Meta:
        model = Membership
        fields = ("role",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.initial["member"] = self.instance.member
            self.fields["member"].disabled = True

    def clean_member(self) -> str:
        name = str(self.cleaned_data["member"])
        if self.instance._state.adding:
            try:
                members.check(name)
            except WorkflowsError as error:
                raise forms.ValidationError(str(error)) from None
            self.instance.named = name
        return name

    def _get_validation_exclusions(self) -> set[str]:
        return {*super()._get_validation_exclusions(), "user", "group"}  # type: ignore[misc]  # the stubs lack it

    def validate_constraints(self) -> None:
        """The verb looks for the login or team."""


if TYPE_CHECKING:
    Inline = admin.TabularInline[Membership, Organization]
else:
    Inline = admin.TabularInline  # Django's own can't be subscripted


class MembershipInline(Inline):
    model = Membership
    form = MembershipForm
    extra = 0
    fields = ("member", "role", "added_by", "created_at")
    readonly_fields = ("added_by", "created_at")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, obj)

    def _may(self, request: HttpRequest, obj: Any) -> bool:
        """Only of an organization that is there already."""
        return obj is not None and access.allows(request.user, access.CHANGE_ORGANIZATION, obj)


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

    scope = Scope(path="id", change=access.CHANGE_ORGANIZATION)
    deletes_in_bulk = False
    list_display = ("slug", "name", "created_at")
    search_fields = ("slug", "name")
    fields = ("slug", "name", "redaction", *QUOTAS, "stored_bytes", "stored_bytes_at", "encrypts_payloads")
    form = OrganizationForm
    inlines = (MembershipInline,)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Operators of the installation set quotas, and slugs: links and commands name them."""
        measured = ("stored_bytes", "stored_bytes_at", "encrypts_payloads")
        return measured if access.is_operator(request.user) else ("slug", *QUOTAS, *measured)

    def save_model(self, request: HttpRequest, obj: Organization, form: Any, change: bool) -> None:
        given = {name: getattr(obj, name) or quotas.NO_QUOTA for name in QUOTAS if name in form.changed_data}
        before = Organization.objects.filter(pk=obj.pk).values(*QUOTAS).first() or dict.fromkeys(QUOTAS)
        for name in QUOTAS:
            setattr(obj, name, before[name])  # the verb sets them, and the limit that one of them is
        super().save_model(request, obj, form, change)
        redacting.set_rules(obj, obj.redaction)
        if given:
            given["stored_bytes"] = given.pop("stored_bytes_most", quotas.KEEP)
            quotas.set_quotas(obj, **given, by=f"user {request.user.get_username()}")

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Memberships go through the verbs that page and command call. One entry can't have the roles of several
        members before and after: it names them."""
        formset.save(commit=False)
        with changes.collected():
            self._save_members(formset, form, access.changes_members(request.user, form.instance))

    @staticmethod
    def _save_members(formset: Any, form: Any, caller: Any) -> None:
        for row in formset.deleted_objects:
            members.remove(form.instance, row.member, **caller)
        for row, _ in formset.changed_objects:
            members.put(form.instance, row.member, row.role, **caller)
        for each in formset.new_objects:
            made = members.put(form.instance, each.named, each.role, **caller)
            each.user, each.group = made.user, made.group  # the history of the page says who it is

    def has_add_permission(self, request: HttpRequest) -> bool:
        """No role of an organization makes another one: operators of the installation do."""
        return access.is_operator(request.user)

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
    """A new key is shown once, by the answer to the form: a message would be kept in a session or a cookie."""

    scope = Scope(path="organization_id", change=access.CHANGE_KEYS, see=access.CHANGE_KEYS)
    action_rights: ClassVar = {"revoke": access.CHANGE_KEYS, "rotate": access.CHANGE_KEYS}
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

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Only operators of the installation issue an operator's key."""
        return self.readonly_fields if access.is_operator(request.user) else (*self.readonly_fields, "operator")

    def has_change_permission(self, request: HttpRequest, obj: AccessKey | None = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: AccessKey, form: Any, change: bool) -> None:
        row, key = access_keys.issue(
            obj.organization, obj.kind, obj.name, scopes=obj.scopes, operator=obj.operator, expires_at=obj.expires_at,
            **access.issues_keys(request.user, obj.organization),
        )  # fmt: skip
        obj.pk, obj.prefix, obj.digest = row.pk, row.prefix, row.digest
        request.__dict__.setdefault(NEW_KEYS, []).append((row, key))

    def response_add(self, request: HttpRequest, obj: AccessKey, post_url_continue: str | None = None) -> HttpResponse:
        return self._shown_once(request)

    def _shown_once(self, request: HttpRequest) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "title": "New keys", "made": request.__dict__[NEW_KEYS],
                   "opts": self.opts}  # fmt: skip
        answer = render(request, "admin/headrace_workflows/new_keys.html", context)
        add_never_cache_headers(answer)
        return answer

    @admin.action(description="Rotate the selected keys (the old ones hold for another day)", permissions=["add"])
    def rotate(self, request: HttpRequest, keys: Any) -> HttpResponse | None:
        made = request.__dict__.setdefault(NEW_KEYS, [])

        def rotate(row: AccessKey) -> None:
            caller = access.issues_keys(request.user, row.organization)
            made.append(access_keys.rotate(row.organization, row.id, **caller))

        self.apply(request, keys.select_related("organization"), "keys rotated", rotate)
        return self._shown_once(request) if made else None

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


class SecretForm(SeenForm):
    stamp = "updated_at"

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


@admin.register(Secret)
class SecretAdmin(CheckedAdmin):
    """Stored and deleted by the verbs that page, API and command call. One that flows use is deleted there, by name of
    the flows."""

    scope = Scope(path="organization_id", change=access.CHANGE_SECRETS, see=access.CHANGE_SECRETS)
    form = SecretForm
    deletes_in_bulk = False
    list_display = ("name", "organization", "updated_at")
    list_filter = ("organization",)

    def get_readonly_fields(self, request: HttpRequest, obj: Secret | None = None) -> tuple[str, ...]:
        return ("organization", "name") if obj else ()  # another name is another secret

    def save_model(self, request: HttpRequest, obj: Secret, form: Any, change: bool) -> None:
        given = form.cleaned_data
        row = secrets.set_secret(obj.organization, obj.name, given["value"], seen=given[SEEN])
        obj.pk, obj.updated_at = row.pk, row.updated_at

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        """The other sources are asked beforehand: Django deletes in a transaction, and what they say is kept."""
        row = self.get_object(request, unquote(object_id))
        if request.method == "POST" and row is not None and self.has_delete_permission(request, row):
            left_without(row.organization, row.name)
        return super().delete_view(request, object_id, extra_context)

    def delete_model(self, request: HttpRequest, obj: Secret) -> None:
        secrets.delete_secret(obj.organization, obj.name)


@admin.register(AuditEntry)
class AuditEntryAdmin(BoundedAdmin):
    """Who changed what. Nobody changes an entry; retention alone deletes."""

    scope = Scope(path="org_id", see=access.CHANGE_ORGANIZATION)
    list_display = ("at", "actor_kind", "actor", "verb", "object_kind", "object_id", "org_id")
    list_filter = ("actor_kind",)
    search_fields = ("=actor", "=object_id", "=verb")
