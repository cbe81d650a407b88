"""The OpenAPI document, and holding an answer against the form that it gives for it."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import jsonschema_rs

from config.api import api

JSON = "application/json"
DOCUMENT: dict[str, Any] = json.loads(json.dumps(api.get_openapi_schema()))
OPERATIONS: list[tuple[str, str, dict[str, Any]]] = [
    (method, path, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]


def forms_of(operation: dict[str, Any], status: int | str) -> dict[str, dict[str, Any]]:
    """The schemas that an operation gives for a status, by media type."""
    content = operation["responses"].get(str(status), {}).get("content", {})
    return {media_type: described.get("schema", {}) for media_type, described in content.items()}


def _closed(components: dict[str, Any]) -> dict[str, Any]:
    """The schemas, but without room for fields that they do not name. (A problem may have more members: RFC 9457.)"""
    schemas = deepcopy(components)
    for name, schema in schemas.items():
        if "properties" in schema and name != "Problem":
            schema.setdefault("additionalProperties", False)
    return schemas


COMPONENTS = {"components": {"schemas": _closed(DOCUMENT["components"]["schemas"])}}


def assert_documented(operation: dict[str, Any], answer: Any) -> None:
    """Status, media type and body of an answer are those of the document; no field is missing, none is new."""
    forms = forms_of(operation, answer.status_code)
    said = f"{operation['operationId']}: {answer.status_code} {answer.content[:300]!r}"
    assert forms, f"{said} is not in the document"
    media_type = answer["Content-Type"].partition(";")[0]
    assert media_type in forms, f"{said} is {media_type}; the document says {[*forms]}"
    validator = jsonschema_rs.validator_for({**forms[media_type], **COMPONENTS}, validate_formats=True)
    faults = [f"{'.'.join(map(str, e.instance_path))}: {e.message}" for e in validator.iter_errors(answer.json())]
    assert not faults, f"{said} is not as documented: {faults[:5]}"
