"""A live run in a browser: only what has changed is sent and swapped, and nothing that the reader uses is taken away."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from tests.browser.test_dashboard import browser, confirm, log_in, page, shoot, tenant  # noqa: F401  (fixtures)
from tests.support.workers import WorkerPool, await_that, publish
from workflows import services
from workflows.models import Organization, StepRun

BIG = {"script": "return ['0123456789' * 100] * 2000"}  # 2 MB
FAILS = {"script": "if attempt < 2:\n    raise ValueError('not yet')\nreturn attempt"}
WATCHED_S = 10


class Received:
    """The bytes that the browser receives, as they come over the wire."""

    def __init__(self, page: Page) -> None:  # noqa: F811
        self.bytes = 0
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.dataReceived", self._data)

    def _data(self, event: dict[str, Any]) -> None:
        self.bytes += event["encodedDataLength"] or event["dataLength"]


def live_run(tenant: Organization) -> uuid.UUID:  # noqa: F811
    steps = [
        {"id": "big", "type": "data_transform", "config": BIG},
        {"id": "fails", "type": "data_transform", "config": FAILS, "retry": {"delay": "100ms", "attempts": 3}},
        {"id": "nap", "type": "delay", "config": {"for": "3s"}},
        {"id": "each", "type": "map", "config": {"items": "${ [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] }", "parallelism": 1},
         "steps": [{"id": "one", "type": "delay", "config": {"for": "800ms"}}]},
        {"id": "long", "type": "delay", "config": {"for": "1h"}},
    ]  # fmt: skip
    run_id = services.trigger(tenant, publish(tenant, steps, slug="live")).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id=run_id, key="fails", status="completed").exists())
    return run_id


def test_a_live_page_is_sent_what_has_changed_and_leaves_the_reader_alone(
    page: Page, tenant: Organization, workers: WorkerPool  # noqa: F811
) -> None:  # fmt: skip
    run_id = live_run(tenant)
    log_in(page)
    page.goto(f"/runs/{run_id}/")
    big, fails = page.locator("#step-big"), page.locator("#step-fails")
    big.locator("summary").first.click()
    expect(big).to_contain_text("The first 200000 characters.")
    fails.locator("summary").first.click()
    fails.get_by_role("tab", name="Attempts").click()
    fails.get_by_text("traceback", exact=True).click()
    expect(fails.locator("td pre", has_text="ValueError: not yet")).to_be_visible()
    page.evaluate("""() => {
        const text = document.querySelector("#step-fails td b").firstChild;
        document.getSelection().setBaseAndExtent(text, 0, text, 3);
    }""")
    page.locator("#step-long > summary").focus()
    chosen = page.evaluate("() => document.getSelection().toString()")
    assert chosen
    received, began = Received(page), time.monotonic()
    expect(page.locator("#summary-nap .status")).to_have_text("completed", timeout=15_000)
    expect(page.locator("#summary-each")).to_contain_text("of 10", timeout=15_000)
    page.wait_for_timeout(WATCHED_S * 1_000)
    assert received.bytes > 0, "it is live"
    assert received.bytes < 50_000 * (time.monotonic() - began)
    assert page.evaluate("() => document.activeElement.parentElement.id") == "step-long"
    assert page.evaluate("() => document.getSelection().toString()") == chosen
    expect(fails.locator("td pre", has_text="ValueError: not yet")).to_be_visible()
    expect(big.locator("pre").first).to_be_visible()
    shoot(page, "run-live")
    confirm(page, "Cancel")
    expect(page.get_by_role("heading", name="live cancelled")).to_be_visible()


def test_the_page_of_a_run_hears_of_its_changes_without_a_poll(
    page: Page, tenant: Organization, workers: WorkerPool  # noqa: F811
) -> None:  # fmt: skip
    steps = [{"id": "nap", "type": "delay", "config": {"for": "5s"}}, {"id": "after", "type": "noop"}]
    run_id = services.trigger(tenant, publish(tenant, steps, slug="told")).run_ids[0]
    log_in(page)
    page.goto(f"/runs/{run_id}/")
    page.evaluate("() => { document.getElementById('run').dataset.live = 1e9; }")
    expect(page.locator("#summary-nap .status")).to_have_text("waiting")
    expect(page.locator("#summary-after .status")).to_have_text("completed", timeout=15_000)
    expect(page.get_by_role("heading", name="told completed")).to_be_visible()


def test_a_large_body_can_be_downloaded_whole(page: Page, tenant: Organization, workers: WorkerPool) -> None:  # noqa: F811
    run_id = live_run(tenant)
    log_in(page)
    page.goto(f"/runs/{run_id}/")
    page.locator("#step-big > summary").click()
    with page.expect_download() as download:
        page.locator("#step-big").get_by_role("link", name="Download").first.click()
    assert download.value.suggested_filename == f"{run_id}-big-output.json"
    assert download.value.path().stat().st_size > 2_000_000
    confirm(page, "Cancel")


def test_an_opened_step_that_goes_on_is_not_swapped_under_its_reader(
    page: Page, tenant: Organization, workers: WorkerPool  # noqa: F811
) -> None:  # fmt: skip
    steps = [{"id": "fails", "type": "data_transform", "config": FAILS, "retry": {"delay": "1h", "attempts": 3}},
             {"id": "long", "type": "delay", "config": {"for": "1h"}}]  # fmt: skip
    run_id = services.trigger(tenant, publish(tenant, steps, slug="goes-on")).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id=run_id, key="fails", status="waiting").exists())
    log_in(page)
    page.goto(f"/runs/{run_id}/")
    fails = page.locator("#step-fails")
    fails.locator("summary").first.click()
    fails.get_by_role("tab", name="Attempts").click()
    fails.get_by_text("traceback", exact=True).click()
    StepRun.objects.filter(run_id=run_id, key="fails").update(wake_at=timezone.now())
    expect(page.locator("#summary-fails .status")).to_have_text("completed", timeout=15_000)
    expect(fails.locator("td pre", has_text="ValueError: not yet")).to_be_visible()
    expect(fails.locator("tbody tr")).to_have_count(1)
    fails.get_by_role("button", name="show it as it is now").click()
    expect(fails.locator("tbody tr")).to_have_count(2)
    confirm(page, "Cancel")


def test_of_two_hundred_steps_only_those_that_change_are_sent(
    page: Page, tenant: Organization, workers: WorkerPool  # noqa: F811
) -> None:  # fmt: skip
    steps = [{"id": f"step-{number}", "type": "noop", "needs": ["nap"]} for number in range(200)]
    nap, long = (
        {"id": name, "type": "delay", "needs": [], "config": {"for": much}}
        for name, much in (("nap", "4s"), ("long", "1h"))
    )
    run_id = services.trigger(tenant, publish(tenant, [nap, long, *steps], slug="wide")).run_ids[0]
    log_in(page)
    page.goto(f"/runs/{run_id}/")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/parts/" in request.url else None)
    expect(page.locator("#summary-step-199 .status")).to_have_text("completed", timeout=15_000)
    expect(page.locator(".facts").first).to_contain_text("201 of 202")
    last = len(asked)
    page.wait_for_timeout(2_500)
    assert len(asked) == last, "nothing changes any more"
    confirm(page, "Cancel")


def test_a_page_whose_login_has_ended_asks_for_it(page: Page, tenant: Organization, workers: WorkerPool) -> None:  # noqa: F811
    run_id = live_run(tenant)
    log_in(page)
    page.goto(f"/runs/{run_id}/")
    expect(page.get_by_role("heading", name="live")).to_be_visible()
    page.route("**/api/stream*", lambda route: route.fulfill(status=204))  # a refused stream is an error of the console
    page.context.clear_cookies()
    expect(page).to_have_url(re.compile(rf"/login/\?next=/runs/{run_id}/"), timeout=10_000)
    services.cancel_run(tenant, run_id)


@pytest.mark.parametrize("width", [390, 360])
def test_every_page_fits_a_phone(page: Page, tenant: Organization, workers: WorkerPool, width: int) -> None:  # noqa: F811
    run_id = live_run(tenant)
    question = {"title": "Pay?", "message": "x" * 300, "details": {"a": "y" * 300}}
    slug = publish(tenant, [{"id": "ok", "type": "wait_for_approval", "config": question}],
                   slug="a-flow-with-a-rather-long-name", on=[{"cron": "0 3 * * *"}, {"event": "a/" + "long" * 15}])  # fmt: skip
    waits = services.trigger(tenant, slug).run_ids[0]
    step = await_that(lambda: StepRun.objects.filter(run_id=waits, status="waiting").first())
    log_in(page)
    page.set_viewport_size({"width": width, "height": 800})
    for path in ("/", "/flows/", "/flows/?archived=true", "/approvals/", f"/approvals/{step.id}/", f"/runs/{run_id}/",
                 f"/runs/{waits}/", "/test/", "/test/events/", "/operations/", "/design/", "/login/"):  # fmt: skip
        page.goto(path)
        expect(page.locator("h1")).to_be_visible()
        if path.startswith("/runs/"):
            for summary in page.locator("#steps > details > summary").all():
                summary.click()
            expect(page.locator("#steps .body hr-tabs").last).to_be_visible()
        wide = page.evaluate("() => document.documentElement.scrollWidth")
        shoot(page, f"phone-{path.strip('/').split('/')[0] or 'list'}")
        assert wide <= width, (path, wide)
    services.cancel_run(tenant, run_id)
    services.cancel_run(tenant, waits)


def napping(tenant: Organization) -> uuid.UUID:  # noqa: F811
    steps = [
        {"id": "nap", "type": "delay", "config": {"for": "6s"}},
        {"id": "long", "type": "delay", "config": {"for": "1h"}},
    ]
    run_id = services.trigger(tenant, publish(tenant, steps, slug="napping")).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id=run_id, key="nap", status="waiting").exists())
    return run_id


def test_a_run_that_goes_on_while_it_is_asked_about_is_cancelled(
    page: Page, tenant: Organization, workers: WorkerPool  # noqa: F811
) -> None:  # fmt: skip
    run_id = napping(tenant)
    log_in(page)
    page.goto(f"/runs/{run_id}/")
    page.get_by_role("button", name="Cancel", exact=True).click()
    await_that(lambda: StepRun.objects.filter(run_id=run_id, key="nap", status="completed").exists())
    with page.expect_response(re.compile(r"/parts/\?.*part=actions")) as parts:  # asked for just before, say
        page.evaluate("() => document.getElementById('run').dispatchEvent(new Event('refresh'))")
    parts.value.finished()
    page.locator("#confirm [data-yes]").click()
    expect(page.get_by_role("heading", name="napping cancelled")).to_be_visible()


def test_a_question_about_what_has_left_the_page_says_that_nothing_was_done(
    page: Page, tenant: Organization, workers: WorkerPool  # noqa: F811
) -> None:  # fmt: skip
    run_id = napping(tenant)
    log_in(page)
    page.goto(f"/runs/{run_id}/")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.evaluate("() => document.querySelector('form[action$=\"/cancel/\"]').remove()")
    page.locator("#confirm [data-yes]").click()
    expect(page.locator("#confirm")).to_contain_text("nothing was done")
    page.locator("#confirm [data-yes]").click()
    confirm(page, "Cancel")
    expect(page.get_by_role("heading", name="napping cancelled")).to_be_visible()
