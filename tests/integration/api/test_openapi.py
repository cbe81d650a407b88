"""The OpenAPI document against the API: values that its schemas allow meet no 500, and no status that it does not name.

The values are made here, from the few forms of schema that the document has: schemathesis 4.24 and hypothesis-jsonschema
0.23 do not work beside jsonschema-rs 0.61 and hypothesis 6.170.
"""

from __future__ import annotations

import json
import uuid
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.openapi import DOCUMENT, JSON, OPERATIONS, assert_documented, forms_of
from workflows.models import AccessKey, Organization

TEXT = st.text(max_size=20)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "integer": st.integers(-5, 300) | st.integers(),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "string": st.sampled_from(["", "5m", "failed", "org", "noop", "1h"]) | TEXT,
}
BY_FORMAT = {
    "uuid": st.uuids().map(str),
    "date-time": st.datetimes().map(lambda at: f"{at.isoformat()}Z"),
}


def values_of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema of the document allows."""
    if "$ref" in schema:
        return values_of(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return st.one_of([values_of(each) for each in schema["anyOf"]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    type_ = schema.get("type")
    if type_ == "array":
        return st.lists(values_of(schema.get("items", {})), min_size=schema.get("minItems", 0), max_size=3)
    if type_ == "object" and "properties" in schema:
        fields = {name: values_of(each) for name, each in schema["properties"].items()}
        required = schema.get("required", [])
        return st.fixed_dictionaries(
            {name: each for name, each in fields.items() if name in required},
            optional={name: each for name, each in fields.items() if name not in required},
        )
    if type_ == "object":
        inner = schema.get("additionalProperties")
        return st.dictionaries(TEXT, values_of(inner) if isinstance(inner, dict) else ANYTHING, max_size=3)
    return BY_FORMAT.get(schema.get("format", ""), BY_TYPE.get(str(type_), ANYTHING))


def calls_of(path: str, operation: dict[str, Any]) -> st.SearchStrategy[tuple[str, bytes]]:
    """Addresses with their bodies."""
    strategies = {(each["in"], each["name"]): values_of(each["schema"]) for each in operation.get("parameters", [])}
    required = {(each["in"], each["name"]) for each in operation.get("parameters", []) if each["required"]}
    content = operation.get("requestBody", {}).get("content", {}).get(JSON, {})
    bodies = values_of(content["schema"]).map(lambda value: json.dumps(value).encode()) if content else st.just(b"")

    def made(parts: tuple[dict[tuple[str, str], Any], bytes]) -> tuple[str, bytes]:
        values, body = parts
        address, query = path, {}
        for (place, name), value in values.items():
            text = value if isinstance(value, str) else json.dumps(value)
            if place == "path":
                address = address.replace(f"{{{name}}}", quote(text, safe="", errors="replace") or "x")
            else:
                query[name] = text.encode(errors="replace")
        return f"{address}?{urlencode(query)}", body

    named = {name: each for name, each in strategies.items() if name in required}
    optional = {name: each for name, each in strategies.items() if name not in required}
    return st.tuples(st.fixed_dictionaries(named, optional=optional), bodies).map(made)


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=[f"{m} {p}" for m, p, _ in OPERATIONS])
def test_an_operation_answers_as_documented(
    method: str, path: str, operation: dict[str, Any], org: Organization
) -> None:
    key = AccessKey.issue(org, "api", f"openapi-{uuid.uuid4().hex[:6]}")[1]
    keyed = Client(headers={"authorization": f"Bearer {key}"}, raise_request_exception=False)
    stranger = Client(raise_request_exception=False)

    known = {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}

    @settings(
        max_examples=12, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(call=calls_of(path, operation), more=st.sampled_from(["", "", "unknown", "twice"]))
    def check(call: tuple[str, bytes], more: str) -> None:
        address, body = call
        name = next(iter(sorted(known)), "")
        if more == "unknown":
            address += "&nonsense=1"
        elif more == "twice" and name:
            address += f"&{name}=1&{name}=2"
        for with_key in (True, False):
            one(address, body, with_key, refused=more == "unknown" or bool(more and name))

    def one(address: str, body: bytes, with_key: bool, *, refused: bool) -> None:
        answer = (keyed if with_key else stranger).generic(method.upper(), address, body, content_type=JSON)
        described = f"{method} {address} {body!r}: {answer.status_code} {answer.content[:200]!r}"
        assert_documented(operation, answer)
        if with_key and refused:
            assert answer.status_code in {404, 422}, described
        if not with_key and operation.get("security"):
            assert answer.status_code in {401, 404, 422}, described

    check()


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=[f"{m} {p}" for m, p, _ in OPERATIONS])
def test_every_operation_gives_the_form_of_its_answers(method: str, path: str, operation: dict[str, Any]) -> None:
    assert any(status < "300" for status in operation["responses"])
    for status in operation["responses"]:
        forms = forms_of(operation, status)
        assert forms, f"{status}: no media type"
        for media_type, schema in forms.items():
            typed = schema.get("type") == "string" if media_type == "text/plain" else _is_typed(schema)
            assert typed, f"{status} {media_type}: {schema} says nothing"


def _is_typed(schema: dict[str, Any]) -> bool:
    """Whether it names the fields of an object (or of the objects of an array)."""
    if "$ref" in schema:
        return _is_typed(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return all(_is_typed(each) for each in schema["anyOf"])
    return _is_typed(schema["items"]) if schema.get("type") == "array" else bool(schema.get("properties"))


def test_every_operation_names_its_problems() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            named = operation["responses"]
            assert {"400", "401", "422", "503"} <= named.keys(), (method, path)
            assert "404" in named or "{" not in path, (method, path)
            assert "413" in named or "requestBody" not in operation, (method, path)
            for status, response in named.items():
                if status >= "400":
                    schema = response["content"]["application/problem+json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Problem"}, (method, path, status)
    assert DOCUMENT["components"]["schemas"]["Problem"]["required"] == ["type", "title", "status", "code", "detail"]
