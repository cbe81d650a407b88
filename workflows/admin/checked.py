"""An admin page that offers what it does, and says what it did.

Django says that all went well whenever nothing was raised: after a save that changes nothing, and after an action that
found nothing to act on. It also offers a deletion that it refuses once it is asked for. Every page of this site is a
`CheckedAdmin`; a test walks them all.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import ValidationError
from django.db import DataError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from throttling.errors import ThrottlingError
from workflows.admin.actions import audited
from workflows.admin.scoped import ScopedAdmin
from workflows.edge import access, redaction
from workflows.edge.unavailable import missing_service
from workflows.errors import WorkflowsError
from workflows.presenters import redaction as masking
from workflows.services.access import changes

REFUSALS = (WorkflowsError, ThrottlingError)
MAX_REASONS = 5
ASKING = "_asks_what_a_deletion_takes"
CHANGED = "_changed_something"
DELETABLE = "_deletable"
SEEN = "seen"


class SeenForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form that says of which state of its row it is a change: what was saved meanwhile is not written over unseen.

    `stamp`: the field of the row with the time of its last change.
    """

    stamp: ClassVar[str]

    seen = forms.CharField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial[SEEN] = "" if self.instance._state.adding else self.state()

    def state(self) -> str:
        """What is stored now. With a POST the row is locked, to the end of the transaction in which it is saved."""
        rows = self.instance.__class__._default_manager.filter(pk=self.instance.pk).order_by()
        if self.is_bound:
            rows = rows.select_for_update()
        at: dt.datetime | None = rows.values_list(self.stamp, flat=True).first()
        return at.isoformat() if at is not None else ""

    def clean_seen(self) -> str:
        """What was typed is shown again, as a change of what is stored now: saved again, it replaces that."""
        seen, now = str(self.cleaned_data[SEEN]), str(self.initial[SEEN])
        if seen != now:
            given: Any = copy.copy(self.data)
            given[self.add_prefix(SEEN)] = now
            self.data = given
            self.add_error(None, self.what_happened(seen))  # that of a hidden field would not be seen
        return seen

    def what_happened(self, seen: str) -> str:
        """Why nothing was saved."""
        return (
            "It was changed since your page was made, and nothing was saved. Look in another tab at what it is now; "
            "save again if this is to replace it."
        )


