"""Every page in both themes and two widths: no error, nothing from outside, nothing serious that axe finds; a picture."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page, expect

from dlq import services as letters
from dlq.models import Alert, AlertChannel, AlertRule, DeadLetter
from tests.browser.test_content_policy import WATCH, _only_here
from tests.browser.test_dashboard import browser, page, shoot, tenant  # noqa: F401  (fixtures)
from tests.browser.test_overview_pages import measured  # noqa: F401  (a fixture)
from tests.support.pages.walked import PAGES, Shown
from tests.support.workers import WorkerPool, await_end, await_that, leave_nothing, publish
from workflows import services
from workflows.models import BulkOperation, CronFire, Event, Flow, Organization, StepRun
from workflows.services import bulk, events
from workflows.services.own import views

AXE = (Path(__file__).parents[1] / "node" / "axe-4.14.min.js").read_text(encoding="utf-8")
RULES = {
    "light": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
    "dark": ["color-contrast", "link-in-text-block"],
}
"""By theme: what axe looks for. But for the colours, the page is the same in the other theme."""
SCHEMA = {
    "type": "object",
    "required": ["orderId"],
    "properties": {
        "orderId": {"type": "string", "title": "Order"},
        "n": {"type": "integer"},
        "express": {"type": "boolean"},
        "lines": {"type": "array", "items": {"type": "string"}},
        "size": {"enum": ["small", "large"]},
        "to": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
WALKED = [
    {"id": "first", "type": "data_transform", "config": {"expression": "{'order': input.orderId}"}},
    {"id": "nap", "type": "delay", "config": {"for": "200ms"}},
    {"id": "divides", "type": "data_transform", "retry": {"attempts": 2, "delay": "100ms"},
     "config": {"expression": "10 / input.n"}},
    {"id": "skipped", "type": "noop", "if": "input.n > 100", "needs": ["first"]},
    {"id": "last", "type": "noop", "needs": ["divides", "skipped"]},
]  # fmt: skip
ASKS = [
    {"id": "each-line", "type": "map", "config": {"items": [1, 2, 3]}, "steps": [{"id": "one", "type": "noop"}]},
    {"id": "ok", "type": "wait_for_approval", "config": {"title": "Ship it?", "message": "To Bern.", "timeout": "2h"}},
]
CALLS = [
    {"id": "call-bank", "type": "delay", "config": {"for": "1h"},
     "throttling": {"concurrency": 1, "rate": {"limit": 1, "period": "1h"}}},
    {"id": "book", "type": "noop"},
]  # fmt: skip
ON = [
    {"event": "order/created", "if": "event.data.n > 1"},
    {"cron": "0 3 * * *", "timezone": "Europe/Berlin"},
    {"webhook": "none", "name": "shop.ordered"},
]


@pytest.fixture
def places(tenant: Organization, workers: WorkerPool, measured: None) -> Iterator[dict[str, str]]:  # noqa: F811
    """One of everything, and the ids by which its pages are found."""
    found = {**_runs(tenant), **_events(tenant), **_letters(tenant)}
    _schedules_and_alerts(tenant)
    now, hour = timezone.now(), dt.timedelta(hours=1)
    yield found | {"hour_ago": f"{now - hour:%Y-%m-%dT%H:%M:%SZ}", "hour_on": f"{now + hour:%Y-%m-%dT%H:%M:%SZ}"}
    leave_nothing(tenant)


def _runs(tenant: Organization) -> dict[str, str]:  # noqa: F811
    publish(tenant, WALKED, slug="walked", input_schema=SCHEMA, tags=["nightly", "plan:${ input.size }"])
    for n, words in ((5, ["eu"]), (0, ["eu", "customer:a-very-long-name-of-a-customer-in-bern"]), (0, [])):
        given = {"orderId": f"A-{n}", "n": n, "size": "large"}
        failed = services.trigger(tenant, "walked", given, tags=words, user_id="anna").run_ids[0]
        await_end(tenant, failed)
    waits = services.trigger(tenant, publish(tenant, ASKS, slug="asks")).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id=waits, waiting_for="approval").exists(), what="the approval")
    approval = StepRun.objects.get(run_id=waits, waiting_for="approval").id
    publish(tenant, CALLS, slug="transfer", concurrency=[{"limit": 2}])
    limited = [services.trigger(tenant, "transfer", {"number": n}).run_ids[0] for n in range(3)][-1]
    stopped = bulk.start(
        tenant, "replay_runs", {"status": "failed"}, by="anna", options={"mode": "start"}, per_second=0.1
    )
    bulk.stop(tenant, stopped.id, by="anna")
    problems = [{"id": str(failed), "reason": "The run was repaired already."}]
    BulkOperation.objects.filter(id=stopped.id).update(done=1, passed_over=1, problems=problems)
    return {
        "failed": str(failed), "waits": str(waits), "approval": str(approval), "limited": str(limited),
        "operation": str(stopped.id),
    }  # fmt: skip


def _events(tenant: Organization) -> dict[str, str]:  # noqa: F811
    publish(tenant, WALKED[:2], slug="checkout", on=ON)
    publish(tenant, WALKED, slug="checkout", on=ON, description="Takes an order, and ships it.")
    events.put_schema(tenant, "order/strict", {"type": "object", "required": ["n"]})
    sent = services.send_events(
        tenant,
        [{"name": "order/created", "data": {"n": n, "orderId": "B"}} for n in (2, 1)] + [{"name": "none/x"}],
    )
    with pytest.raises(events.EventsRefused):
        services.send_events(tenant, {"name": "order/strict", "data": {}})
    await_that(lambda: not Event.objects.filter(org_id=tenant.id, matched_at=None).exists(), what="the matching")
    return {"event": str(sent[0]), "unheard": str(sent[2])}


def _letters(tenant: Organization) -> dict[str, str]:  # noqa: F811
    letter = DeadLetter.objects.filter(org_id=tenant.id).order_by("id").first()
    assert letter is not None
    letters.assign(tenant, letter.group_id, to="anna", by="anna")
    letters.comment(tenant, letter.group_id, text="They say that it is over.", by="anna")
    begun = bulk.start(
        tenant,
        "ignore_dead_letters",
        {"search": "nothing such"},
        by="anna",
        options={"reason": "a test"},
        per_second=0.1,
    )
    bulk.stop(tenant, begun.id, by="anna")
    return {"letter": str(letter.id), "cause": str(letter.group_id), "letters_operation": str(begun.id)}


def _schedules_and_alerts(tenant: Organization) -> None:  # noqa: F811
    flow, now = Flow.objects.get(organization=tenant, slug="checkout"), timezone.now()
    for number, outcome in enumerate(["started", "missed", "skipped"]):
        at = now - dt.timedelta(days=number, minutes=30)
        CronFire.objects.create(
            org_id=tenant.id, flow=flow, schedule="0 3 * * * Europe/Berlin", outcome=outcome, fire_at=at
        )
    name = f"slow-{uuid.uuid4().hex[:6]}"
    rule = AlertRule.objects.create(name=name, metric="processing_time", threshold=60, org_id=tenant.id)
    channel = AlertChannel(name=f"chat-{uuid.uuid4().hex[:6]}", org_id=tenant.id)
    channel.url = "json://localhost:1/"
    channel.save()
    Alert.objects.create(
        org_id=tenant.id, rule=rule, severity="critical", fired_at=now, seen_at=now,
        title=f"{name}: runs take 75.0 s", message="An average run takes longer than 60 s.",
    )  # fmt: skip


@pytest.fixture
def walker(page: Page, tenant: Organization) -> Iterator[Page]:  # noqa: F811
    """A page; a refused or failed request, one to another host, or an error of the console fails the test."""
    failed: list[tuple[int, str]] = []
    page.add_init_script(WATCH)
    page.on("request", lambda request: _only_here(request.url))
    page.on("response", lambda answer: failed.append((answer.status, answer.url)) if answer.status >= 400 else None)
    yield page
    assert failed == []


def log_in(page: Page, tenant: Organization, address: str) -> None:  # noqa: F811
    """As somebody who may do everything and has saved a view."""
    user = get_user_model().objects.create_superuser(f"anna-{uuid.uuid4().hex[:6]}", password="x")
    views.save(tenant, user.pk, "Failed at night", "status=failed&tag=nightly")
    client = Client()
    client.force_login(user)
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": address}])


def show(page: Page, shown: Shown, places: dict[str, str]) -> None:  # noqa: F811
    """Go to a page, and open on it what is to be looked at, too."""
    page.emulate_media(color_scheme="light")
    page.goto(shown.path.format_map(places))
    expect(page.locator("h1").first).to_be_visible()
    for selector in shown.opens:
        page.locator(selector).first.click()
    page.wait_for_load_state("load")
    page.wait_for_function(
        "() => !document.querySelector('.htmx-request')"
        " && [...document.querySelectorAll('hr-chart')].every((each) => each.querySelector('canvas'))"
    )
    page.evaluate(AXE)


def look(page: Page, name: str, width: int, theme: Any) -> list[Any]:  # noqa: F811
    """Keep the picture of the page in a theme. Returns what axe finds (in the dark: of its colours), and whether it is
    wider than the window."""
    page.emulate_media(color_scheme=theme)
    shoot(page, f"{name}-{theme}-{width}")
    found: list[Any] = page.evaluate(
        "async (only) => (await axe.run(document, {runOnly: only})).violations"
        ".filter((each) => ['serious', 'critical'].includes(each.impact))"
        ".map((each) => [each.id, each.nodes.slice(0, 3).map((node) => [node.target.join(' '), node.failureSummary])])",
        RULES[theme],
    )
    wide = page.evaluate("() => document.documentElement.scrollWidth")
    return [*found, *([f"{wide} wide"] if wide > width else [])]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("width", [1280, 360])
def test_every_page_is_sound(
    walker: Page, tenant: Organization, places: dict[str, str], address: str, width: int  # noqa: F811
) -> None:  # fmt: skip
    walker.set_viewport_size({"width": width, "height": 900})
    wrong: dict[str, Any] = {}
    for name, shown in PAGES.items():  # the page of the login is the first
        if name == "overview":
            log_in(walker, tenant, address)
            walker.goto("/limits/")
            places["limit"] = walker.locator("a[href*='/limits/one/']").first.get_attribute("href") or ""
        show(walker, shown, places)
        found = {theme: look(walker, name, width, theme) for theme in RULES}
        wrong |= {name: found} if any(found.values()) else {}
    assert not wrong, json.dumps(wrong, indent=1)
