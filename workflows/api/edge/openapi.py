"""The API's own `NinjaAPI`: bodies within their budget, and the problem answers of every operation in the document."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property, wraps
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI, Status
from ninja.openapi.schema import OpenAPISchema
from ninja.parser import Parser
from ninja.renderers import JSONRenderer

from workflows import payload
from workflows.api.edge import operations, query
from workflows.models import AccessKey
from workflows.presenters import redaction

MEDIA_TYPE = "application/problem+json"
MEDIA_TYPE_JSON = "application/json; charset=utf-8"
RENDERER = JSONRenderer()
PROBLEM = {
    "title": "Problem",
    "description": "Why a request was refused (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "description": "urn:headrace:<code>"},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Which problem it is, for programs."},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
        "errors": {
            "type": "array",
            "description": "Of an invalid request: each field with its path.",
            "items": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
NO_HTTP = {"type": "string", "description": "Of the server itself, where the request is no valid HTTP."}
EVERYWHERE = (400, 422, 503)
"""Any request may be no valid HTTP or name a host that is not served (400), and have a text in its query that can't be
stored (422); Postgres may be away for every operation."""
WITH_KEY = (401,)
WITH_SCOPE = (403,)
WITH_BODY = (413,)
WITH_ID = (404,)
WITH_PLACE = (405,)
"""An address with an empty part is another one, which may take other methods."""
STARTS = (507,)
"""Of what brings something new in: the organization stores more than its quota."""
CHANGES = (403, 404, 409, 429)
"""A change may be refused by rights, by what it is about, by its state, and by a limit."""


class BoundedParser(Parser):
    """Reads bodies with `payload.parse`."""

    def parse_body(self, request: HttpRequest) -> Any:
        return payload.parse(request.body)


def as_given(view: Callable[..., Any]) -> Callable[..., HttpResponse]:
    """Answer what the view gives as it is, and write down what it has changed.

    The library would check the answer against its schema first, which takes three times as long as writing it; a test
    checks every operation instead.
    """

    @wraps(view)
    def answer(request: HttpRequest, **values: Any) -> HttpResponse:
        operation = operations.operation_of(*_operation_of(request))
        made = operations.audited(request, operation, lambda: view(request, **values), values)
        status, body = (made.status_code, made.value) if isinstance(made, Status) else (200, made)
        if callable(body):  # it is read once the change is committed: what follows from that is in the answer
            body = body()
        if request.auth.organization.redaction:  # type: ignore[attr-defined]
            body = redaction.answer(request.auth.organization_id, body)  # type: ignore[attr-defined]
        return HttpResponse(RENDERER.render(request, body, response_status=status), MEDIA_TYPE_JSON, status)

    return answer


class DocumentedAPI(NinjaAPI):
    """Adds to each operation the problems that it may answer with, and refuses queries that it does not declare."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_decorator(as_given)
        self._documents: dict[str, OpenAPISchema] = {}

    def create_temporal_response(self, request: HttpRequest) -> HttpResponse:
        """Every operation asks for this once its key has been checked, before it reads its parameters."""
        key: AccessKey = request.auth  # type: ignore[attr-defined]
        operations.refuse_scope(key, operations.operation_of(*_operation_of(request)))
        known = self._queries.get(_operation_of(request), {})
        query.settle(request, known, repeatable=[name for name, many in known.items() if many])
        return super().create_temporal_response(request)

    @cached_property
    def _queries(self) -> dict[tuple[str, str], dict[str, bool]]:
        """By method and path: the names that may stand in the query, and whether more than once."""
        return {
            (method.upper(), path): {
                each["name"]: _is_list(each["schema"])
                for each in operation.get("parameters", [])
                if each["in"] == "query"
            }
            for path, methods in super().get_openapi_schema()["paths"].items()
            for method, operation in methods.items()
        }

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        """The document. It is made once for each address that the API has, which takes a fraction of a second."""
        key = repr(sorted(options.items()))
        if key not in self._documents:
            self._documents[key] = self._made_document(options)
        return self._documents[key]

    def _made_document(self, options: dict[str, Any]) -> OpenAPISchema:
        document = super().get_openapi_schema(**options)
        document["components"].setdefault("schemas", {})["Problem"] = PROBLEM
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                wanted = operations.operation_of(method.upper(), path)
                if wanted is not None and wanted.right:
                    operation["x-headrace-scope"] = wanted.right
                for status in problems_of(method, path, operation):
                    operation["responses"].setdefault(status, _response(status))
                for parameter in operation.get("parameters", []):
                    if parameter["in"] == "path":  # without it, it is the address of something else
                        parameter["schema"]["minLength"] = 1
        return document


def _operation_of(request: HttpRequest) -> tuple[str, str]:
    """Method and path of a request, as they stand in the document."""
    route = request.resolver_match.route if request.resolver_match else ""
    return request.method or "", "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route)


def _is_list(schema: dict[str, Any]) -> bool:
    return any(each.get("type") == "array" for each in [schema, *schema.get("anyOf", [])])


def problems_of(method: str, path: str, operation: dict[str, Any]) -> list[int]:
    """The statuses of the problem documents that an operation may answer with."""
    found = {*EVERYWHERE}
    found.update(WITH_KEY if operation.get("security") else ())
    found.update(WITH_BODY if "requestBody" in operation else ())
    found.update(WITH_ID if "{" in path or any(_is_id(each) for each in operation.get("parameters", [])) else ())
    found.update(WITH_PLACE if "{" in path else ())
    found.update(CHANGES if method != "get" else ())
    found.update(WITH_SCOPE if operations.operation_of(method.upper(), path) else ())
    found.update(STARTS if path.endswith("/run") else ())
    return sorted(found)


def _is_id(parameter: dict[str, Any]) -> bool:
    return bool(parameter["schema"].get("format") == "uuid")


def _response(status: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status == 400:
        made["content"]["text/plain"] = {"schema": NO_HTTP}
    if status in {429, 503}:
        made["headers"] = {
            "Retry-After": {"description": "Seconds, where the time is known.", "schema": {"type": "integer"}}
        }
    return made
