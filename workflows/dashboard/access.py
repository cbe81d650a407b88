"""Who gets a page: a login, its organization, and the permission that the page's action takes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Concatenate
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.response import SimpleTemplateResponse

from workflows.dashboard import audited
from workflows.edge import access
from workflows.edge.access import NoOrganization
from workflows.errors import WorkflowsError
from workflows.models import Organization
from workflows.presenters import redaction as masking

CHOSEN = "organization"
View = Callable[Concatenate[HttpRequest, Organization, ...], HttpResponse]


def page(permission: str = "") -> Callable[[View], Callable[..., HttpResponse]]:
    """The view for logins only, with the organization that the login sees; `permission`: which it must have besides."""

    def decorate(view: View) -> Callable[..., HttpResponse]:
        @functools.wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            try:
                organization = _organization(request)
                if permission:
                    access.require(request.user, permission, organization)
            except WorkflowsError as error:
                return render(request, "headrace/refused.html", {"reason": str(error)}, status=error.status)
            request.organization = organization  # type: ignore[attr-defined]  # the header of the pages names it
            request.may = access.Rights(request.user, organization)  # type: ignore[attr-defined]
            answer = audited.page(request, organization, lambda: view(request, organization, *args, **kwargs), kwargs)
            return redacted(answer, organization, kwargs)

        checked.is_page = True  # type: ignore[attr-defined]
        return login_required(checked)

    return decorate


def redacted(response: HttpResponse, organization: Organization, kwargs: Mapping[str, Any]) -> HttpResponse:
    """The page without the values that the rules of its organization hide."""
    if not organization.redaction:
        return response
    kind = response.get("Content-Type", "").partition(";")[0]
    if response.streaming or kind not in {"text/html", "application/json"}:
        return response
    ids = [each for each in kwargs.values() if isinstance(each, UUID)]

    def mask(rendered: HttpResponse) -> None:
        rendered.content = masking.page(rendered.content.decode(rendered.charset), ids).encode(rendered.charset)

    if isinstance(response, SimpleTemplateResponse):
        response.add_post_render_callback(mask)  # at once, where it is rendered already
    else:
        mask(response)
    return response


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
