"""What is sent and read, to the letter: queries, headers, forms, media types, bodies that are no text."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.support.workers import WorkerPool, by_key, run_to_end
from workflows.models import Organization


@pytest.fixture
def echo(httpserver: HTTPServer) -> HTTPServer:
    def answer(request: Request) -> Response:
        import json

        seen = {
            "query": request.query_string.decode(),
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": request.get_data().decode("latin-1"),
        }
        return Response(json.dumps(seen), content_type="application/json")

    httpserver.expect_request("/echo").respond_with_handler(answer)
    return httpserver


def call(org: Organization, config: dict[str, Any], data: Any = None) -> dict[str, Any]:
    """The output of one call, or its error as {category, name, message, attempts}."""
    detail = run_to_end(org, [{"id": "call", "type": "http_request", "config": config}], data or {})
    step = by_key(detail)["call"]
    if step.step_run.status == "completed":
        output: dict[str, Any] = step.step_run.output
        return output
    error: dict[str, Any] = step.attempts[-1].error or {}
    return {**error, "attempts": len(step.attempts)}


def test_a_query_in_the_url_stays_beside_the_one_in_query(
    org: Organization, workers: WorkerPool, echo: HTTPServer
) -> None:
    url = echo.url_for("/echo?api_version=2&tenant=acme&page=1")
    config = {"url": url, "query": {"page": 2, "tag": ["a b", "c&d"], "none": None, "flag": True, "share": 0.5}}
    sent = call(org, config)["body"]["query"]
    assert sent.startswith("api_version=2&tenant=acme&page=1&")
    assert sorted(sent.split("&")[3:]) == ["flag=true", "page=2", "share=0.5", "tag=a+b", "tag=c%26d"]


def test_null_in_a_query_a_header_and_a_form_is_left_out(
    org: Organization, workers: WorkerPool, echo: HTTPServer
) -> None:
    config = {"url": echo.url_for("/echo"), "method": "POST", "query": {"cursor": "${ input.q }", "page": 1},
              "headers": {"x-note": "${ input.q }"}, "form": {"a": "${ input.q }", "b": [1, None, "x"]}}  # fmt: skip
    seen = call(org, config, {"q": None})["body"]
    assert seen["query"] == "page=1"
    assert "x-note" not in seen["headers"]
    assert seen["body"] == "b=1&b=x"


@pytest.mark.parametrize(("value", "sent"), [(5, "5"), (True, "true"), (1.5, "1.5"), ("x", "x"), (" x ", "x")])
def test_numbers_and_booleans_are_texts_in_a_header(
    org: Organization, workers: WorkerPool, echo: HTTPServer, value: Any, sent: str
) -> None:
    config = {"url": echo.url_for("/echo"), "headers": {"X-Note": "${ input.v }"}}
    assert call(org, config, {"v": value})["body"]["headers"]["x-note"] == sent


@pytest.mark.parametrize("value", ["a\nb", "a\rb: c", "é", "x" * 9_000])
def test_what_no_header_can_hold_is_a_configuration_error(
    org: Organization, workers: WorkerPool, echo: HTTPServer, value: str
) -> None:
    failed = call(org, {"url": echo.url_for("/echo"), "headers": {"X-Note": "${ input.v }"}}, {"v": value})
    assert (failed["category"], failed["attempts"]) == ("configuration", 1)
    assert "x-note" in failed["message"].lower()


@pytest.mark.parametrize(
    ("content_type", "body", "read"),
    [
        ("application/json", b'{"a": 1}', {"a": 1}),
        ("Application/JSON; charset=utf-8", b'{"a": 1}', {"a": 1}),
        ("application/vnd.api+json", b"[1]", [1]),
        ("application/json", b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ("application/x-ndjson", b'{"a": 1}\n{"a": 2}\n', '{"a": 1}\n{"a": 2}\n'),
        ("application/json-seq", b'\x1e{"a": 1}\n', '\x1e{"a": 1}\n'),
        ('text/plain; profile="urn:x:json"', b"hello", "hello"),
        ("application/octet-stream", b"\x00\x01\x02abc", base64.b64encode(b"\x00\x01\x02abc").decode()),
        ("application/octet-stream", b"\xff\xfe", base64.b64encode(b"\xff\xfe").decode()),
        ("text/plain; charset=latin-1", b"Jos\xe9", "José"),
        ("text/plain; charset=no-such", b"plain", "plain"),
    ],
)
def test_answers_are_read_by_their_media_type(
    org: Organization, workers: WorkerPool, httpserver: HTTPServer, content_type: str, body: bytes, read: Any
) -> None:
    httpserver.expect_request("/raw").respond_with_response(Response(body, content_type=content_type))
    assert call(org, {"url": httpserver.url_for("/raw")})["body"] == read
