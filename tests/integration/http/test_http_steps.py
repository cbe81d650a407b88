"""`http_request` and `oauth_api_call` against a real local HTTP server, on real workers."""

from __future__ import annotations

import base64
import itertools
import json
import time
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.support.workers import by_key, run_to_end
from workflows import presenters
from workflows.errors import Category
from workflows.models import Organization
from workflows.selectors.runs import StepDetail
from workflows.steps.http import client

pytestmark = pytest.mark.usefixtures("workers")
FAST = {"attempts": 3, "delay": "30ms", "backoff": "fixed", "jitter": False}


def call(
    org: Organization, config: dict[str, Any], data: Any = None, kind: str = "http_request", **more: Any
) -> StepDetail:
    detail = run_to_end(org, [{"id": "a", "type": kind, "config": config, "retry": FAST, **more}], data)
    return by_key(detail)["a"]


def error_of(step: StepDetail) -> dict[str, Any]:
    assert step.step_run.status == "failed", step.step_run.output
    error: dict[str, Any] = step.attempts[-1].error
    return error


def test_method_headers_query_and_json_travel(org: Organization, httpserver: HTTPServer) -> None:
    httpserver.expect_oneshot_request(
        "/x", method="PUT", query_string="a=1&b=x&b=y", headers={"x-n": "7"}, json={"n": 7, "list": [1, None]}
    ).respond_with_json({"done": True}, status=201)
    step = call(
        org,
        {
            "url": httpserver.url_for("/x"), "method": "PUT", "headers": {"X-N": "${ string(input.n) }"},
            "query": {"a": 1, "b": ["x", "y"]}, "json": {"n": "${ input.n }", "list": [1, None]},
        },
        {"n": 7},
    )  # fmt: skip
    assert (step.step_run.output["status"], step.step_run.output["body"]) == (201, {"done": True})
    assert step.step_run.output["headers"]["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("config", "content_type", "body"),
    [
        ({"form": {"a": "x y", "b": 2}}, "application/x-www-form-urlencoded", b"a=x+y&b=2"),
        ({"body": "raw", "headers": {"content-type": "text/x"}}, "text/x", b"raw"),
        ({"json": None}, "application/json", b"null"),
    ],
)
def test_forms_and_raw_bodies(
    org: Organization, httpserver: HTTPServer, config: dict[str, Any], content_type: str, body: bytes
) -> None:
    seen: list[tuple[str | None, bytes]] = []

    def answer(request: Request) -> Response:
        seen.append((request.headers.get("content-type"), request.get_data()))
        return Response("ok", content_type="text/plain")

    httpserver.expect_request("/x").respond_with_handler(answer)
    step = call(org, {"url": httpserver.url_for("/x"), "method": "POST", **config})
    assert step.step_run.output["body"] == "ok"
    assert seen == [(content_type, body)]


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ({"type": "bearer", "token": "t"}, "Bearer t"),
        ({"type": "basic", "username": "u", "password": "p"}, "Basic " + base64.b64encode(b"u:p").decode()),
    ],
)
def test_authentication(org: Organization, httpserver: HTTPServer, auth: dict[str, str], header: str) -> None:
    httpserver.expect_request("/x", headers={"authorization": header}).respond_with_json({})
    assert call(org, {"url": httpserver.url_for("/x"), "auth": auth}).step_run.status == "completed"


@pytest.mark.parametrize(
    ("status", "category", "calls"),
    [(500, "transient", 3), (503, "transient", 3), (408, "transient", 3), (429, "rate_limited", 3), (400, "invalid_input", 1),
     (404, "invalid_input", 1), (401, "auth", 1), (403, "auth", 1), (302, "invalid_input", 1)],
)  # fmt: skip
def test_the_status_decides_category_and_tries(
    org: Organization, httpserver: HTTPServer, status: int, category: str, calls: int
) -> None:
    httpserver.expect_request("/x").respond_with_data("why", status=status)
    step = call(org, {"url": httpserver.url_for("/x")})
    assert error_of(step)["category"] == category
    assert f"answered {status}: why" in error_of(step)["message"]
    assert (len(step.attempts), len(httpserver.log)) == (calls, calls)


