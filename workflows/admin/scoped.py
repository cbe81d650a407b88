"""Whose rows a page of the admin shows, and who may change them: the one place that decides it, for every page.

A page says with its `Scope` how its rows lead to their organization, and which right a change takes there. From it
follow the rows of lists, of filters, of choices in forms and of histories, and what may be done to each row. A page
without a scope is the installation's: it takes Django's own permissions, which no role brings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.widgets import ForeignKeyRawIdWidget
from django.contrib.auth import get_permission_codename
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse

from workflows.edge import access
from workflows.errors import Forbidden
from workflows.models import Organization

MOST_CHOICES = 200
"""Of a filter, and of a list in a form; where there are more, a form takes an id, which is looked up."""
NOBODY = "nobody"
"""A right that no role brings: rows are written by the engine, or by operators of the installation."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """How rows lead to their organization, and the rights that they take there.

    `path`: the lookup of the organization's id (`org_id`, `flow__organization_id`). Rows where it is empty hold for all
    organizations: only operators of the installation see them. `change`: the right for adding, changing and deleting;
    `see`: the right for looking, where not every member may.
    """

    path: str
    change: str = NOBODY
    see: str = ""

    def owner_of(self, row: Model) -> UUID | None:
        """The id of the row's organization."""
        found: Any = row
        for name in self.path.split("__"):
            found = getattr(found, name, None)
            if found is None:
                return None
        assert isinstance(found, UUID)
        return found


