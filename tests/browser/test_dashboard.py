"""The dashboard in a real browser: log in, find a run, read its waterfall, watch it live."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client
from playwright.sync_api import Page, expect, sync_playwright

from tests.support.workers import WorkerPool, await_end, await_that, leave_nothing, publish
from workflows import services
from workflows.models import Organization, Wait

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
"""The shell is the same browser without windows, which takes a third less of a processor."""
SHOTS = Path(__file__).parents[2] / "var" / "screenshots"
"""Of all lanes: CI keeps it."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing in CI: .ci/run installs Debian's.")
        pytest.skip("no Chromium; `apt-get install chromium-headless-shell`")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Page]:
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on(
        "console",
        lambda message: errors.append(f"{message.text} {message.location}") if message.type == "error" else None,
    )
    yield opened
    context.close()
    assert errors == []


@pytest.fixture
def tenant(live_db: None) -> Iterator[Organization]:
    """The organization that the dashboard shows: the oldest."""
    made = Organization.objects.create(slug=f"first-{uuid.uuid4().hex[:6]}", name="First")
    Organization.objects.filter(id=made.id).update(created_at="2000-01-01T00:00:00Z")
    yield made
    Organization.objects.filter(id=made.id).update(created_at="2100-01-01T00:00:00Z")
    leave_nothing(made)


def log_in(page: Page) -> None:
    """Show the dashboard to a superuser. (That people log in by the form is tested once.)"""
    user = get_user_model().objects.create_superuser(f"user-{uuid.uuid4().hex[:6]}")
    client = Client()
    client.force_login(user)
    value = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.goto("/healthz")  # whichever server the tests of the page have
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": value, "url": page.url}])
    page.goto("/")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()


def choose_organization(page: Page, slug: str) -> None:
    """In the header: from a list, or by its name where there are too many for one."""
    field = page.get_by_label("Organization", exact=True)
    if field.evaluate("(field) => field.tagName") == "SELECT":
        field.select_option(slug)
    else:
        field.fill(slug)


def confirm(page: Page, name: str) -> None:
    """Press a button that asks first, and say yes."""
    page.get_by_role("button", name=name, exact=True).first.click()
    page.locator("#confirm [data-yes]").click()


def shoot(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


FAILING = "if attempt < 3:\n    raise ValueError('not yet <b>' + str(attempt))\nreturn {'ok': True}"
WATERFALL = [
    {"id": "prepare", "type": "data_transform", "config": {"expression": "{'n': input.n}"}},
    {
        "id": "unsteady",
        "type": "data_transform",
        "retry": {"delay": "300ms", "attempts": 5},
        "config": {"script": FAILING},
    },
    {"id": "nap", "type": "delay", "config": {"for": "400ms"}},
    {"id": "skipped", "type": "noop", "if": "input.n > 100"},
    {
        "id": "broken",
        "type": "data_transform",
        "needs": ["nap"],
        "retry": {"attempts": 1},
        "config": {"script": "1/0"},
    },
]


def test_people_log_in_by_the_form(page: Page, tenant: Organization) -> None:
    name = f"user-{uuid.uuid4().hex[:6]}"
    get_user_model().objects.create_superuser(name, password="correct horse")
    page.goto("/")
    expect(page).to_have_url(re.compile(r"/login/\?next=/"))
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator(".errorlist")).to_contain_text("correct username and password")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()