class CheckedAdmin(ScopedAdmin):
    """Refusals of the verbs are messages; unchanged is not a success; only what can be deleted has the link for it."""

    deletes_in_bulk = True
    """Whether the list has the action that deletes the selected rows."""

    # --- refusals -------------------------------------------------------------------------------------------------

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        with changes.collected():
            return _redacted(request, self._or_refusal(request, super().changeform_view, *args, **kwargs))

    def history_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return _redacted(request, super().history_view(request, *args, **kwargs))

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        with changes.collected():
            return self._or_refusal(request, super().delete_view, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return _redacted(request, self._or_refusal(request, super().changelist_view, *args, **kwargs))
        except DataError:  # a filter's value that Postgres has no form for
            if request.method != "GET" or not request.GET:
                raise
            self.message_user(request, "The list has no such filter, or no such value for it.", messages.ERROR)
            return HttpResponseRedirect(request.path)

    def _or_refusal(self, request: HttpRequest, view: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The view's answer; where a verb refuses, its reason on the same page. Everything else was rolled back."""
        try:
            return view(request, *args, **kwargs)
        except REFUSALS as error:
            if request.method != "POST" or missing_service(error):
                raise
            messages.error(request, str(error))
            return HttpResponseRedirect(request.get_full_path())

    # --- saving ---------------------------------------------------------------------------------------------------

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """What a form has seen is none of the fields of those who only look."""
        fields = super().get_fields(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fields
        return [each for each in fields if each != SEEN]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        changed = form.has_changed() or any(each.has_changed() for each in formsets)
        setattr(request, CHANGED, not change or changed)

    def message_user(
        self, request: HttpRequest, message: Any, level: Any = messages.INFO, *args: Any, **more: Any
    ) -> None:
        if level == messages.SUCCESS and not getattr(request, CHANGED, True):
            message, level = "Nothing changed.", messages.INFO
        super().message_user(request, message, level, *args, **more)

    # --- the audit log (each of these is called by Django, or by `report`, for whatever a page has changed) -------

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        audited.written(request, self, "add", [obj])
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        audited.written(request, self, "change", [obj], message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        audited.written(request, self, "delete", queryset)
        return super().log_deletions(request, queryset)

    # --- actions --------------------------------------------------------------------------------------------------

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **more: Any
    ) -> HttpResponse | None:
        try:
            for each in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(each)
        except ValidationError:
            self.message_user(request, "What was selected is no row of this list. Nothing was done.", messages.WARNING)
            return None
        return super().response_action(request, queryset, *args, **more)

    def report(self, request: HttpRequest, done: Sequence[Any], what: str, refused: Iterable[str] = ()) -> None:
        """Write down and say which rows it was done to ("3 runs cancelled."), and say why not to the others."""
        reasons = sorted(set(refused))
        if done:
            audited.action(request, self, done)
            self.message_user(request, f"{len(done)} {what}.", messages.SUCCESS)
        for reason in reasons[:MAX_REASONS]:
            self.message_user(request, reason, messages.WARNING)
        if len(reasons) > MAX_REASONS:
            self.message_user(request, f"… and {len(reasons) - MAX_REASONS} more reasons.", messages.WARNING)
        if not done and not reasons:
            self.message_user(request, "Nothing was done: the selected rows are gone.", messages.WARNING)

    def apply(self, request: HttpRequest, rows: Iterable[Any], what: str, act: Callable[[Any], Any]) -> None:
        """Do it to each row; one that a verb refuses keeps no other from it."""
        done, refused = [], []
        for row in rows:
            try:
                act(row)
                done.append(row)
            except REFUSALS as error:
                if missing_service(error):
                    raise
                refused.append(f"{row}: {error}")
        self.report(request, done, what, refused)

    # --- deleting -------------------------------------------------------------------------------------------------

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if not super().has_delete_permission(request, obj):
            return False
        return obj is None or self._can_go(request, obj)

    def _can_go(self, request: HttpRequest, obj: Model) -> bool:
        """Whether a deletion would be done: nothing that goes with the row is kept by a rule or a permission.

        Django asks this of each row that goes with it: those answer by their own permissions alone.
        """
        if getattr(request, ASKING, False):
            return True
        known: dict[Any, bool] = request.__dict__.setdefault(DELETABLE, {})
        key = (obj._meta.label, obj.pk)
        if key not in known:
            setattr(request, ASKING, True)
            try:
                _, _, missing, protected = self.get_deleted_objects([obj], request)
            finally:
                setattr(request, ASKING, False)
            known[key] = not missing and not protected
        return known[key]

    def get_actions(self, request: HttpRequest, *args: Any, **more: Any) -> dict[str, Any]:
        actions: dict[str, Any] = super().get_actions(request, *args, **more)
        if "delete_selected" in actions:
            if self.deletes_in_bulk:
                actions["delete_selected"] = (_delete_what_can_go, *actions["delete_selected"][1:])
            else:
                del actions["delete_selected"]
        return actions


def _redacted(request: HttpRequest, response: Any) -> Any:
    """The page without the values that the rules of the login's organizations hide in the runs that it names."""
    of = None if access.is_operator(request.user) else set(access.roles_of(request.user))

    def mask(rendered: TemplateResponse) -> None:
        rendered.content = masking.page(rendered.content.decode(), of=of).encode()

    if isinstance(response, TemplateResponse) and redaction.are_there_any():
        response.add_post_render_callback(mask)
    return response


def _delete_what_can_go(page: CheckedAdmin, request: HttpRequest, rows: QuerySet[Any]) -> Any:
    """Django's action, for the rows that can be deleted; the others are named."""
    kept = [row for row in rows if not page.has_delete_permission(request, row)]
    for row in kept[:MAX_REASONS]:
        page.message_user(
            request, f"{row} can't be deleted: it is in use, or belongs to what is kept.", messages.WARNING
        )
    going = rows.exclude(pk__in=[row.pk for row in kept])
    if not going.exists():
        if not kept:
            page.report(request, (), "deleted")
        return None
    return delete_selected(page, request, going)
