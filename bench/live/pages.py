"""How long after its record a change is seen in a browser: of a run's step in its list of steps and in the waterfall,
of a run in the list of runs. The page notes the time of each change; the rows have that of the record."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client

from bench.drivers.front import Front
from bench.drivers.site import Site
from workflows import services
from workflows.definitions.validate import parse
from workflows.models import Organization, Run, StepRun

if TYPE_CHECKING:
    from playwright.sync_api import Page

UNTIL_FOLLOWED_S = 4.0
LAST_S = 2.0
_NOTE = """() => {
    window.seen = {};
    const note = (name) => { window.seen[name] ??= Date.now(); };
    const look = () => {
        for (const line of document.querySelectorAll("[id^='summary-']")) {
            const key = line.id.slice(8);
            if (line.querySelector(".status.completed")) note("line " + key);
            const bars = [...line.querySelectorAll(".track .bar")];
            if (bars.length && bars.every((bar) => bar.dataset.until)) note("bar " + key);
        }
        for (const row of document.querySelectorAll("tr[id^='run-']")) {
            if (row.querySelector(".status.completed")) note("row " + row.id.slice(4));
        }
    };
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
}"""


def latencies(front: Front, *, count: int) -> dict[str, list[float]]:
    """Milliseconds from the record to the page: of so many steps (`line`, `bar`), and of so many runs (`row`)."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  (no other bench needs a browser)

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright's sync API runs a loop in this thread
    site, port = front.site, front.start()
    with _operator() as cookie, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("chromium-browser"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        context = browser.new_context(base_url=f"http://127.0.0.1:{port}")
        context.add_cookies(
            [{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": f"http://127.0.0.1:{port}"}]
        )
        page = context.new_page()
        page.goto(f"/?org={site.organization.slug}")
        found = {"row": _rows(site, page, count)}
        found |= _steps(site, page, count)
        browser.close()
    return found


@contextmanager
def _operator() -> Iterator[str]:
    """The session of a superuser, who is gone afterwards."""
    login = get_user_model().objects.create(username=f"bench-{uuid.uuid4()}", is_superuser=True, is_staff=True)
    try:
        client = Client()
        client.force_login(login)
        cookies: SimpleCookie = client.cookies
        yield cookies[settings.SESSION_COOKIE_NAME].value
        client.logout()
    finally:
        login.delete()


def _publish(organization: Organization, pauses_ms: list[int]) -> str:
    steps = [{"id": f"s{n}", "type": "delay", "config": {"for": pause}} for n, pause in enumerate(pauses_ms)]
    services.apply_definition(organization, parse({"flow": "watched", "steps": steps}))
    return "watched"


def _pauses(count: int) -> list[int]:
    """Milliseconds, of which none falls in step with what the page or the server does regularly."""
    return [500 + (number * 373) % 811 for number in range(count)]


def _steps(site: Site, page: Page, count: int) -> dict[str, list[float]]:
    """One run whose steps end one after the other, on its page."""
    slug = _publish(site.organization, [round(UNTIL_FOLLOWED_S * 1e3), *_pauses(count)])
    run_id = services.trigger(site.organization, slug).run_ids[0]
    page.goto(f"/runs/{run_id}/")
    page.evaluate(_NOTE)
    _watch(site, page)
    seen: dict[str, int] = page.evaluate("() => window.seen")
    ended = {row.key: row.ended_at for row in StepRun.objects.filter(run_id=run_id).exclude(key="s0")}
    return {what: [_since(ended[key], seen.get(f"{what} {key}")) for key in sorted(ended)] for what in ("line", "bar")}


def _rows(site: Site, page: Page, count: int) -> list[float]:
    """Runs that end one after the other, in the list."""
    page.evaluate(_NOTE)
    time.sleep(UNTIL_FOLLOWED_S)
    ids = []
    for pause_ms in _pauses(count):
        slug = _publish(site.organization, [pause_ms])
        ids += services.trigger(site.organization, slug).run_ids
        page.wait_for_timeout(300)
    _watch(site, page)
    seen: dict[str, int] = page.evaluate("() => window.seen")
    return [_since(Run.objects.get(id=run_id).ended_at, seen.get(f"row {run_id}")) for run_id in ids]


def _watch(site: Site, page: Page) -> None:
    """Let the page live until all runs have ended, and a little longer."""
    site.await_idle(pause=lambda: page.wait_for_timeout(200))
    page.wait_for_timeout(LAST_S * 1e3)


def _since(recorded: Any, seen_ms: int | None) -> float:
    if seen_ms is None:
        return float("inf")
    return float(seen_ms - recorded.timestamp() * 1e3)
