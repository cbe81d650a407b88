"""The server's application: health checks on the loop, every other request in one thread of a few."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest
from django.db import OperationalError
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware
from django.test import Client
from django.utils import timezone

from config.browser_policy import browser_policy
from tests.support import by_hand
from workflows import selectors
from workflows.api.edge.handler import ThreadHandler
from workflows.api.streams.front import Front
from workflows.models import AccessKey, Organization

HEADERS = (browser_policy, SecurityMiddleware, XFrameOptionsMiddleware)


def ask(application: Any, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
    """The answers to requests that are sent at once: method, path and options of each."""

    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await asyncio.gather(*(client.request(method, path, **more) for method, path, more in requests))

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_health_check_has_the_headers_of_every_answer(live_db: None, path: str) -> None:
    (answer,) = ask(Front(ThreadHandler(threads=4), HEADERS), ("GET", path, {}))
    by_django = Client().get(path, headers={"host": "localhost"})
    assert answer.json() == by_django.json()
    assert {name.lower(): value for name, value in answer.headers.items()} == {
        **{name.lower(): value for name, value in by_django.items()},
        "content-length": str(len(answer.content)),
    }


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/healthz", {"host": "elsewhere.example"}, 400),
        ("GET", "/healthz?verbose=1", {}, 200),
        ("GET", "/api/nothing", {}, 404),
        ("PUT", "/e/key", {}, 405),
        ("GET", "/api/runs", {}, 401),
    ],
)
def test_what_is_no_plain_health_check_is_answered_by_django(
    live_db: None, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    (answer,) = ask(Front(ThreadHandler(threads=4), HEADERS), (method, path, {"headers": headers}))
    assert answer.status_code == status
    same = Client().generic(method, path, headers={"host": "localhost", **headers})
    assert (answer.status_code, answer.content) == (same.status_code, same.content)


def test_bodies_cookies_and_refusals_come_through(org: Organization, api_key: str) -> None:
    bearer = {"authorization": f"Bearer {api_key}"}
    page, large, refused = ask(
        Front(ThreadHandler(threads=4), HEADERS),
        ("GET", "/login/", {}),
        ("POST", "/api/workflows/x/run", {"headers": bearer, "content": b'{"a": "' + b"x" * (9 * 1024 * 1024) + b'"}'}),
        ("POST", "/api/workflows/x/run", {"headers": bearer, "json": {}}),
    )
    assert (page.status_code, large.status_code, refused.status_code) == (200, 413, 404)
    assert "csrftoken" in page.cookies
    assert refused.json()["code"] == "flow_not_found"


def test_a_process_with_too_many_requests_refuses_the_next_at_once(
    live_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread, two requests at most: the third does not wait behind them."""
    handler = ThreadHandler(threads=1, middlewares=HEADERS, most_open=2)
    go_on, respond = threading.Event(), handler._respond
    monkeypatch.setattr(handler, "_respond", lambda *given: (go_on.wait(20), respond(*given))[1])

    async def three() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=handler), base_url="http://localhost") as client:
            first = [asyncio.ensure_future(client.get("/favicon.ico")) for _ in range(2)]
            await asyncio.sleep(0)
            while handler._open < 2:
                await asyncio.sleep(0.01)
            third, event, page = [await client.get(path) for path in ("/api/runs", "/e/key", "/login/")]
            go_on.set()
            return [third, event, page, *await asyncio.gather(*first)]

    third, event, page, *first = asyncio.run(three())
    assert (third.json()["code"], event.json()["ids"], event.json()["error"]) == (
        "overloaded",
        [],
        event.json()["detail"],
    )
    for answer in (third, event, page):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert page.headers["content-type"].startswith("text/html")
    assert [answer.status_code for answer in first] == [204, 204]
    (again,) = ask(handler, ("GET", "/favicon.ico", {}))
    assert again.status_code == 204


# --- a run, read by the short way ------------------------------------------------------------------------------------

