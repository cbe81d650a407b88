"""Errors as problem documents (RFC 9457)."""

from __future__ import annotations

import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from workflows.api.schemas.requests import MANY, ONE
from workflows.edge.unavailable import RETRY_AFTER_S, missing_service, sentence
from workflows.errors import InvalidJson, RunRateLimited, WorkflowsError
from workflows.services.tenancy.quotas import TooManyEvents

log = structlog.get_logger(__name__)


def problem(status: int, code: str, detail: str, **more: Any) -> HttpResponse:
    """A problem document."""
    body = {
        "type": f"urn:headrace:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        **more,
    }
    response = JsonResponse(body, status=status, content_type="application/problem+json")
    if status == HTTPStatus.UNAUTHORIZED:
        response["WWW-Authenticate"] = "Bearer"
    return response


def unavailable(service: str, cause: BaseException, /, *, detail: str = "", **more: Any) -> HttpResponse:
    """503 with Retry-After: nothing of the request was stored (unless `detail` says otherwise), and the same one may
    succeed in a moment."""
    log.warning("a request is refused for now", missing=service, error=type(cause).__name__)
    response = problem(503, "unavailable", detail or sentence(service), **more)
    response["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _known(request: HttpRequest, error: WorkflowsError) -> HttpResponse:
    response = problem(error.status, error.code, str(error), **error.facts)
    if isinstance(error, RunRateLimited | TooManyEvents):
        response["Retry-After"] = str(math.ceil(error.retry_after_s))
    return response


def _key(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return problem(401, "unauthorized", "Send a valid API key: Authorization: Bearer hr_api_…")


def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    errors = [
        {
            "path": ".".join(str(part) for part in item["loc"] if part not in {"body", "payload", ONE, MANY}),
            "message": item["msg"],
        }
        for item in error.errors
    ]
    detail = "; ".join(f"{item['path']}: {item['message']}" for item in errors)
    return problem(422, "invalid_request", detail, errors=errors)


def _http(request: HttpRequest, error: HttpError) -> HttpResponse:
    cause = error.__cause__  # the library makes an HttpError of every error of the parser
    if isinstance(cause, InvalidJson):
        return problem(cause.status, cause.code, f"{error}: {cause}")
    if isinstance(cause, WorkflowsError):
        return problem(cause.status, cause.code, str(cause))
    return problem(error.status_code, "http_error", str(error))


def _too_big(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return problem(413, "payload_too_large", "The request is larger than 8 MiB.")


def _missing(request: HttpRequest, error: Http404) -> HttpResponse:
    return problem(404, "not_found", "There is nothing at this address.")


def _unknown(request: HttpRequest, error: Exception) -> HttpResponse:
    service = missing_service(error)
    if service:
        return unavailable(service, error)
    log.exception("request failed", path=request.path)
    return problem(500, "internal_error", "Something went wrong here; the log has the details.")


_HANDLERS: list[tuple[type[Exception], Callable[..., HttpResponse]]] = [
    (WorkflowsError, _known),
    (AuthenticationError, _key),
    (ValidationError, _invalid),
    (HttpError, _http),
    (RequestDataTooBig, _too_big),
    (Http404, _missing),
    (Exception, _unknown),
]


def install(api: NinjaAPI) -> None:
    """Map every error of the API to a problem document."""
    for error, handler in _HANDLERS:
        api.add_exception_handler(error, handler)
