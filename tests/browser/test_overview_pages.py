"""Overview, flows, events and schedules in a browser: both themes, two widths, and nothing refused or from outside."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from tests.browser.test_content_policy import WATCH, _only_here
from tests.browser.test_dashboard import browser, log_in, page, shoot, tenant  # noqa: F401  (fixtures)
from tests.support.workers import WorkerPool, await_end, await_that, publish
from workflows import services
from workflows.definitions.compiled import NIL_UUID
from workflows.models import CronFire, Event, Flow, MinuteCounts, Organization, Wait
from workflows.services import events


@pytest.fixture
def watched(page: Page, tenant: Organization) -> Page:  # noqa: F811
    """Logged in; an error of the console, a refused or failed request, or one to elsewhere fails the test."""
    page.add_init_script(WATCH)
    page.on("request", lambda request: _only_here(request.url))
    page.on("response", lambda response: _answered(response.status, response.url))
    log_in(page)
    return page


def _answered(status: int, url: str) -> None:
    assert status < 400 or "/login/" in url, (status, url)


@pytest.fixture
def measured(tenant: Organization) -> Iterator[None]:  # noqa: F811
    """Every minute of the last day, and every tenth of a week."""
    until = timezone.now().replace(second=0, microsecond=0)
    rows = []
    for number in (*range(1, 60 * 26), *range(60 * 26, 60 * 24 * 7, 10)):
        at = until - dt.timedelta(minutes=number)
        load = 20 + round(15 * math.sin(number / 40)) + number % 5
        failed = load // 4 if 200 < number < 260 or number < 12 else number % 11 // 10
        counts = {
            "completed": load, "failed": failed, "cancelled": number % 13 // 12, "tries": 4 * load,
            "retries": 3 * failed + number % 3, "waited_ms": 400 * load, "longest_wait_ms": 900 + 40 * (number % 60),
            "backlog": max(0, load - 20), "oldest_ms": 150 * (number % 90),
        }  # fmt: skip
        rows += [MinuteCounts(org_id=org_id, at=at, **counts) for org_id in (tenant.id, NIL_UUID)]
    MinuteCounts.objects.all().delete()
    MinuteCounts.objects.bulk_create(  # a worker that still leads may have counted the last minute by now
        rows, update_conflicts=True, unique_fields=["org_id", "at"], update_fields=[*counts]
    )
    yield
    MinuteCounts.objects.all().delete()


def look(page: Page, path: str, heading: str) -> None:  # noqa: F811
    """Show a page with its charts. (What it looks like in other themes and widths, the walk sees: test_every_page.)"""
    page.goto(path)
    expect(page.get_by_role("heading", name=heading).first).to_be_visible()
    page.wait_for_function(
        "() => [...document.querySelectorAll('hr-chart')].every((each) => each.querySelector('canvas'))"
    )


def test_the_overview_leads_to_the_runs_behind_a_point(
    watched: Page, tenant: Organization, measured: None, workers: WorkerPool  # noqa: F811
) -> None:  # fmt: skip
    slug = publish(tenant, [{"id": "a", "type": "noop"}], slug="seen")
    await_end(tenant, services.trigger(tenant, slug).run_ids[0])
    watched.goto("/")
    watched.get_by_role("link", name="Overview").click()
    expect(watched.locator("hr-chart canvas").first).to_be_visible()
    expect(watched.locator("#now .tiles")).to_contain_text("places in use")
    look(watched, "/overview/", "Overview")
    watched.clock.install()
    watched.goto("/overview/")
    chart = watched.locator("#chart-ended hr-chart")
    expect(chart.locator("canvas")).to_be_visible()
    before = chart.get_attribute("data-points") or ""
    MinuteCounts.objects.filter(at__gt=timezone.now() - dt.timedelta(minutes=30)).delete()
    watched.clock.fast_forward("01:01")
    expect(chart).not_to_have_attribute("data-points", before, timeout=15_000)  # the open page gets it by itself
    expect(chart.locator("canvas")).to_be_visible()
    watched.get_by_role("link", name="24 hours").click()
    expect(watched.locator("#chart-ended canvas")).to_be_visible()
    watched.locator("#chart-ended .u-over").click(position={"x": 200, "y": 60})
    expect(watched.get_by_role("heading", name="Runs that ended")).to_be_visible()
    watched.goto("/overview/")
    watched.locator("#chart-failed .peaks a").first.click()  # without a pointer
    expect(watched.get_by_role("heading", name="Runs that failed")).to_be_visible()
    expect(watched).to_have_url(re.compile("kind=failed"))
    shoot(watched, "behind-empty")


def test_an_overview_of_nothing_says_what_to_do(watched: Page) -> None:
    MinuteCounts.objects.all().delete()
    watched.goto("/overview/")
    expect(watched.get_by_text("Nothing ran here yet")).to_be_visible()
    shoot(watched, "overview-empty")


STEPS = [
    {"id": "validate-the-order", "type": "data_transform", "config": {"expression": "{'n': 1}"}},
    {"id": "reserve", "type": "noop"},
    {"id": "invoice", "type": "noop", "needs": ["validate-the-order"]},
    {"id": "each-line", "type": "map", "config": {"items": [1, 2]}, "needs": ["reserve"],
     "steps": [{"id": "pick", "type": "noop"}, {"id": "pack", "type": "noop"}]},
    {"id": "gift", "type": "noop", "if": "input.n > 100", "needs": ["reserve"]},
    {"id": "ship", "type": "noop", "needs": ["each-line", "invoice", "gift"]},
]  # fmt: skip
BREAKS = [{"id": "breaks", "type": "raises", "config": {"how": "unknown"}, "retry": {"attempts": 1}}]


@pytest.fixture
def shop(tenant: Organization, workers: WorkerPool) -> str:  # noqa: F811
    """A flow of two versions with triggers, and runs of it; and one that fails."""
    on = [{"event": "order/created"}, {"cron": "0 3 * * *", "timezone": "Europe/Berlin"},
          {"webhook": "none", "name": "shop.ordered"}]  # fmt: skip
    publish(tenant, STEPS[:-1], slug="checkout", on=on)
    publish(tenant, STEPS, slug="checkout", on=on)
    publish(tenant, BREAKS, slug="broken")
    for number in range(4):
        await_end(tenant, services.trigger(tenant, "checkout", {"n": 60 * number}).run_ids[0])
    await_end(tenant, services.trigger(tenant, "broken").run_ids[0])
    return "checkout"


def test_a_flow_is_read_stopped_and_archived(watched: Page, tenant: Organization, shop: str) -> None:  # noqa: F811
    look(watched, "/flows/", "Flows")
    watched.get_by_label("Search flows").fill("check")
    watched.keyboard.press("Enter")
    expect(watched.locator("tbody tr")).to_have_count(1)
    watched.get_by_role("link", name="checkout").click()
    expect(watched.locator(".drawing .node")).to_have_count(8)
    look(watched, "/flows/checkout/", "checkout active")
    for tab in ("definition", "versions", "triggers", "limits"):
        look(watched, f"/flows/checkout/?tab={tab}", "checkout active")
    watched.goto("/flows/checkout/?tab=versions")
    expect(watched.locator(".diff .added").first).to_contain_text("ship")
    watched.get_by_role("button", name="Pause or drain").click()
    watched.get_by_label("Reason").fill("stock is counted")
    watched.get_by_role("button", name="Drain", exact=True).click()
    expect(watched.locator("#messages")).to_contain_text("checkout drains")
    expect(watched.get_by_text("stock is counted")).to_be_visible()
    watched.get_by_role("button", name="Resume").click()
    watched.get_by_role("button", name="Yes, resume").click()
    expect(watched.get_by_role("heading", name="checkout active")).to_be_visible()
    watched.goto("/flows/broken/")
    watched.get_by_role("button", name="Archive").click()
    watched.get_by_role("button", name="Yes, archive").click()
    expect(watched.locator("#messages")).to_contain_text("open dead letters")  # and what to do with them
    watched.goto("/flows/checkout/?tab=triggers")
    row = watched.get_by_role("row").filter(has_text="0 3 * * *")
    row.get_by_role("button", name="Switch off").click()
    watched.get_by_role("button", name="Yes, switch off").click()
    expect(row).to_contain_text("off")
    watched.get_by_role("button", name="Delete").click()
    expect(watched.locator("#confirm")).to_contain_text("4 runs")
    watched.get_by_role("button", name="Yes, delete with all history").click()
    expect(watched.locator("#messages")).to_contain_text("checkout is")


def test_an_event_is_read_and_sent_again(watched: Page, tenant: Organization, workers: WorkerPool) -> None:  # noqa: F811
    publish(tenant, STEPS[:2], slug="hears", on=[{"event": "order/created", "if": "event.data.n > 1"}])
    events.put_schema(tenant, "order/strict", {"type": "object", "required": ["n"]})
    ids = services.send_events(
        tenant,
        [{"name": "order/created", "data": {"n": n, "lines": ["a", "b"]}} for n in (2, 1)] + [{"name": "none/x"}],
    )
    with pytest.raises(events.EventsRefused):
        services.send_events(tenant, {"name": "order/strict", "data": {}})
    await_that(lambda: not Event.objects.filter(org_id=tenant.id, matched_at=None).exists())
    look(watched, "/events/", "Events")
    services.send_events(tenant, {"name": "order/created", "data": {"n": 5}})
    watched.goto("/events/?cursor=")
    services.send_events(tenant, {"name": "order/created", "data": {"n": 6}})
    watched.get_by_role("link", name="Show 1 new event").click(timeout=15_000)
    look(watched, f"/events/{ids[1]}/", "order/created")
    expect(watched.get_by_text("its condition is false")).to_be_visible()
    watched.get_by_role("button", name="Send again").click()
    watched.get_by_role("button", name="Yes, send again").click()
    expect(watched.locator("#messages")).to_contain_text("Sent again")
    watched.goto("/events/schemas/")
    watched.get_by_role("link", name="New schema").click()
    watched.get_by_label("Event name").fill("order/paid")
    watched.get_by_role("button", name="Store").click()
    watched.get_by_role("button", name="Yes, store the schema").click()
    expect(watched.locator("#messages")).to_contain_text("must have this form")
    look(watched, "/events/schemas/?name=order/paid", "Event schemas")
    watched.goto("/events/schemas/?name=order/paid")
    watched.get_by_role("button", name="Delete").click()
    watched.get_by_role("button", name="Yes, delete the schema").click()
    expect(watched.locator("#messages")).to_contain_text("any form again")


def test_schedules_webhooks_and_approvals_are_read(
    watched: Page, tenant: Organization, workers: WorkerPool  # noqa: F811
) -> None:  # fmt: skip
    for path, name in (("/schedules/", "Schedules"), ("/webhooks/", "Webhooks"), ("/events/", "Events")):
        watched.goto(path)
        expect(watched.locator(".empty b")).to_be_visible()  # it says what to do next
        shoot(watched, f"{name.lower()}-empty")
    on = [{"cron": "*/5 * * * *", "timezone": "Europe/Berlin"}, {"webhook": "github", "secret": "GITHUB_SECRET"}]
    publish(tenant, STEPS[:2], slug="nightly", on=on)
    flow = Flow.objects.get(organization=tenant, slug="nightly")
    for number, outcome in enumerate(["started", "missed", "skipped"]):
        CronFire.objects.create(
            org_id=tenant.id, flow=flow, schedule="*/5 * * * * Europe/Berlin", outcome=outcome,
            fire_at=timezone.now() - dt.timedelta(minutes=5 * number + 30),
        )  # fmt: skip
    look(watched, "/schedules/", "Schedules")
    look(watched, "/webhooks/", "Webhooks")
    watched.goto("/schedules/")
    watched.get_by_role("button", name="Switch off").click()
    watched.get_by_role("button", name="Yes, switch off").click()
    expect(watched.locator("tbody tr")).to_contain_text("off")
    asks = {"title": "Pay 500?", "message": "The refund is large.", "timeout": "2d"}
    publish(tenant, [{"id": "ok", "type": "wait_for_approval", "config": asks}], slug="pays")
    run_id = services.trigger(tenant, "pays").run_ids[0]
    await_that(lambda: Wait.objects.filter(run_id=run_id).exists(), what="the approval")
    look(watched, "/approvals/", "Approvals")