def test_success_codes_can_be_named(org: Organization, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_data("gone", status=404)
    assert call(org, {"url": httpserver.url_for("/x"), "success": [200, 404]}).step_run.output["status"] == 404


def test_retry_after_is_obeyed_and_costs_no_try(org: Organization, httpserver: HTTPServer) -> None:
    moments: list[float] = []

    def answer(_: Request) -> Response:
        moments.append(time.monotonic())
        return Response("wait", 429, {"retry-after": "1"}) if len(moments) < 5 else Response("ok")

    httpserver.expect_request("/x").respond_with_handler(answer)
    step = call(org, {"url": httpserver.url_for("/x")})
    assert step.step_run.status == "completed"
    assert (step.step_run.attempt, step.step_run.server_retry_waits, len(step.attempts)) == (1, 4, 5)
    assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(moments))


@pytest.mark.parametrize(
    ("config", "content", "content_type", "body"),
    [
        ({}, b'{"a": 1}', "application/json", {"a": 1}),
        ({}, b'{"a": 1}', "application/problem+json", {"a": 1}),
        ({}, "grüß".encode(), "text/plain; charset=utf-8", "grüß"),
        ({}, b"\xff\x00", "application/octet-stream", base64.b64encode(b"\xff\x00").decode()),
        ({"response": "text"}, b'{"a": 1}', "application/json", '{"a": 1}'),
        ({"response": "json"}, b"[1]", "text/plain", [1]),
        ({"response": "none"}, b"x", "text/plain", None),
        ({"response": "base64"}, b"x", "text/plain", "eA=="),
    ],
)
def test_answers_are_parsed_as_asked(
    org: Organization, httpserver: HTTPServer, config: dict[str, Any], content: bytes, content_type: str, body: Any
) -> None:
    httpserver.expect_request("/x").respond_with_data(content, content_type=content_type)
    assert call(org, {"url": httpserver.url_for("/x"), **config}).step_run.output["body"] == body


