"""Ten tabs of one browser over HTTP/1.1: they share one stream, all are live, and none keeps another from loading."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.test_dashboard import browser, log_in, tenant  # noqa: F401  (fixtures)
from tests.support.web import Web
from tests.support.workers import WorkerPool, await_end, await_that, publish
from workflows import services
from workflows.models import Organization
from workflows.services import callbacks
from workflows.steps import callback_urls


@pytest.fixture(scope="module")
def web(live_db: None, worker_environment: dict[str, str]) -> Iterator[Web]:
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright's sync API runs a loop in this thread
    started = Web(worker_environment)
    yield started
    started.stop()


@pytest.fixture
def streams() -> list[Page]:
    """The page of each request for the stream."""
    return []


@pytest.fixture
def context(browser: Any, web: Web, streams: list[Page]) -> Iterator[BrowserContext]:  # noqa: F811
    opened = browser.new_context(base_url=web.address)
    opened.on("request", lambda request: streams.append(request.frame.page) if "/api/stream" in request.url else None)
    yield opened
    opened.close()


def test_ten_tabs_share_one_stream_and_stay_usable(
    context: BrowserContext,
    web: Web,
    tenant: Organization,  # noqa: F811
    workers: WorkerPool,
    streams: list[Page],
) -> None:
    slug = publish(tenant, [{"id": "a", "type": "noop"}], slug="seen")
    log_in(context.new_page())
    tabs = [context.pages[0], *(context.new_page() for _ in range(9))]
    for tab in tabs[1:]:
        tab.goto("/", timeout=10_000)
        expect(tab.get_by_role("heading", name="Runs")).to_be_visible()
    await_end(tenant, services.trigger(tenant, slug).run_ids[0])
    for tab in tabs:
        expect(tab.locator("tbody tr")).to_have_count(1, timeout=15_000)
    leaders = {tabs.index(page) for page in streams}
    assert len(leaders) == 1, leaders

    started = time.monotonic()
    another = context.new_page()
    another.goto("/flows/", timeout=10_000)
    expect(another.get_by_role("link", name="Runs")).to_be_visible()
    assert time.monotonic() - started < 8
    another.close()

    tabs.pop(leaders.pop()).close()
    before = len(streams)
    tabs[0].wait_for_function("true")
    await_that(lambda: (tabs[0].wait_for_timeout(50), len(streams) > before)[1], 20, "another tab reads the stream")
    await_end(tenant, services.trigger(tenant, slug).run_ids[0])
    for tab in tabs:
        expect(tab.locator("tbody tr")).to_have_count(2, timeout=15_000)
    assert len(set(streams[before:])) == 1


def test_tabs_without_a_lock_poll(
    context: BrowserContext,
    tenant: Organization,  # noqa: F811
    workers: WorkerPool,
    streams: list[Page],
) -> None:
    """As on plain HTTP, where browsers give no locks."""
    context.add_init_script("Object.defineProperty(navigator, 'locks', {value: undefined})")
    slug = publish(tenant, [{"id": "a", "type": "noop"}], slug="seen")
    page = context.new_page()
    log_in(page)
    await_end(tenant, services.trigger(tenant, slug).run_ids[0])
    expect(page.locator("tbody tr")).to_have_count(1, timeout=15_000)
    assert streams == []


def test_what_ends_is_shown_without_a_fetch(
    context: BrowserContext,
    tenant: Organization,  # noqa: F811
    workers: WorkerPool,
) -> None:
    slug = publish(tenant, [{"id": "a", "type": "wait_for_callback", "config": {}}], slug="watched")
    run_id = services.trigger(tenant, slug).run_ids[0]
    page = context.new_page()
    with page.expect_request("**/api/stream*"):
        log_in(page)
    page.goto("/?columns=status,created,ended,duration")
    row = page.locator(f"#run-{run_id}")
    expect(row.locator(".status")).not_to_have_text("completed")
    page.wait_for_timeout(1_000)  # the stream is open, and what it told first was fetched
    page.route("**/runs/rows/**", lambda route: route.abort())
    callbacks.receive_callback(callback_urls.token_of(run_id, "a"), {})
    expect(row.locator(".status.completed")).to_have_text("completed", timeout=10_000)
    expect(row.locator("hr-ticks")).to_have_count(0)
    expect(row.locator("[data-column=ended] time")).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))
    expect(row.locator("input[name=run]")).to_have_value(f"{run_id}:completed")


def test_a_list_waits_as_long_as_it_is_told(
    context: BrowserContext,
    tenant: Organization,  # noqa: F811
    workers: WorkerPool,
) -> None:
    slug = publish(tenant, [{"id": "a", "type": "noop"}], slug="busy")
    page = context.new_page()
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(json={"rows": {}, "new": [], "older": "", "pauseMs": 600_000})

    page.route("**/runs/rows/**", answer)
    log_in(page)
    for _ in range(80):
        services.trigger(tenant, slug)
        page.wait_for_timeout(100)
    assert len(asked) == 1
