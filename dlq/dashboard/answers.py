"""What views of dead letters do with errors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate

from django.http import HttpRequest, HttpResponse
from django.utils.http import url_has_allowed_host_and_scheme

from workflows.dashboard.access import refused
from workflows.errors import WorkflowsError
from workflows.models import Organization

View = Callable[Concatenate[HttpRequest, Organization, ...], HttpResponse]


def refusing(view: View) -> View:
    """The view; an error of ours is the page that says it, with its status."""

    @functools.wraps(view)
    def guarded(request: HttpRequest, organization: Organization, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, organization, *args, **kwargs)
        except WorkflowsError as error:
            return refused(request, error)

    return guarded


def back_of(request: HttpRequest, otherwise: str) -> str:
    """The address on this site that a form names (`back`), else another one."""
    wanted = request.POST.get("back", "")
    is_ours = wanted.startswith("/") and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
    return wanted if is_ours else otherwise
