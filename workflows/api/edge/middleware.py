"""The edge of the whole site: what no address takes, and one form for every refusal that no view has made."""

from __future__ import annotations

import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import structlog
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.views import defaults

from workflows.api.edge import problems
from workflows.edge.unavailable import RETRY_AFTER_S, missing_service, sentence
from workflows.edge.values import first_fault

log = structlog.get_logger(__name__)
MACHINES = ("/api/", "/e/", "/hooks/", "/callbacks/")
"""Addresses that programs call: their answers are JSON."""
EVENTS = "/e/"
DETAILS = {
    404: ("not_found", "There is nothing at this address; `/api/docs` shows what there is."),
    405: ("method_not_allowed", "This address takes other methods; the header Allow names them."),
    413: ("payload_too_large", "The request is larger than 8 MiB."),
    500: ("internal_error", "Something went wrong here; the log has the details."),
}
KEPT_HEADERS = ("Allow", "Retry-After", "WWW-Authenticate")


MOUNTED = "headrace_address"
"""The attribute of a request that came in under a prefix: the address without it."""


def address(request: HttpRequest) -> str:
    """Where a request goes, without the prefix that the project mounted Headrace under."""
    return str(getattr(request, MOUNTED, request.path_info))


def is_machines(request: HttpRequest) -> bool:
    """Whether a program has sent it, to which answers are JSON."""
    return address(request).startswith(MACHINES)


class EdgeMiddleware:
    """Refuses addresses and headers with a NUL; answers 503 while Postgres or the store is away; problem documents."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = _refusal(request) or self.get_response(request)
        return _as_problem(request, response) if is_machines(request) else response

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: dict[str, Any]) -> HttpResponse | None:
        """Admin writes `_00` for a NUL in an id; forms of pages may hold one too."""
        if any(isinstance(value, str) and "\0" in unquote(value) for value in kwargs.values()):
            raise Http404("No id holds a NUL.")
        if request.method != "POST" or is_machines(request):
            return None
        fields = [(name, text) for name, texts in request.POST.lists() for text in texts]
        found = first_fault(fields)
        return refuse(request, 400, "invalid_input", f"{found}.") if found else None

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Of a view that is not the API's own (that has handlers)."""
        service = missing_service(error)
        if service:
            return unavailable(request, service, error)
        if isinstance(error, ValidationError) and not is_machines(request):
            return refuse(request, 400, "invalid_input", " ".join(error.messages))
        return None


def _refusal(request: HttpRequest) -> HttpResponse | None:
    """The answer to a request that no view may see."""
    if "\0" in request.path_info:
        return refuse(request, 404, *DETAILS[404])
    query = request.META.get("QUERY_STRING", "")
    if "%00" in query or "\0" in query:
        found = first_fault(parse_qsl(query, keep_blank_values=True))
        return refuse(request, 422, "invalid_input", f"query: {found}.") if found else None
    for name, value in request.META.items():
        if name.startswith(("HTTP_", "CONTENT_")) and "\0" in str(value):
            header = name.removeprefix("HTTP_").replace("_", "-").title()
            return refuse(request, 400, "invalid_input", f"The header {header} holds a NUL character.")
    return None


def unavailable(request: HttpRequest, service: str, error: BaseException) -> HttpResponse:
    """503 with Retry-After: nothing of the request was stored, the same one may succeed in a moment."""
    if is_machines(request):
        return problems.unavailable(service, error, **_extra(request, sentence(service)))
    log.warning("a page is refused for now", missing=service, error=type(error).__name__)
    response = refuse(request, 503, "unavailable", sentence(service))
    response["Retry-After"] = str(RETRY_AFTER_S)
    return response


def refuse(request: HttpRequest, status: int, code: str, detail: str) -> HttpResponse:
    """A problem document for a program, a plain page for a person."""
    if is_machines(request):
        return problems.problem(status, code, detail, **_extra(request, detail))
    title = HTTPStatus(status).phrase
    return HttpResponse(
        render_to_string("headrace/refused_here.html", {"title": title, "detail": detail}), status=status
    )


def _extra(request: HttpRequest, detail: str) -> dict[str, Any]:
    """For Inngest's clients, the fields that they read."""
    return {"error": detail, "ids": []} if address(request).startswith(EVENTS) else {}


def _as_problem(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """A refusal of Django's or the API library's own (405, an unknown address, a bad Host) as a problem document."""
    if response.status_code < 400 or response.streaming or "json" in response.get("Content-Type", ""):
        return response
    phrase = HTTPStatus(response.status_code).phrase
    code, detail = DETAILS.get(response.status_code, (phrase.lower().replace(" ", "_"), f"{phrase}."))
    made = refuse(request, response.status_code, code, detail)
    for name in KEPT_HEADERS:
        if name in response:
            made[name] = response[name]
    return made


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Django's handler500: what fails outside of views (saving a session) is 503 too while Postgres is away."""
    error = sys.exc_info()[1]
    service = missing_service(error)
    if service and error is not None:
        return unavailable(request, service, error)
    if is_machines(request):
        return refuse(request, 500, *DETAILS[500])
    return defaults.server_error(request)