DJANGO = ThreadHandler(threads=4, middlewares=HEADERS)
READS: dict[str, tuple[int, bool, dict[str, Any]]] = {
    "one that has ended": (200, True, {}),
    "one that is live": (200, True, {"path": "/api/runs/{live}"}),
    "one with containers": (200, True, {"path": "/api/runs/{map}"}),
    "over TLS, by a proxy's word": (200, True, {"x-forwarded-proto": "https"}),
    "an unknown one": (404, False, {"path": "/api/runs/01a21604-c2a2-7451-abb1-e02a4c323c01"}),
    "in capitals": (404, False, {"path": "/api/runs/01A21604-C2A2-7451-ABB1-E02A4C323C01"}),
    "no id": (404, False, {"path": "/api/runs/nothing"}),
    "with a slash": (404, False, {"path": "/api/runs/{ended}/"}),
    "a query": (422, False, {"path": "/api/runs/{ended}?a=1"}),
    "a HEAD": (405, False, {"method": "HEAD"}),
    "a POST": (405, False, {"method": "POST"}),
    "no key": (401, False, {"authorization": ""}),
    "an unknown key": (401, False, {"authorization": "Bearer hr_api_unknown"}),
    "a revoked key": (401, False, {"authorization": "Bearer {revoked}"}),
    "a key for events": (401, False, {"authorization": "Bearer {event}"}),
    "another organization's key": (404, False, {"authorization": "Bearer {other}"}),
    "a browser's session": (200, False, {"cookie": "sessionid=abc"}),
    "a bad host": (400, False, {"host": "evil.example"}),
    "a NUL in a header": (400, False, {"x-a": "a\0"}),
}
"""By name: the status, whether Django has no part in it, and what is different from a plain request."""


@pytest.fixture
def world(org: Organization, other: Organization) -> dict[str, str]:
    """Runs and keys by the names that the table has for them."""
    ended = by_hand.start(org, [{"id": "a", "type": "noop", "config": {"output": {"ü": [1.5, None]}}}])
    by_hand.end(by_hand.claim(ended, "a"))
    live = by_hand.start(org, [{"id": "a", "type": "noop"}, {"id": "b", "type": "noop"}], slug="live")
    body = [{"id": "x", "type": "noop"}]
    container = by_hand.start(
        org, [{"id": "m", "type": "map", "config": {"items": "${ [1, 2] }"}, "steps": body}], slug="map"
    )
    made = {
        "api": AccessKey.issue(org, AccessKey.Kind.API, "test")[1],
        "event": AccessKey.issue(org, AccessKey.Kind.EVENT, "test")[1],
        "other": AccessKey.issue(other, AccessKey.Kind.API, "test")[1],
        "revoked": AccessKey.issue(org, AccessKey.Kind.API, "gone")[1],
    }
    AccessKey.objects.filter(organization=org, name="gone").update(revoked_at=timezone.now())
    return {**made, "ended": str(ended), "live": str(live), "map": str(container)}


async def _sent(application: Any, world: dict[str, str], given: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    """(status, headers, JSON) of the answer to a request, which is plain but for what is given."""
    method, address = given.get("method", "GET"), given.get("path", "/api/runs/{ended}").format(**world)
    path, _, query = address.partition("?")
    said = {"host": "localhost", "authorization": "Bearer {api}", **given}
    headers = [
        (name.encode(), value.format(**world).encode())
        for name, value in said.items()
        if name not in {"method", "path"} and value
    ]
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "scheme": "http", "root_path": "", "http_version": "1.1", "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 80), "headers": headers,
    }  # fmt: skip
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    await application(scope, receive, send)
    start, content = messages[0], b"".join(each.get("body", b"") for each in messages[1:])
    told = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return start["status"], told, json.loads(content) if content else None


@pytest.mark.parametrize("name", READS)
def test_a_run_is_read_by_both_ways_alike(
    world: dict[str, str], published: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    status, is_short, given = READS[name]
    asked: list[object] = []
    real = ThreadHandler._answer

    def answer(handler: ThreadHandler, scope: Any, body: Any, respond: Any) -> Any:
        asked.append(scope["path"])
        return real(handler, scope, body, respond)

    monkeypatch.setattr(ThreadHandler, "_answer", answer)
    ours = asyncio.run(_sent(Front(DJANGO, HEADERS), world, given))
    assert len(asked) == (0 if is_short else 1)
    assert ours == asyncio.run(_sent(DJANGO, world, given))
    assert ours[0] == status


def test_a_key_that_is_revoked_reads_nothing_more(org: Organization, world: dict[str, str], published: Any) -> None:
    front = Front(DJANGO, HEADERS)
    assert asyncio.run(_sent(front, world, {}))[0] == 200
    AccessKey.objects.filter(organization=org).update(revoked_at=timezone.now())
    assert asyncio.run(_sent(front, world, {}))[0] == 401


def test_a_read_that_fails_is_answered_as_django_does(
    world: dict[str, str], published: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(selectors, "run_detail", away)
    status, headers, body = asyncio.run(_sent(Front(DJANGO, HEADERS), world, {}))
    assert (status, body["code"], "retry-after" in headers) == (503, "unavailable", True)
