"""Each action on runs in a browser: no error, nothing from outside, and the keyboard reaches it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_content_policy import _only_here
from tests.browser.test_dashboard import browser, confirm, log_in, page, tenant  # noqa: F401  (fixtures)
from tests.support.workers import WorkerPool, await_end, await_that, publish
from workflows import services
from workflows.models import Organization, StepRun

SCHEMA = {
    "type": "object",
    "required": ["orderId"],
    "properties": {
        "orderId": {"type": "string", "title": "Order"},
        "express": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "size": {"enum": ["small", "large"]},
        "to": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
FAILS = [
    {"id": "first", "type": "data_transform", "config": {"expression": "{'order': input.orderId}"}},
    {"id": "breaks", "type": "data_transform", "retry": {"attempts": 1}, "config": {"script": "return 1 / 0"}},
    {"id": "last", "type": "noop"},
]
WAITS = [
    {"id": "each", "type": "map", "config": {"items": [1, 2, 3]}, "steps": [{"id": "one", "type": "noop"}]},
    {"id": "ok", "type": "wait_for_approval", "config": {"title": "Ship it?", "timeout": "2h"}},
]


@pytest.fixture
def walker(page: Page, tenant: Organization) -> Iterator[Page]:  # noqa: F811
    """Logged in; a failed request, one to another host, or an error of the console fails the test."""
    failed: list[str] = []
    page.on("request", lambda request: _only_here(request.url))
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 500 else None)
    log_in(page)
    yield page
    assert failed == []


def runs_of(tenant: Organization) -> tuple[uuid.UUID, uuid.UUID]:  # noqa: F811
    """One that failed, and one that waits for an approval."""
    failed = services.trigger(
        tenant, publish(tenant, FAILS, slug="walked", input_schema=SCHEMA), {"orderId": "A-1"}
    ).run_ids[0]
    await_end(tenant, failed)
    waits = services.trigger(tenant, publish(tenant, WAITS, slug="asks")).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id=waits, waiting_for="approval").exists(), what="the approval")
    return failed, waits


def test_a_failed_run_is_understood_forked_with_another_input_and_compared(
    walker: Page, tenant: Organization, workers: WorkerPool  # noqa: F811
) -> None:  # fmt: skip
    failed, waits = runs_of(tenant)
    services.cancel_run(tenant, waits)
    walker.goto(f"/runs/{failed}/")
    step = walker.locator("#step-breaks")
    expect(step.get_by_role("tab", name="Error")).to_have_attribute("aria-selected", "true")
    expect(step.get_by_role("link", name="Its dead letter")).to_be_visible()
    step.get_by_role("tab", name="Limits").click()
    expect(step).to_contain_text("Does not wait: it is failed")
    walker.get_by_role("tab", name="Graph").click()
    walker.get_by_role("link", name="breaks: failed").click()
    expect(step).to_be_visible()
    walker.get_by_role("tab", name="History").click()
    expect(walker.locator("ol.history")).to_contain_text("became a dead letter")
    walker.get_by_role("tab", name="Steps", exact=True).click()
    walker.get_by_role("button", name="Zoom in").click()
    walker.get_by_label("Hide idle time").check()
    assert walker.locator("#axis .tick").count() > 0
    walker.get_by_role("link", name="Edit or fork").click()
    walker.get_by_label("Fork from a step").check()
    walker.get_by_label("Order").fill("B-2")
    walker.get_by_role("button", name="Preview").click()
    expect(walker.locator(".diff .added")).to_contain_text("B-2")
    walker.get_by_role("button", name="Make this run").click()
    expect(walker.locator("#messages")).to_contain_text("This is the new run")
    expect(walker.locator("#run-facts")).to_contain_text("fork of")
    with walker.expect_download() as download:
        walker.get_by_label("More").click()
        walker.get_by_role("link", name="Download as JSON").click()
    assert download.value.suggested_filename.endswith(".json")


def test_a_flow_is_tried_from_its_form_and_followed(
    walker: Page, tenant: Organization, workers: WorkerPool  # noqa: F811
) -> None:  # fmt: skip
    steps = [{"id": "a", "type": "data_transform", "config": {"expression": "input"}}]
    publish(tenant, steps, slug="tried", input_schema=SCHEMA, on=[{"event": "tried/now"}])
    walker.goto("/test/?flow=tried")
    walker.get_by_label("Order").fill("C-3")
    walker.get_by_label("express").select_option("true")
    walker.get_by_role("button", name="Add to tags").click()
    walker.locator(".schema-row input").fill("blue")
    walker.get_by_label("city").fill("Bern")
    expect(walker.locator("#line-curl pre")).to_contain_text('"orderId":"C-3"')
    walker.get_by_role("tab", name="Python").click()
    expect(walker.locator("#line-python pre")).to_contain_text('"express": True')
    walker.get_by_role("button", name="JSON").click()
    expect(walker.get_by_label("Input as JSON")).to_have_value(re.compile('"blue"'))
    walker.get_by_role("button", name="Run tried").click()
    expect(walker.get_by_role("heading", name="tried completed")).to_be_visible(timeout=15_000)
    expect(walker.locator("#run-input")).to_contain_text("Bern")
    walker.goto("/test/?flow=tried")
    expect(walker.get_by_label("Order")).to_have_value("C-3")
    walker.goto("/test/events/")
    walker.get_by_role("button", name="tried/now").click()
    walker.get_by_role("button", name="Send", exact=True).click()
    expect(walker.locator("#sent .status")).to_have_text("completed", timeout=15_000)


def test_runs_are_searched_chosen_repaired_and_saved_as_a_view(
    walker: Page, tenant: Organization, workers: WorkerPool  # noqa: F811
) -> None:  # fmt: skip
    _, waits = runs_of(tenant)
    walker.goto("/")
    walker.keyboard.press("/")
    walker.keyboard.type("status:failed division")
    walker.keyboard.press("Enter")
    expect(walker.locator(".chip").first).to_contain_text("failed")
    expect(walker.locator("tbody tr")).to_have_count(1)
    walker.locator("summary", has_text="Views").click()
    walker.get_by_label("Name of this view").fill("Divided")
    walker.get_by_role("button", name="Save").click()
    expect(walker.locator("#messages")).to_contain_text("The view Divided is saved")
    walker.locator("tbody input[name=run]").check()
    confirm(walker, "Replay")
    expect(walker.locator("#messages")).to_contain_text("1 run is replayed.")
    walker.goto("/?flow=asks")
    walker.locator("summary", has_text="All that match").click()
    walker.get_by_role("link", name="Cancel all that match").click()
    walker.get_by_role("button", name="Cancel 1 run").click()
    expect(walker.locator("#operation .status").first).to_have_text("completed", timeout=20_000)
    walker.goto(f"/runs/{waits}/")
    expect(walker.get_by_role("heading", name="asks cancelled")).to_be_visible()


def test_the_list_moves_by_itself_but_never_under_a_pointer(
    walker: Page, tenant: Organization, workers: WorkerPool  # noqa: F811
) -> None:  # fmt: skip
    slug = publish(tenant, [{"id": "a", "type": "noop"}], slug="moves")
    await_end(tenant, services.trigger(tenant, slug).run_ids[0])
    walker.goto("/")
    walker.mouse.move(5, 5)
    expect(walker.locator("tbody tr")).to_have_count(1)
    await_end(tenant, services.trigger(tenant, slug).run_ids[0])
    expect(walker.locator("tbody tr")).to_have_count(2, timeout=15_000)
    walker.locator("tbody tr").first.hover()
    newest = services.trigger(tenant, slug).run_ids[0]
    expect(walker.get_by_role("button", name="1 new")).to_be_visible(timeout=15_000)
    expect(walker.locator("tbody tr")).to_have_count(2)
    walker.get_by_role("button", name="1 new").click()
    expect(walker.locator("tbody tr")).to_have_count(3)
    expect(walker.locator("tbody tr").first).to_have_id(f"run-{newest}")


def test_the_keyboard_alone_reaches_a_run_and_its_panels(
    walker: Page, tenant: Organization, workers: WorkerPool  # noqa: F811
) -> None:  # fmt: skip
    failed, waits = runs_of(tenant)
    services.cancel_run(tenant, waits)
    walker.goto("/?status=failed")
    walker.keyboard.press("?")
    expect(walker.get_by_role("dialog")).to_contain_text("down and up through the rows")
    walker.keyboard.press("Escape")
    walker.keyboard.press("j")
    walker.keyboard.press("x")
    expect(walker.locator("tbody tr[aria-selected=true]")).to_have_count(1)
    walker.keyboard.press("Enter")
    expect(walker).to_have_url(re.compile(f"/runs/{failed}/"))
    expect(walker.locator("#step-breaks hr-tabs")).to_be_visible()
    walker.locator("#step-breaks > summary").focus()
    walker.keyboard.press("Tab")
    assert walker.evaluate("() => document.activeElement.textContent.trim()") == "Error"
    walker.keyboard.press("ArrowRight")
    assert walker.evaluate("() => document.activeElement.getAttribute('aria-selected')") == "true"
    walker.keyboard.press("g")
    walker.keyboard.press("r")
    expect(walker.get_by_role("heading", name="Runs", exact=True)).to_be_visible()


def test_the_theme_is_the_systems_until_it_is_chosen(walker: Page) -> None:
    ground = "() => getComputedStyle(document.body).backgroundColor"
    walker.emulate_media(color_scheme="dark")
    dark = walker.evaluate(ground)
    walker.emulate_media(color_scheme="light")
    assert walker.evaluate(ground) != dark
    switch = walker.get_by_role("button", name=re.compile("^Theme"))
    switch.click()
    switch.click()
    expect(switch).to_have_attribute("aria-label", "Theme: dark")
    walker.reload()
    assert walker.evaluate(ground) == dark
    walker.set_viewport_size({"width": 360, "height": 800})
    expect(walker.get_by_role("link", name="Approvals")).not_to_be_visible()
    walker.get_by_role("button", name="Menu").click()
    expect(walker.get_by_role("link", name="Approvals")).to_be_visible()
