"""The OpenAPI document against the API: no 500, no status and no body that it does not name."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from config.api import api as ninja_api
from workflows.models import AccessKey, Organization

DOCUMENT: dict[str, Any] = dict(ninja_api.get_openapi_schema())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]
"""Those of a caller that may stop everything of its organization are called as well: it is one of its own."""


@pytest.mark.parametrize("operation", OPERATIONS, ids=[each.label for each in OPERATIONS])
def test_an_operation_answers_as_documented(operation: Any, org: Organization) -> None:
    key = AccessKey.issue(org, "api", "schemathesis")[1]
    keyed, stranger = (
        Client(headers=headers, raise_request_exception=False) for headers in ({"authorization": f"Bearer {key}"}, {})
    )

    @settings(
        max_examples=8, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(), with_key=st.booleans())
    def check(case: Any, with_key: bool) -> None:
        answer = send(keyed if with_key else stranger, case)
        described = f"{case.method} {case.formatted_path} {case.query} {case.body!r}: {answer.status_code}"
        assert str(answer.status_code) in operation.definition.raw["responses"], described
        assert answer.status_code < 500, described
        if answer.status_code >= 400:
            assert answer["Content-Type"] == "application/problem+json", described
            assert {"type", "title", "status", "code", "detail"} <= answer.json().keys(), described
        if not with_key and operation.definition.raw.get("security"):
            assert answer.status_code in {401, 404, 422}, described

    check()


def send(client: Client, case: Any) -> Any:
    """The case through Django's handler."""
    prepared = case.as_transport_kwargs(base_url="http://testserver")
    import requests

    request = requests.Request(
        method=prepared["method"], url=prepared["url"], params=prepared.get("params"), json=prepared.get("json"),
        data=prepared.get("data"),
    ).prepare()  # fmt: skip
    assert request.url is not None
    body = request.body or b""
    return client.generic(
        str(request.method), request.url.removeprefix("http://testserver"), body, content_type="application/json"
    )


def test_every_operation_names_its_problems() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            named = operation["responses"]
            assert {"401", "422", "503"} <= named.keys(), (method, path)
            assert "404" in named or "{" not in path, (method, path)
            assert {"400", "413"} <= named.keys() or "requestBody" not in operation, (method, path)
            for status, response in named.items():
                if status >= "400":
                    schema = response["content"]["application/problem+json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Problem"}, (method, path, status)
    assert DOCUMENT["components"]["schemas"]["Problem"]["required"] == ["type", "title", "status", "code", "detail"]
