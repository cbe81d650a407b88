"""When live parts of a page are fetched after the stream has told of changes: with a page of its own, and its clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from tests.browser.test_dashboard import browser  # noqa: F401  (a fixture)

SCRIPT = Path(__file__).parents[2] / "static" / "headrace" / "live.js"
PAGE = """<!doctype html><body data-organization="o" data-api="/api/">
<p id="one" data-live="1000000000" data-followed data-run="1"></p><p id="two" data-live="1000000000" data-run="2"></p>
<script>
  const fetches = [];
  const htmx = { trigger: (part) => fetches.push(part.id) };
  const setInterval = () => 0;  // nothing but what is asked for looks
</script><script src="/live.js"></script>"""
TELL = """(run) => new Promise((resolve) => {
  const [from, to] = [new BroadcastChannel("headrace-stream o"), new BroadcastChannel("headrace-stream o")];
  to.onmessage = () => { from.close(); to.close(); resolve(); };  // the page's own channel is older: it has heard it
  from.postMessage({ id: run, run });
})"""


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:  # noqa: F811
    opened: Page = browser.new_context().new_page()

    def answer(route: Route) -> None:
        if route.request.url.endswith("/live.js"):
            route.fulfill(body=SCRIPT.read_text(encoding="utf-8"), content_type="text/javascript")
        elif "/stream" in route.request.url:
            route.fulfill(status=204)
        else:
            route.fulfill(body=PAGE, content_type="text/html")

    opened.route("**/*", answer)
    opened.clock.install(time=0)
    opened.goto("http://localhost/")
    opened.clock.pause_at(60_000)
    look(opened)
    yield opened
    opened.context.close()


def look(page: Page) -> None:
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def fetches(page: Page) -> list[str]:
    found: list[str] = page.evaluate("fetches.splice(0)")
    return found


def test_a_part_that_may_be_fetched_at_once_does_not_wait_for_one_that_may_not(page: Page) -> None:
    page.clock.run_for(1_000)
    page.evaluate(TELL, "1")
    page.clock.run_for(30)
    assert fetches(page) == ["one"]
    page.evaluate(TELL, "1")
    page.clock.run_for(30)
    assert fetches(page) == [], "it was fetched just now, and is looked at in a quarter of a second"
    page.evaluate(TELL, "2")
    page.clock.run_for(30)
    assert fetches(page) == ["two"]
    page.clock.run_for(300)
    assert fetches(page) == ["one"]
