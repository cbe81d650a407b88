"""Errors as problem documents (RFC 9457)."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from workflows.errors import RunRateLimited, WorkflowsError

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
    return JsonResponse(body, status=status, content_type="application/problem+json")


def install(api: NinjaAPI) -> None:
    """Map every error of the API to a problem document."""

    @api.exception_handler(WorkflowsError)
    def _known(request: HttpRequest, error: WorkflowsError) -> HttpResponse:
        response = problem(error.status, error.code, str(error))
        if isinstance(error, RunRateLimited):
            response["Retry-After"] = str(math.ceil(error.retry_after_s))
        return response

    @api.exception_handler(AuthenticationError)
    def _key(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
        response = problem(401, "unauthorized", "Send a valid API key: Authorization: Bearer hr_api_…")
        response["WWW-Authenticate"] = "Bearer"
        return response

    @api.exception_handler(ValidationError)
    def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
        errors = [
            {
                "path": ".".join(str(part) for part in item["loc"] if part not in {"body", "payload"}),
                "message": item["msg"],
            }
            for item in error.errors
        ]
        detail = "; ".join(f"{item['path']}: {item['message']}" for item in errors)
        return problem(422, "invalid_request", detail, errors=errors)

    @api.exception_handler(HttpError)
    def _http(request: HttpRequest, error: HttpError) -> HttpResponse:
        code = "invalid_json" if "parse" in str(error) else "http_error"
        return problem(error.status_code, code, str(error))

    @api.exception_handler(RequestDataTooBig)
    def _too_big(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
        return problem(413, "payload_too_large", "The request is larger than 8 MiB.")

    @api.exception_handler(Http404)
    def _missing(request: HttpRequest, error: Http404) -> HttpResponse:
        return problem(404, "not_found", "There is nothing at this address.")

    @api.exception_handler(Exception)
    def _unknown(request: HttpRequest, error: Exception) -> HttpResponse:
        log.exception("request failed", path=request.path)
        return problem(500, "internal_error", "Something went wrong here; the log has the details.")
