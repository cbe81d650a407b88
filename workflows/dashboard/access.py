"""Who gets a page: a login, its organization, and the permission that the page's action takes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, NamedTuple
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

MOST_SHOWN = 50
"""Organizations that the header offers; where there are more, their names are typed."""
SHOWN_FIELD, SHOWN_HEADER = "org", "X-Headrace-Organization"
"""In these a form and a request of a page's script name the organization that the page shows."""
MASKED = {"text/html", "application/json"}
View = Callable[Concatenate[HttpRequest, Organization, ...], HttpResponseBase]


class OtherOrganization(WorkflowsError):
    """The page shows another organization than the session is at now: reload it."""

    status, code = 409, "other_organization"


def page(permission: str = "") -> Callable[[View], Callable[..., HttpResponseBase]]:
    """The view for logins only, with the organization that the login sees; `permission`: which it must have besides.

    A request of a page that shows another organization than the session is at now (it was switched in another tab) is
    refused. On the request: `organization`, `may` (its rights there), and `organizations` (those that it can switch
    to).
    """

    def decorate(view: View) -> Callable[..., HttpResponseBase]:
        @functools.wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                asked = request.GET.get("org", "")
                organization = access.choose(request, asked) if asked else access.organization_of_request(request)
                _show(request, organization)
                _check_shown(request, organization)
                if permission:
                    access.require(request.user, permission, organization)
            except WorkflowsError as error:
                return refused(request, error)
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


def _show(request: HttpRequest, organization: Organization) -> None:
    """Have the frame of the page show the organization."""
    request.organization = organization  # type: ignore[attr-defined]  # the header of the pages names it
    request.may = access.Rights(request.user, organization)  # type: ignore[attr-defined]
    request.organizations = SimpleLazyObject(lambda: switchable(request))  # type: ignore[attr-defined]


def _check_shown(request: HttpRequest, organization: Organization) -> None:
    """Raises OtherOrganization where the page that sent the request shows another organization than this one."""
    shown = request.headers.get(SHOWN_HEADER, "")
    if request.method == "POST":
        shown = request.POST.get(SHOWN_FIELD, "") or shown
    if shown and shown != organization.slug:
        raise OtherOrganization(
            f"This page shows {shown[:100]}; your session is at {organization.slug} now, so nothing was done: reload "
            f"it, or switch back to {shown[:100]} and send it again."
        )


def refused(request: HttpRequest, error: WorkflowsError) -> HttpResponse:
    """The page that says why not."""
    context = {"reason": str(error), "status": error.status}
    answer = render(request, "headrace/refused.html", context, status=error.status)
    if isinstance(error, OtherOrganization):
        answer[SHOWN_HEADER] = request.organization.slug  # type: ignore[attr-defined]
    return answer


def not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    """The page that says what is not there."""
    reason = str(error.args[0]) if error.args and isinstance(error.args[0], str) else "There is no such page here."
    return render(request, "headrace/refused.html", {"reason": reason, "status": 404}, status=404)


def user_id(request: HttpRequest) -> int:
    """The id of the login that a page is for."""
    assert request.user.pk is not None, "pages are for logins"
    return request.user.pk


class Switchable(NamedTuple):
    """The slugs of organizations that a login may look at, in order. `is_cut`: there are more."""

    slugs: list[str]
    is_cut: bool


def switchable(request: HttpRequest) -> Switchable:
    """The organizations that the header offers."""
    found = access.organizations_of(request.user).order_by("slug").values_list("slug", flat=True)
    slugs = list(found[: MOST_SHOWN + 1])
    return Switchable(slugs[:MOST_SHOWN], len(slugs) > MOST_SHOWN)


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
