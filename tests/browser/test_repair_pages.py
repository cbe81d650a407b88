"""The pages of failure and control in a browser: in both themes and two widths, and each action by its buttons."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page, Request, Response, expect

from dlq import services as dlq
from dlq.models import DeadLetter
from tests.browser.test_dashboard import browser, page, shoot, tenant  # noqa: F401  (fixtures)
from tests.support.workers import WorkerPool, await_end, await_that, publish
from workflows import services
from workflows.models import Organization

WIDTHS = (1280, 360)
THEMES: tuple[Any, ...] = ("light", "dark")
HERE = re.compile(r"(http://localhost[:/]|http://127\.0\.0\.1[:/]|data:|blob:)")


@pytest.fixture
def seen(page: Page, tenant: Organization, address: str) -> Iterator[Page]:  # noqa: F811
    """A page of an operator that is logged in; it fails on an error in the console, a failed or foreign request."""
    user = get_user_model().objects.create_superuser(f"ana-{uuid.uuid4().hex[:6]}", password="x")
    client = Client()
    client.force_login(user)
    cookie = client.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": address}])
    problems: list[str] = []

    def sent(request: Request) -> None:
        if not HERE.match(request.url):
            problems.append(f"outside: {request.url}")

    def failed(request: Request) -> None:
        if "ERR_ABORTED" not in (request.failure or ""):  # the page was left while it was on its way
            problems.append(f"failed: {request.url} {request.failure}")

    def answered(answer: Response) -> None:
        if answer.status >= 400:
            problems.append(f"{answer.status} {answer.url}")

    page.on("request", sent)
    page.on("requestfailed", failed)
    page.on("response", answered)
    yield page
    assert problems == []


def look(page: Page, path: str) -> None:  # noqa: F811
    """Open a page. (What it looks like in both themes and widths, the walk sees: test_every_page.)"""
    page.goto(path)
    expect(page.locator("h1").first).to_be_visible()
    page.wait_for_load_state("load")


@pytest.fixture
def letters(tenant: Organization, workers: WorkerPool) -> list[DeadLetter]:  # noqa: F811
    """Three causes: one of six letters over a day, one that somebody looks after, one that was ignored."""
    raises = {"type": "raises", "retry": {"attempts": 1}}
    flows = {
        "charge-card": [{"id": "reserve", "type": "noop"}, {"id": "charge", "config": {"how": "unknown"}, **raises}],
        "send-invoice": [{"id": "render", "config": {"how": "final"}, **raises}],
        "divide": [{"id": "divide", "type": "data_transform", "config": {"script": "1/0"}, "retry": {"attempts": 1}}],
    }
    for slug, steps in flows.items():
        publish(tenant, steps, slug=slug)
    runs = [("charge-card", {"orderId": f"A-{n}", "total": 20 + n}) for n in range(6)]
    for slug, data in [*runs, ("send-invoice", {"invoice": 7}), ("divide", {})]:
        await_end(tenant, services.trigger(tenant, slug, data).run_ids[0])
    found = list(DeadLetter.objects.filter(org_id=tenant.id).select_related("flow").order_by("id"))
    assert len(found) == 8
    for number, letter in enumerate(found[:5]):
        at = timezone.now() - dt.timedelta(hours=20 - 4 * number)
        DeadLetter.objects.filter(id=letter.id).update(failed_at=at)
    dlq.assign(tenant, found[6].group_id, to="ana", by="ana")
    dlq.comment(tenant, found[0].group_id, text="The bank was away from 3 to 4; they say that it is over.", by="ana")
    dlq.ignore(tenant, found[7].id, by="ana", reason="nobody divides")
    return found


def test_the_pages_of_dead_letters_are_looked_at(seen: Page, letters: list[DeadLetter]) -> None:
    look(seen, "/letters/")
    expect(seen.locator("tbody tr")).to_have_count(2)
    look(seen, "/letters/?search=nothing+such")
    look(seen, f"/letters/causes/{letters[0].group_id}/")
    expect(seen.locator("hr-chart canvas")).to_have_count(1)
    look(seen, f"/letters/{letters[0].id}/")
    look(seen, "/letters/all/")
    look(seen, f"/letters/bulk/?action=resume&group={letters[0].group_id}")
    expect(seen.get_by_text("All of the first 6 would be resumed")).to_be_visible()


def test_a_letter_is_understood_edited_and_replayed(seen: Page, letters: list[DeadLetter]) -> None:
    seen.goto("/")
    seen.get_by_role("link", name="Dead letters").click()
    seen.locator("tbody tr").filter(has_text="RuntimeError").locator("a").click()
    expect(seen.get_by_text("The bank was away")).to_be_visible()
    letter = letters[0]
    seen.goto(f"/letters/{letter.id}/")
    expect(seen.get_by_role("heading", name="charge of charge-card")).to_be_visible()
    expect(seen.locator("hr-json").first).to_contain_text("A-0")
    seen.get_by_text("Edit the payload and replay").click()
    seen.get_by_label("Payload (JSON)").fill('{"orderId": "A-0", "total": 1}')
    seen.get_by_role("button", name="Show what changes").click()
    expect(seen.locator(".diff .added")).to_contain_text('"total": 1')
    shoot(seen, "letters-preview")
    seen.get_by_role("button", name="Replay it").click()
    expect(seen.locator(".message.success")).to_contain_text("replayed from the start")
    expect(seen.locator("#h-changes")).to_be_visible()


def test_chosen_letters_are_ignored_and_the_question_says_how_many(seen: Page, letters: list[DeadLetter]) -> None:
    seen.goto(f"/letters/causes/{letters[0].group_id}/")
    expect(seen.locator(".selection")).to_be_hidden()
    boxes = seen.locator("tbody input[type=checkbox]")
    boxes.nth(0).check()
    boxes.nth(1).check()
    expect(seen.locator(".selection")).to_contain_text("2 letters chosen")
    seen.get_by_label("Why they are ignored").fill("a test of the bank")
    shoot(seen, "letters-chosen")
    seen.get_by_role("button", name="Ignore", exact=True).click()
    expect(seen.locator("dialog#confirm")).to_contain_text("2 letters are taken off the list")
    seen.get_by_role("button", name="Yes, ignore").click()
    expect(seen.locator(".message.success")).to_contain_text("2 of 2 letters are ignored.")
    seen.get_by_role("link", name="Ignored 2").click()
    seen.get_by_label("All letters of this page").check()
    seen.get_by_role("button", name="Open again").click()
    seen.get_by_role("button", name="Yes, open again").click()
    expect(seen.locator(".message.success")).to_contain_text("2 of 2 letters are opened again.")


def test_all_letters_of_a_cause_are_resumed_at_a_pace_with_progress(seen: Page, letters: list[DeadLetter]) -> None:
    seen.goto(f"/letters/causes/{letters[0].group_id}/")
    seen.get_by_role("link", name="Resume all 6").click()
    expect(seen.get_by_text("6 letters", exact=True)).to_be_visible()
    seen.get_by_label("At most so many a second").fill("1")
    seen.get_by_role("button", name="Resume 6 letters").click()
    expect(seen.get_by_role("heading", name="Resume 6 letters")).to_be_visible()
    seen.get_by_role("button", name="Stop").click()
    expect(seen.locator(".page-head .status")).to_have_text("stopped")
    shoot(seen, "letters-operation")
    seen.get_by_role("button", name="Go on").click()
    seen.get_by_role("button", name="Yes, go on").click()
    lead_until_it_ends(seen)


def lead_until_it_ends(page: Page) -> None:  # noqa: F811
    """Be the leader until the page says, by itself, that the operation has ended."""
    from workflows.services import bulk

    def ended() -> bool:
        bulk.pump()
        page.wait_for_timeout(100)
        return bool(page.locator(".page-head .status").inner_text() == "completed")

    await_that(ended, 60, "the end of the operation on its page")
    expect(page.locator(".numbers")).to_contain_text("6")


def test_a_cause_is_cared_for_on_its_page(seen: Page, letters: list[DeadLetter]) -> None:
    seen.goto(f"/letters/causes/{letters[0].group_id}/")
    seen.get_by_role("button", name="Me", exact=True).click()
    expect(seen.locator(".message.success")).to_contain_text("looks after this cause")
    seen.get_by_label("What was found out").fill("<b>theirs</b>")
    seen.get_by_role("button", name="Comment").click()
    expect(seen.locator(".comments")).to_contain_text("<b>theirs</b>")
    seen.get_by_role("button", name="Snooze").click()
    expect(seen.locator(".message.warning")).to_contain_text("Snoozed until")
    seen.goto("/letters/")
    expect(seen.locator("tbody tr")).to_have_count(1)
    seen.get_by_label("snoozed ones too").check()
    seen.get_by_role("button", name="Show").click()
    expect(seen.locator("tbody tr")).to_have_count(2)


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(tenant: Organization, workers: WorkerPool) -> str:  # noqa: F811
    """A flow with limits of several kinds, at which runs wait; the addresses of its pages are known by its slug."""
    steps = [
        {
            "id": "call-bank",
            "type": "delay",
            "config": {"for": "1h"},
            "throttling": {"concurrency": 1, "rate": {"limit": 1, "period": "1h"}},
        },
        {"id": "book", "type": "noop"},
    ]
    slug = publish(tenant, steps, slug="transfer", concurrency=[{"limit": 2}])
    for number in range(5):
        services.trigger(tenant, slug, {"number": number})
    return slug


def test_the_pages_of_limits_are_looked_at(seen: Page, limited: str) -> None:
    look(seen, "/limits/")
    seen.get_by_role("link", name="the concurrency limit of step call-bank").click()
    expect(seen.get_by_role("heading", name="The concurrency limit of step call-bank")).to_be_visible()
    look(seen, seen.url)
    look(seen, "/limits/history/")


def test_a_limit_is_tried_on_last_week_and_changed(seen: Page, limited: str, tenant: Organization) -> None:  # noqa: F811
    seen.goto("/limits/")
    seen.get_by_text("Limit something…").click()
    seen.get_by_label("A flow").select_option("transfer")
    seen.locator(".panel form").first.get_by_role("button", name="Go on").click()
    expect(seen.get_by_role("heading", name="Limit the flow transfer")).to_be_visible()
    seen.locator("[name=rate_limit]").fill("2")
    seen.get_by_label("in a period of").fill("60s")
    seen.get_by_label("Why").fill("the bank asked for it")
    seen.get_by_role("button", name="Try it on last week").click()
    expect(seen.get_by_role("heading", name="Last week, if it had been so: 2 starts in 1m")).to_be_visible()
    for theme in THEMES:
        seen.emulate_media(color_scheme=theme)
        for width in WIDTHS:
            seen.set_viewport_size({"width": width, "height": 900})
            shoot(seen, f"limits-preview-{theme}-{width}")
    seen.set_viewport_size({"width": 1280, "height": 900})
    seen.get_by_role("button", name="Save: 2 starts in 1m").click()
    expect(seen.locator(".message.success")).to_contain_text("It holds on all workers within a second")
    seen.goto("/limits/change/?scope=flow&flow=transfer")
    expect(seen.locator("table")).to_contain_text("the bank asked for it")
    seen.get_by_role("button", name="Remove this value").click()
    expect(seen.locator("dialog#confirm")).to_contain_text("holds again for the flow transfer")
    seen.get_by_role("button", name="Yes, remove this value").click()
    expect(seen.locator(".message.success")).to_contain_text("holds again for the flow transfer")


def test_the_keyboard_reaches_the_pages(seen: Page, letters: list[DeadLetter]) -> None:
    seen.goto("/limits/")
    seen.wait_for_load_state("load")
    seen.keyboard.press("g")
    seen.keyboard.press("d")
    expect(seen.get_by_role("heading", name="Dead letters")).to_be_visible()
    seen.wait_for_load_state("load")
    seen.keyboard.press("/")
    expect(seen.get_by_label("Search")).to_be_focused()
    seen.keyboard.type("RuntimeError")
    seen.keyboard.press("Enter")
    expect(seen.locator("tbody tr")).to_have_count(1)
    seen.keyboard.press("j")
    seen.keyboard.press("Enter")
    expect(seen.get_by_role("heading", name="RuntimeError")).to_be_visible()
    seen.wait_for_load_state("load")
    seen.keyboard.press("j")
    seen.keyboard.press("x")
    expect(seen.locator(".selection")).to_contain_text("1 letter chosen")


def test_the_page_of_alerts_is_looked_at_and_a_rule_is_switched_off(seen: Page, tenant: Organization) -> None:  # noqa: F811
    from dlq.models import Alert, AlertChannel, AlertRule

    name = f"slow-{uuid.uuid4().hex[:6]}"
    rule = AlertRule.objects.create(name=name, metric="processing_time", threshold=60, org_id=tenant.id)
    channel = AlertChannel(name=f"chat-{uuid.uuid4().hex[:6]}", org_id=tenant.id)
    channel.url = "json://localhost:1/"
    channel.save()
    now = timezone.now()
    facts: dict[str, Any] = {"org_id": tenant.id, "rule": rule, "severity": "critical", "fired_at": now, "seen_at": now}
    Alert.objects.create(title=f"{name}: runs take 75.0 s", message="An average run takes longer than 60 s.", **facts)
    look(seen, "/alerts/")
    seen.get_by_role("button", name=f"Switch off {name}").click()
    seen.get_by_role("button", name="Yes, switch off").click()
    expect(seen.locator(".message.success")).to_contain_text(f"The rule {name} is off.")
    seen.get_by_role("button", name=f"Test {channel.name}").click()
    seen.get_by_role("button", name="Yes, send it").click()
    expect(seen.locator(".message.error")).to_contain_text("was not delivered", timeout=15_000)