def test_a_run_is_found_and_read(page: Page, tenant: Organization, workers: WorkerPool) -> None:
    slug = publish(
        tenant,
        WATERFALL,
        slug="waterfall",
    )
    run_id = services.trigger(tenant, slug, {"n": 7}).run_ids[0]
    publish(tenant, [{"id": "a", "type": "noop"}], slug="other")
    await_end(tenant, services.trigger(tenant, "other").run_ids[0])
    await_end(tenant, run_id)
    log_in(page)
    expect(page.locator("tbody tr")).to_have_count(2)
    shoot(page, "runs")
    page.locator("#more-filters > summary").click()
    page.locator("select[name=flow]").select_option("waterfall")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("Until", exact=True).fill("2020-01-01T00:00")
    page.get_by_label("Until", exact=True).dispatch_event("change")
    expect(page.locator("tbody tr")).to_have_count(0)
    page.get_by_label("Until", exact=True).fill("")
    page.get_by_label("Until", exact=True).dispatch_event("change")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("select[name=status]").select_option("failed")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile("status=failed"))
    page.keyboard.press("Escape")
    page.locator("tbody a").click()
    expect(page.get_by_role("heading", name="waterfall failed")).to_be_visible()
    expect(page.locator("#run-problem")).to_contain_text("ZeroDivisionError")
    expect(page.locator(".track .bar.failed")).to_have_count(3)
    expect(page.locator(".track .bar.retry-wait")).not_to_have_count(0)
    assert_bars_are_within_their_tracks(page)
    page.locator("#step-unsteady > summary").click()
    opened = page.locator("#step-unsteady")
    expect(opened).to_contain_text("not yet <b>1")
    expect(opened.locator("tbody tr")).to_have_count(3)
    expect(opened).to_contain_text('"ok": true')
    shoot(page, "run")


def assert_bars_are_within_their_tracks(page: Page) -> None:
    for track in page.locator(".track").all():
        outer = track.bounding_box()
        assert outer is not None
        for bar in track.locator(".bar").all():
            inner = bar.bounding_box()
            assert inner is not None
            assert inner["width"] > 0
            assert outer["x"] - 1 <= inner["x"]
            assert inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 1


def test_a_run_is_live_while_it_runs_and_can_be_cancelled(
    page: Page, tenant: Organization, workers: WorkerPool
) -> None:
    slug = publish(
        tenant,
        [
            {"id": "nap", "type": "delay", "config": {"for": "2s"}},
            {"id": "long", "type": "delay", "config": {"for": "1h"}},
        ],
    )
    run_id = services.trigger(tenant, slug).run_ids[0]
    log_in(page)
    page.goto(f"/runs/{run_id}/")
    expect(page.get_by_role("heading", name="flow waiting")).to_be_visible()
    page.locator("#step-nap > summary").click()
    expect(page.locator("#step-nap .status").first).to_have_text("completed", timeout=10_000)
    expect(page.locator("#step-nap")).to_have_attribute("open", "")
    expect(page.locator(".track .bar.sleep")).to_have_count(2)
    shoot(page, "live")
    confirm(page, "Cancel")
    expect(page.get_by_role("heading", name="flow cancelled")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def test_the_admin_publishes_a_definition_and_shows_executions_read_only(
    page: Page, tenant: Organization, workers: WorkerPool
) -> None:
    log_in(page)
    page.goto("/admin/headrace_workflows/flow/add/")
    chosen = page.get_by_label("Organization")
    if chosen.evaluate("(field) => field.tagName") == "SELECT":
        chosen.select_option(label=tenant.slug)
    else:  # there are too many to choose from
        chosen.fill(str(tenant.id))
    page.locator("textarea").fill("flow: made-here\nsteps: [{id: a, type: noop, neds: []}]")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".errorlist").first).to_contain_text("did you mean 'needs'")
    page.locator("textarea").fill("flow: made-here\nsteps: [{id: a, type: noop, config: {output: 1}}]")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist").first).to_contain_text("Version 1 is published")
    run_id = services.trigger(tenant, "made-here").run_ids[0]
    await_end(tenant, run_id)
    page.goto(f"/admin/headrace_workflows/run/{run_id}/change/")
    expect(page.locator("#content")).to_contain_text("completed")
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    shoot(page, "admin")


@pytest.mark.parametrize(
    "model",
    [
        "organization",
        "accesskey",
        "secret",
        "flow",
        "flowversion",
        "step",
        "trigger",
        "run",
        "steprun",
        "attempt",
        "event",
        "worker",
        "leaderlease",
    ],
)
def test_every_admin_list_opens(admin_pages: Any, model: str) -> None:
    assert admin_pages.get(f"/admin/headrace_workflows/{model}/").status_code == 200


@pytest.fixture(scope="module")
def admin_pages(live_db: None) -> Any:
    from django.test import Client

    client = Client()
    client.force_login(get_user_model().objects.create_superuser(f"a-{uuid.uuid4().hex[:6]}", password="x"))
    return client