def test_an_answer_that_is_not_what_was_asked_fails_once(org: Organization, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_data("<html>", content_type="application/json")
    step = call(org, {"url": httpserver.url_for("/x")})
    assert (error_of(step)["category"], len(step.attempts)) == ("invalid_output", 1)


def test_a_large_answer_is_refused(org: Organization, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_data(b"x" * 5_000)
    assert (
        "larger than 1,000 bytes"
        in error_of(call(org, {"url": httpserver.url_for("/x"), "max_response_bytes": 1_000}))["message"]
    )


def test_a_slow_answer_times_out_and_is_tried_again(org: Organization, httpserver: HTTPServer) -> None:
    def answer(_: Request) -> Response:
        if len(httpserver.log) == 0:
            time.sleep(0.5)
        return Response("ok")

    httpserver.expect_request("/x").respond_with_handler(answer)
    step = call(org, {"url": httpserver.url_for("/x"), "timeout": "150ms"}, retry={**FAST, "delay": "600ms"})
    assert [attempt.status for attempt in step.attempts] == ["failed", "completed"]
    assert "did not answer within 150 ms" in step.attempts[0].error["message"]


def test_a_step_timeout_ends_the_call(org: Organization, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_handler(lambda _: time.sleep(1) or Response("late"))
    step = call(org, {"url": httpserver.url_for("/x"), "timeout": "30s"}, timeout="200ms")
    assert error_of(step)["category"] in {"resource", "transient"}


@pytest.mark.parametrize(
    ("url", "category", "says"),
    [
        ("http://127.0.0.1:1/", "transient", "can't be reached"),
        ("http://nowhere.invalid/", "transient", "can't be resolved"),
        ("http://10.0.0.1/", "configuration", "HEADRACE_ALLOWED_PRIVATE_HOSTS"),
        ("http://169.254.169.254/latest/meta-data", "configuration", "private address"),
        ("http://[::1]/", "configuration", "private address"),
        ("http://0.0.0.0/", "configuration", "private address"),
        ("ftp://example.org/", "configuration", "no http or https URL"),
        ("nonsense", "configuration", "no http or https URL"),
        ("http://", "configuration", "no http or https URL"),
    ],
)
def test_bad_addresses(org: Organization, url: str, category: str, says: str) -> None:
    error = error_of(call(org, {"url": "${ input.url }"}, {"url": url}))
    assert error["category"] == category, error
    assert says in error["message"]


def test_a_redirect_can_not_reach_a_private_address(org: Organization, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_data("", status=302, headers={"location": "http://10.1.2.3/"})
    error = error_of(call(org, {"url": httpserver.url_for("/x"), "follow_redirects": True}))
    assert (error["category"], "10.1.2.3" in error["message"]) == ("configuration", True)


def test_an_allowed_host_may_be_named_with_its_port(settings: Any) -> None:
    settings.HEADRACE = {"ALLOWED_PRIVATE_HOSTS": frozenset({"127.0.0.1:80"})}
    client.check_address("127.0.0.1", 80, "127.0.0.1")
    client.check_address("example.org", 443, "93.184.215.14")
    for host, port, address in (
        ("127.0.0.1", 81, "127.0.0.1"),
        ("evil.example", 80, "127.0.0.1"),
        ("x", 80, "::ffff:10.0.0.1"),
    ):
        with pytest.raises(client.AddressRefused) as caught:
            client.check_address(host, port, address)
        assert caught.value.category is Category.CONFIGURATION


def test_every_try_carries_the_same_idempotency_key(org: Organization, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_data("", status=500)
    step = call(org, {"url": httpserver.url_for("/x")})
    assert {request.headers["idempotency-key"] for request, _ in httpserver.log} == {str(step.step_run.id)}


def oauth(httpserver: HTTPServer, **more: Any) -> dict[str, Any]:
    grant = {"token_url": httpserver.url_for("/token"), "client_id": "id", "client_secret": "s", **more}
    return {"url": httpserver.url_for("/api"), "oauth": grant}


class TokenServer:
    """Issues numbered tokens; the API accepts those that are not revoked."""

    def __init__(self, httpserver: HTTPServer, lifetime_s: float = 3_600) -> None:
        self.forms: list[dict[str, str]] = []
        self.revoked: set[str] = set()
        self.lifetime_s = lifetime_s
        httpserver.expect_request("/token", method="POST").respond_with_handler(self._token)
        httpserver.expect_request("/api").respond_with_handler(self._api)

    def _token(self, request: Request) -> Response:
        self.forms.append(dict(request.form))
        token = {
            "access_token": f"t{len(self.forms)}",
            "expires_in": self.lifetime_s,
            "refresh_token": f"r{len(self.forms)}",
        }
        return Response(json.dumps(token), content_type="application/json")

    def _api(self, request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return Response("", 401) if token in self.revoked or not token else Response(token)


def test_a_token_is_fetched_once_and_kept(org: Organization, httpserver: HTTPServer) -> None:
    server = TokenServer(httpserver)
    config = oauth(httpserver, scope="read")
    assert [call(org, config, kind="oauth_api_call").step_run.output["body"] for _ in range(3)] == ["t1", "t1", "t1"]
    assert server.forms == [{"grant_type": "client_credentials", "scope": "read"}]


def test_a_refused_token_is_renewed_once(org: Organization, httpserver: HTTPServer) -> None:
    server = TokenServer(httpserver)
    server.revoked = {"t1"}
    assert call(org, oauth(httpserver), kind="oauth_api_call").step_run.output["body"] == "t2"
    server.revoked = {"t2", "t3"}
    step = call(org, oauth(httpserver), kind="oauth_api_call")
    assert (error_of(step)["category"], len(step.attempts), len(server.forms)) == ("auth", 1, 3)


def test_an_expired_token_is_renewed_with_the_rotated_refresh_token(org: Organization, httpserver: HTTPServer) -> None:
    server = TokenServer(httpserver, lifetime_s=0.05)
    config = oauth(httpserver, grant="refresh_token", refresh_token="first")
    call(org, config, kind="oauth_api_call")
    time.sleep(0.1)
    call(org, config, kind="oauth_api_call")
    assert [form["refresh_token"] for form in server.forms] == ["first", "r1"]


@pytest.mark.parametrize(("status", "category"), [(400, "auth"), (401, "auth"), (500, "transient")])
def test_a_token_that_is_refused_is_an_auth_failure(
    org: Organization, httpserver: HTTPServer, status: int, category: str
) -> None:
    httpserver.expect_request("/token").respond_with_data("no", status=status)
    step = call(org, oauth(httpserver), kind="oauth_api_call")
    assert error_of(step)["category"] == category
    assert presenters.step_out(step)["error"]["name"] in {"NonRetriable", "StepFailure"}
