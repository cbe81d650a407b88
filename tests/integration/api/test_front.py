"""The server's application: health checks on the loop, every other request in one thread of a few."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware
from django.test import Client

from config.browser_policy import browser_policy
from workflows.api.edge.handler import ThreadHandler
from workflows.api.streams.front import Front
from workflows.models import Organization

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