class ScopedRelations(admin.RelatedFieldListFilter):
    """A filter by a relation that offers the rows only that the login sees, and no more than MOST_CHOICES."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self._is_cut = False
        super().__init__(*args, **more)
        if self._is_cut:
            self.title = f"{self.title} (the first {MOST_CHOICES})"

    def field_choices(self, field: Any, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> Any:
        model = field.remote_field.model
        seen = seen_rows(model_admin.admin_site, model, request)
        rows = model._default_manager.all() if seen is None else seen
        ordering = self.field_admin_ordering(field, request, model_admin) or model._meta.ordering or ("pk",)
        found = list(rows.order_by(*ordering)[: MOST_CHOICES + 1])
        self._is_cut = len(found) > MOST_CHOICES
        return [(row.pk, str(row)) for row in found[:MOST_CHOICES]]


def _relations(model: type[Model]) -> dict[str, type[Model]]:
    """By name, the models that rows of this one point to."""
    fields = model._meta.concrete_fields
    return {each.name: each.related_model for each in fields if each.many_to_one and each.related_model is not None}


def seen_rows(site: admin.AdminSite, model: type[Model], request: HttpRequest) -> QuerySet[Any] | None:
    """The rows of a model that the login sees in the admin; None where it sees all, or no page is for them."""
    if access.is_operator(request.user):
        return None
    page = site._registry.get(model)
    return page.get_queryset(request) if isinstance(page, ScopedAdmin) else None


class ScopedAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A page that shows the rows of the login's organizations, and changes those that its role there lets it."""

    scope: ClassVar[Scope | None] = None
    action_rights: ClassVar[Mapping[str, str]] = {}
    """By the name of an action, the right that it takes in the organization of each row."""

    def owner_of(self, row: Model) -> UUID | None:
        """The id of the row's organization; None for what is the installation's."""
        return self.scope.owner_of(row) if self.scope is not None else None

    # --- which rows -----------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        if self.scope is None or access.is_operator(request.user):
            return rows
        return rows.filter(**{f"{self.scope.path}__in": self._seen(request)})

    def get_list_select_related(self, request: HttpRequest) -> Any:
        """The rows that columns name are read with the list, and those that these are named after (a version, its
        flow). Django's own way leaves out those that may be empty."""
        relations = _relations(self.model)
        shown = [name for name in self.get_list_display(request) if name in relations]
        named_after = [f"{name}__{each}" for name in shown for each in _relations(relations[name])]
        return super().get_list_select_related(request) or [*shown, *named_after] or False

    def get_list_filter(self, request: HttpRequest) -> Any:
        return [self._scoped_filter(each) for each in super().get_list_filter(request)]

    def _scoped_filter(self, named: Any) -> Any:
        if isinstance(named, str) and "__" not in named and self.opts.get_field(named).is_relation:
            return named, ScopedRelations
        return named

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        model = db_field.remote_field.model
        seen = seen_rows(self.admin_site, model, request)
        if seen is not None:
            if self.scope is not None and model is Organization:
                seen = seen.filter(id__in=self._changed(request, "add"))
            kwargs["queryset"] = seen
        rows = model._default_manager.all() if seen is None else seen
        if rows.order_by()[MOST_CHOICES : MOST_CHOICES + 1].exists():
            kwargs["widget"] = ForeignKeyRawIdWidget(db_field.remote_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """A member chooses from its organizations where an operator may name any, or none for all."""
        is_owner = self.scope is not None and db_field.name == self.scope.path == "org_id"
        if is_owner and not access.is_operator(request.user):
            reached = self._changed(request, "add") | self._changed(request, "change")
            own = Organization.objects.filter(id__in=reached).order_by("slug")
            choices = [(str(each.id), each.slug) for each in own]
            return forms.UUIDField(label="Organization", widget=forms.Select(choices=choices))
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        """What is another organization's is not found, as what is not there."""
        raise Http404(f"There is no {opts.verbose_name} {object_id!r}.")

    # --- who may do what ------------------------------------------------------------------------------------------

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if self.scope is None or access.is_operator(request.user):
            return super().has_view_permission(request, obj)
        return self._is_among(self._seen(request), obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        if self.scope is None or access.is_operator(request.user):
            return super().has_add_permission(request)
        return self._is_among(self._changed(request, "add"), None)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if self.scope is None or access.is_operator(request.user):
            return super().has_change_permission(request, obj)
        return self._is_among(self._changed(request, "change"), obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if self.scope is None or access.is_operator(request.user):
            return super().has_delete_permission(request, obj)
        return self._is_among(self._changed(request, "delete"), obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return super().has_module_permission(request) or self.has_view_permission(request)

    def _is_among(self, organizations: set[UUID], row: Any) -> bool:
        """Whether the row's organization is one of these; without a row, whether there are any."""
        if row is None:
            return bool(organizations)
        assert self.scope is not None
        return self.scope.owner_of(row) in organizations

    def _seen(self, request: HttpRequest) -> set[UUID]:
        """The organizations whose rows the login sees: its own, or of them those in which it has the right to look."""
        assert self.scope is not None
        if not self.scope.see:
            return set(access.roles_of(request.user))
        return self._with(request, {self.scope.see, self._permission("view")})

    def _changed(self, request: HttpRequest, verb: str) -> set[UUID]:
        """Those in which the login may do it to rows of this page: by its role, or by Django's permission for it."""
        assert self.scope is not None
        return self._with(request, {self.scope.change, self._permission(verb)})

    def _with(self, request: HttpRequest, permissions: Collection[str]) -> set[UUID]:
        user = request.user
        return {
            org_id
            for org_id in access.roles_of(user)
            if any(access.allows_in(user, permission, org_id) for permission in permissions)
        }

    def _permission(self, verb: str) -> str:
        return f"{self.opts.app_label}.{get_permission_codename(verb, self.opts)}"

    # --- what is saved, and what actions are done to ----------------------------------------------------------------

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:
        row = super().save_form(request, form, change)
        if self.scope is None or access.is_operator(request.user):
            return row
        if not self._is_among(self._changed(request, "change" if change else "add"), row):
            raise Forbidden(
                f"Your rights do not reach as far as this {self.opts.verbose_name}: name an organization in which you "
                "may change it. What holds for all organizations is changed by an operator of the installation."
            )
        return row

    def may_act(self, request: HttpRequest, action: str) -> bool:
        """Whether the login may take an action on rows of any organization."""
        return access.allows_somewhere(request.user, self.action_rights[action])

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **more: Any
    ) -> HttpResponse | None:
        right = self.action_rights.get(request.POST.get("action", ""))
        if right is not None and self.scope is not None and not access.is_operator(request.user):
            reached = queryset.filter(**{f"{self.scope.path}__in": self._with(request, {right})})
            chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
            left_out = queryset.filter(pk__in=chosen).exclude(pk__in=reached.filter(pk__in=chosen).values("pk"))
            if left_out.exists():
                what = access.WHAT.get(right, right)
                self.message_user(
                    request, f"Left out: rows of organizations in which you may not {what}.", messages.WARNING
                )
            queryset = reached
        return super().response_action(request, queryset, *args, **more)
