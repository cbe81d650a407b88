"""Who gets a page: a login, its organization, and the permission that the page's action takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render

from workflows.edge import access
from workflows.edge.access import NoOrganization
from workflows.errors import WorkflowsError
from workflows.models import Organization

CHOSEN = "organization"
View = Callable[Concatenate[HttpRequest, Organization, ...], HttpResponseBase]


def page(permission: str = "") -> Callable[[View], Callable[..., HttpResponseBase]]:
    """The view for logins only, with the organization that the login sees; `permission`: which it must have besides."""

    def decorate(view: View) -> Callable[..., HttpResponseBase]:
        @functools.wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                organization = _organization(request)
                if permission:
                    access.require(request.user, permission, organization)
            except WorkflowsError as error:
                return _refused(request, error)
            request.organization = organization  # type: ignore[attr-defined]  # the header of the pages names it
            request.may = access.Rights(request.user, organization)  # type: ignore[attr-defined]
            try:
                return view(request, organization, *args, **kwargs)
            except WorkflowsError as error:  # what the view has no better answer to
                return _refused(request, error)

        return login_required(checked)

    return decorate


def _refused(request: HttpRequest, error: WorkflowsError) -> HttpResponseBase:
    return render(request, "headrace/refused.html", {"reason": str(error), "status": error.status}, status=error.status)


def user_id(request: HttpRequest) -> int:
    """The id of the login that a page is for."""
    assert request.user.pk is not None, "pages are for logins"
    return request.user.pk


def _organization(request: HttpRequest) -> Organization:
    """The one of `?org=`, which a superuser's session keeps; else the one that the session kept; else the login's."""
    asked = request.GET.get("org", "")
    if asked:
        found = access.organization_of(request.user, wanted=asked)
        request.session[CHOSEN] = str(found.id)
        return found
    try:
        return access.organization_of(request.user, wanted=request.session.get(CHOSEN, ""))
    except NoOrganization:  # the one that was chosen is gone
        return access.organization_of(request.user)