def test_a_failed_run_is_resumed(page: Page, tenant: Organization, workers: WorkerPool) -> None:
    steps = [
        {"id": "done", "type": "noop"},
        {
            "id": "breaks",
            "type": "raises",
            "config": {"how": "unknown", "logs": 3, "say": "<b>hm"},
            "retry": {"attempts": 1},
        },
        {"id": "never", "type": "noop"},
    ]
    run_id = services.trigger(tenant, publish(tenant, steps, slug="broken")).run_ids[0]
    await_end(tenant, run_id)
    log_in(page)
    page.goto(f"/runs/{run_id}/")
    expect(page.locator("#step-breaks")).to_have_attribute("open", "")  # what failed is opened
    page.locator("#step-breaks").get_by_role("tab", name="Logs 3").click()
    expect(page.locator("#step-breaks")).to_contain_text("line number=0 said='<b>hm'")
    shoot(page, "run-failed")
    confirm(page, "Resume")
    expect(page.locator("#step-done")).to_contain_text("taken over")
    expect(page.locator("#run-facts")).to_contain_text("resume of")
    expect(page.locator(f"#run-facts a[href='/runs/{run_id}/']")).to_be_visible()
    expect(page.get_by_role("heading", name="broken")).to_contain_text("failed", timeout=15_000)
    shoot(page, "run-resumed")
    page.goto(f"/runs/{run_id}/")
    expect(page.locator("#run-facts dt", has_text=re.compile("^resume$"))).to_be_visible()
    page.get_by_text("Repair once more").click()
    page.get_by_role("button", name="replay once more").click()
    expect(page.locator("#run-facts")).to_contain_text("replay of")
    expect(page.locator(f"#run-facts a[href='/runs/{run_id}/']")).to_be_visible()


def test_a_flow_is_paused_and_resumed_and_shows_when_it_fires_next(
    page: Page, tenant: Organization, workers: WorkerPool
) -> None:
    publish(tenant, [{"id": "a", "type": "noop"}], on=[{"cron": "0 3 * * *", "timezone": "Europe/Berlin"}])
    log_in(page)
    page.get_by_role("link", name="Flows").click()
    row = page.get_by_role("row").filter(has_text="0 3 * * *")
    expect(row.locator("td").nth(3).locator("time")).to_have_attribute("datetime", re.compile(r"T0[12]:00:00"))
    row.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Yes, pause").click()
    expect(row).to_contain_text("paused")
    expect(page.locator("#messages")).to_contain_text("no other step starts")
    row.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Yes, resume").click()
    expect(row).to_contain_text("active")


def test_an_approval_is_given_on_its_page(page: Page, tenant: Organization, workers: WorkerPool) -> None:
    config = {"title": "Pay 500?", "message": "The refund is large.", "details": {"amount": 500}}
    steps = [{"id": "ok", "type": "wait_for_approval", "config": config}, {"id": "after", "type": "noop"}]
    run_id = services.trigger(tenant, publish(tenant, steps)).run_ids[0]
    await_that(lambda: Wait.objects.filter(run_id=run_id).exists(), what="the approval")
    log_in(page)
    page.get_by_role("link", name="Approvals").click()
    page.get_by_role("link", name="Pay 500?").click()
    expect(page.get_by_text('"amount": 500')).to_be_visible()
    page.get_by_label("Comment").fill("as agreed")
    shoot(page, "approval")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Nothing waits for a decision")).to_be_visible()
    output = await_end(tenant, run_id).steps[0].step_run.output
    assert (output["approved"], output["comment"], bool(output["by"])) == (True, "as agreed", True)


def test_a_map_shows_its_progress(page: Page, tenant: Organization, workers: WorkerPool) -> None:
    nap = {"id": "nap", "type": "delay", "config": {"for": "2s"}}
    steps = [{"id": "all", "type": "map", "config": {"items": [1, 2, 3, 4], "parallelism": 1}, "steps": [nap]}]
    log_in(page)  # it may take longer than the run
    run_id = services.trigger(tenant, publish(tenant, steps)).run_ids[0]
    page.goto(f"/runs/{run_id}/")
    expect(page.get_by_text(re.compile("[123] of 4"))).to_be_visible(timeout=15_000)
    shoot(page, "map")
    await_end(tenant, run_id)
