"""Who gets a page: a login, its organization, and the permission that the page's action takes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Concatenate
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.template.response import SimpleTemplateResponse
from django.utils.functional import SimpleLazyObject

from workflows.dashboard import audited
from workflows.edge import access
from workflows.errors import WorkflowsError
from workflows.models import Organization
from workflows.presenters import redaction as masking

MOST_SHOWN = 200
"""So many organizations the switcher lists; an operator reaches the others by `?org=`."""
MASKED = {"text/html", "application/json"}
View = Callable[Concatenate[HttpRequest, Organization, ...], HttpResponseBase]


def page(permission: str = "") -> Callable[[View], Callable[..., HttpResponseBase]]:
    """The view for logins only, with the organization that the login sees; `permission`: which it must have besides.

    On the request: `organization`, `may` (its rights there), and `organizations` (those that it can switch to).
    """

    def decorate(view: View) -> Callable[..., HttpResponseBase]:
        @functools.wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                asked = request.GET.get("org", "")
                organization = access.choose(request, asked) if asked else access.organization_of_request(request)
                if permission:
                    access.require(request.user, permission, organization)
            except WorkflowsError as error:
                return refused(request, error)
            request.organization = organization  # type: ignore[attr-defined]  # the header of the pages names it
            request.may = access.Rights(request.user, organization)  # type: ignore[attr-defined]
            request.organizations = SimpleLazyObject(lambda: switchable(request))  # type: ignore[attr-defined]
            try:
                answer = audited.page(
                    request, organization, lambda: view(request, organization, *args, **kwargs), kwargs
                )
            except WorkflowsError as error:  # what the view has no better answer to
                answer = refused(request, error)
            except Http404 as error:
                answer = not_found(request, error)
            return redacted(answer, organization, kwargs)

        checked.is_page = True  # type: ignore[attr-defined]
        return login_required(checked)

    return decorate


def refused(request: HttpRequest, error: WorkflowsError) -> HttpResponse:
    """The page that says why not."""
    return render(request, "headrace/refused.html", {"reason": str(error), "status": error.status}, status=error.status)


def not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    """The page that says what is not there."""
    reason = str(error.args[0]) if error.args and isinstance(error.args[0], str) else "There is no such page here."
    return render(request, "headrace/refused.html", {"reason": reason, "status": 404}, status=404)


def user_id(request: HttpRequest) -> int:
    """The id of the login that a page is for."""
    assert request.user.pk is not None, "pages are for logins"
    return request.user.pk


def switchable(request: HttpRequest) -> list[Organization]:
    """The organizations that the header offers: those that the login sees, by slug."""
    return list(access.organizations_of(request.user).order_by("slug")[:MOST_SHOWN])


def redacted(response: HttpResponseBase, organization: Organization, kwargs: Mapping[str, Any]) -> HttpResponseBase:
    """The page without the values that the rules of its organization hide. (What is streamed does that itself.)"""
    kind = response.get("Content-Type", "").partition(";")[0]
    if not organization.redaction or not isinstance(response, HttpResponse) or kind not in MASKED:
        return response
    ids = [each for each in kwargs.values() if isinstance(each, UUID)]

    def mask(rendered: HttpResponse) -> None:
        text = masking.page(rendered.content.decode(rendered.charset), ids, {organization.id})
        rendered.content = text.encode(rendered.charset)

    if isinstance(response, SimpleTemplateResponse):
        response.add_post_render_callback(mask)  # at once, where it is rendered already
    else:
        mask(response)
    return response
