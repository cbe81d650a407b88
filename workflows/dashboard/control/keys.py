"""The keys of the organization: issue, rotate, rename, revoke.

A new key is shown by the answer to its form and by nothing else: no redirect, message or session carries it, the answer
is stored nowhere (`no-store`), and the form, sent again, issues no second one.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_http_methods, require_POST

from workflows.dashboard import audited
from workflows.dashboard.access import page
from workflows.dashboard.control import key_form
from workflows.edge import access
from workflows.edge.access import CHANGE_KEYS
from workflows.edge.values import identifier
from workflows.errors import KeyNotFound, WorkflowsError
from workflows.models import AccessKey, Organization
from workflows.selectors.access import keys as selectors
from workflows.services import access_keys


@page(CHANGE_KEYS)
@require_http_methods(["GET", "POST"])
def keys(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The keys in force, `?ended=yes` all; `?key=` opens one, `?new=` the form of a new one. POST issues one."""
    if request.method == "POST":
        return _issue(request, organization)
    opened = request.GET.get("key", "")
    chosen = _row(organization, identifier(opened, "key")) if opened else None
    return _show(request, organization, chosen=chosen, is_new="new" in request.GET)


def _show(
    request: HttpRequest,
    organization: Organization,
    *,
    chosen: selectors.KeyRow | None = None,
    is_new: bool = False,
    problem: WorkflowsError | None = None,
    **more: Any,
) -> HttpResponse:
    ended, search = request.GET.get("ended") == "yes", request.GET.get("q", "").strip()
    cursor = request.GET.get("cursor", "")
    found = selectors.page_of_keys(
        organization, ended=ended, search=search[:100], before=identifier(cursor, "cursor") if cursor else None
    )
    context: dict[str, Any] = {
        "rows": found.rows, "following": found.following, "ended": ended, "search": search, "chosen": chosen,
        "is_new": is_new, "problem": str(problem) if problem else "", "soon": selectors.EXPIRES_WITHIN.days,
        "overlaps": key_form.OVERLAPS.items(), "default_overlap": key_form.DEFAULT_OVERLAP, **more,
    }  # fmt: skip
    if is_new:
        context |= _form(request, organization)
    status = problem.status if problem else 200
    return render(request, "headrace/control/keys.html", context, status=status)


def _form(request: HttpRequest, organization: Organization) -> dict[str, Any]:
    """The form of a new key, with what was written into it."""
    given, scopes = request.POST, key_form.scopes(request, organization)
    return {
        "scopes": scopes, "expiries": key_form.EXPIRIES.items(),
        "once": key_form.once(request, organization), "is_operator": access.is_operator(request.user),
        "may_all": all(scope.is_mine for scope in scopes),
        "form": {
            "kind": given.get("kind", AccessKey.Kind.API), "name": given.get("name", ""),
            "rights": given.get("rights", "some"), "scopes": given.getlist("scopes"),
            "expires": given.get("expires", key_form.DEFAULT_EXPIRY), "expires_at": given.get("expires_at", ""),
            "operator": given.get("operator", ""),
        },
    }  # fmt: skip


def _issue(request: HttpRequest, organization: Organization) -> HttpResponse:
    try:
        form = key_form.read(request, organization)
        made = access_keys.issue(
            organization, form.kind, form.name, scopes=form.scopes, operator=form.operator, expires_at=form.expires_at,
            key_id=form.key_id, **access.issues_keys(request.user, organization),
        )  # fmt: skip
    except WorkflowsError as error:
        return _show(request, organization, is_new=True, problem=error)
    audited.name_made(request, made[0].id)
    return _show_once(request, organization, *made)


def _show_once(
    request: HttpRequest, organization: Organization, row: AccessKey, key: str, replaced: AccessKey | None = None
) -> HttpResponse:
    """The page with a key that was made just now."""
    answer = _show(request, organization, issued=row, text=key, replaced=replaced)
    add_never_cache_headers(answer)
    return answer


def _row(organization: Organization, key_id: UUID) -> selectors.KeyRow:
    try:
        return selectors.key_row(organization, key_id)
    except KeyNotFound as error:
        raise Http404(str(error)) from None


@page(CHANGE_KEYS)
@require_POST
def rotate(request: HttpRequest, organization: Organization, key_id: UUID) -> HttpResponse:
    """Issue a successor with the same rights, and show it; the old key expires after the overlap."""
    before = _row(organization, key_id)
    try:
        overlap = key_form.overlap(request.POST)
        caller = access.issues_keys(request.user, organization)
        made = access_keys.rotate(organization, key_id, overlap=overlap, **caller)
    except WorkflowsError as error:
        return _show(request, organization, chosen=before, problem=error)
    return _show_once(request, organization, *made, replaced=_row(organization, key_id).key)


@page(CHANGE_KEYS)
@require_POST
def rename(request: HttpRequest, organization: Organization, key_id: UUID) -> HttpResponse:
    """Give a key another name."""
    before = _row(organization, key_id)
    try:
        row = access_keys.rename(organization, key_id, request.POST.get("name", ""))
    except WorkflowsError as error:
        return _show(request, organization, chosen=before, problem=error)
    messages.success(request, f"The key {row.prefix}… is named {row.name} now. What it may stays as it is.")
    return redirect(f"{reverse('headrace:keys')}?key={key_id}")


@page(CHANGE_KEYS)
@require_POST
def revoke(request: HttpRequest, organization: Organization, key_id: UUID) -> HttpResponse:
    """Refuse a key from now on."""
    before = _row(organization, key_id)
    try:
        row = access_keys.revoke(organization, key_id)
    except WorkflowsError as error:
        return _show(request, organization, chosen=before, problem=error)
    messages.success(request, f"{row} is revoked: it is refused from now on, and its live streams end within seconds.")
    return redirect("headrace:keys")
