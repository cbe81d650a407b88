"""Keys, secrets, retention and the audit log in a browser: each action, both themes, two widths, nothing that axe finds."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from tests.browser.test_content_policy import WATCH
from tests.browser.test_dashboard import browser, page, shoot, tenant  # noqa: F401  (fixtures)
from tests.browser.test_every_page import AXE, look
from tests.browser.test_walk import walker  # noqa: F401  (a fixture)
from tests.support.workers import publish
from workflows.models import AccessKey, AuditEntry, Organization, RetentionRule, RetentionState, Secret
from workflows.services import access_keys
from workflows.services.access import audit, changes, secrets
from workflows.services.retention import rules

PAYS = [{"id": "pay", "type": "http_request", "config": {
    "url": "https://pay.example/charges", "headers": {"authorization": "Bearer ${ secrets.PAY_KEY }"},
}}]  # fmt: skip
SHOWN_KEY = re.compile(r"hr_(?:api|event)_[\w-]{32}")


@pytest.fixture
def house(tenant: Organization) -> Organization:  # noqa: F811
    """An organization with keys in every state, secrets that flows use and miss, rules, and a log."""
    now = timezone.now()
    rotated, _ = access_keys.issue(tenant, "api", "deploy-pipeline", scopes=["change_flows", "run_flows"])
    access_keys.rotate(tenant, rotated.id)
    access_keys.issue(tenant, "event", "shop-frontend", expires_at=now + dt.timedelta(days=5))
    gone, _ = access_keys.issue(tenant, "api", "a-laptop-that-was-lost", operator=True, as_operator=True)
    access_keys.revoke(tenant, gone.id)
    old, _ = access_keys.issue(tenant, "api", "last-year", expires_at=now + dt.timedelta(days=1))
    AccessKey.objects.filter(id=old.id).update(expires_at=now - dt.timedelta(days=1), last_used_at=now)
    publish(tenant, PAYS, slug="charge-customers")
    publish(tenant, [{"id": "a", "type": "noop"}], slug="hears", on=[{"webhook": "github", "secret": "GITHUB_SECRET"}])
    secrets.set_secret(tenant, "PAY_KEY", "a-long-value")
    secrets.set_secret(tenant, "UNUSED_TOKEN", "a-long-value")
    with changes.collected():
        rules.set_rule(tenant, "failed", 90, by="user anna")
        anna = audit.Actor(kind="login", name="anna", request_id="req-0193675a", origin="5f9c2a8d1e440b77")
        audit.record(tenant.id, anna, "retention.set", kind="retention", id="failed", details={"days": "90"})
    by_key = audit.Actor(kind="key", name="hr_api_Gg8BsG2… (deploy-pipeline)")
    audit.record(
        tenant.id, by_key, "flow.pause", kind="flow", id="charge-customers", details={"reason": "the bank is away"}
    )
    audit.record(tenant.id, audit.of_command(), "secret.set", kind="secret", id="PAY_KEY", details={"name": "PAY_KEY"})
    RetentionState.objects.update_or_create(
        id=1, defaults={"began_at": now, "ended_at": now, "next_at": now + dt.timedelta(minutes=10),
                        "last_pass": {"headrace_workflows_run": 1204}, "held": {"a dead letter of it is open": 17}},
    )  # fmt: skip
    return tenant


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_of_control_is_sound(walker: Page, house: Organization, theme: Any, width: int) -> None:  # noqa: F811
    walker.add_init_script(WATCH)
    walker.emulate_media(color_scheme=theme)
    walker.set_viewport_size({"width": width, "height": 900})
    rotated = AccessKey.objects.get(organization=house, name="deploy-pipeline", replaces=None)
    pages = {
        "keys": "/keys/?ended=yes", "key": f"/keys/?key={rotated.id}", "new-key": "/keys/?new=yes",
        "secrets": "/secrets/", "secret": "/secrets/?name=PAY_KEY", "new-secret": "/secrets/?name=",
        "retention": "/retention/", "rule": "/retention/?subject=failed&days=7&place=this", "audit": "/audit/",
        "audit-none": "/audit/?verb=none",
    }  # fmt: skip
    for name, address in pages.items():
        walker.goto(address)
        expect(walker.locator("main h1")).to_be_visible()
        for folded in walker.locator("details.entry").all()[:2]:
            folded.evaluate("(element) => { element.open = true; }")
        walker.evaluate(AXE)
        assert look(walker, f"control-{name}", width, theme) == [], name


def test_a_key_is_issued_copied_rotated_renamed_and_revoked(walker: Page, house: Organization) -> None:  # noqa: F811
    walker.goto("/keys/")
    walker.get_by_role("link", name="Issue a key").first.click()
    walker.get_by_label("Name").fill("nightly")
    walker.get_by_label("Only this:").check()
    walker.get_by_label("start flows and send events").check()
    walker.get_by_role("button", name="Issue it and show it once").click()
    shown = walker.locator(".once pre")
    expect(shown).to_have_text(SHOWN_KEY)
    key = shown.inner_text()
    shoot(walker, "control-key-once")
    walker.get_by_role("button", name="Copy the new key").click()
    expect(walker.locator(".toast")).to_have_text("Copied")
    row = AccessKey.objects.get(organization=house, name="nightly")
    assert (row.digest, row.scopes) == (AccessKey.digest_of(key), ["run_flows"])
    walker.reload()
    expect(walker.get_by_role("link", name="nightly")).to_be_visible()
    assert key not in walker.content(), "a reload asks for the list"
    walker.goto("/secrets/")
    walker.go_back()
    expect(walker.get_by_role("heading", name="Keys")).to_be_visible()
    assert key not in walker.content()
    assert AccessKey.objects.filter(organization=house, name="nightly").count() == 1

    walker.get_by_role("link", name="nightly").click()
    walker.get_by_label("The old one still holds").select_option("7 days")
    walker.get_by_role("button", name="Rotate").click()
    walker.get_by_role("button", name="Yes, rotate").click()
    expect(shown).to_have_text(SHOWN_KEY)
    assert shown.inner_text() != key
    walker.goto(f"/keys/?key={row.id}")
    walker.get_by_label("Name").fill("nightly of old")
    walker.get_by_role("button", name="Rename").click()
    expect(walker.locator("#messages")).to_contain_text("is named nightly of old now")
    walker.get_by_role("button", name="Revoke").click()
    expect(walker.locator("#confirm")).to_contain_text("It was never used")
    walker.get_by_role("button", name="Yes, revoke").click()
    expect(walker.locator("#messages")).to_contain_text("is revoked")
    said = list(AuditEntry.objects.filter(org_id=house.id).order_by("id").values_list("verb", flat=True))
    assert said[-4:] == ["key.issue", "key.rotate", "key.rename", "key.revoke"]


def test_a_secret_that_is_missing_is_stored_replaced_and_deleted(walker: Page, house: Organization) -> None:  # noqa: F811
    walker.goto("/secrets/")
    walker.get_by_role("link", name="GITHUB_SECRET").click()
    walker.get_by_label("Value").fill("first-line\nsecond-line")
    walker.get_by_role("button", name="Store", exact=True).click()
    expect(walker.locator("#messages")).to_contain_text("GITHUB_SECRET is stored")
    assert Secret.objects.get(organization=house, name="GITHUB_SECRET").value == "first-line\nsecond-line"
    assert "second-line" not in walker.content()
    walker.get_by_role("link", name="GITHUB_SECRET").click()
    walker.get_by_label("New value").fill("another-value")
    walker.get_by_role("button", name="Replace", exact=True).click()
    walker.get_by_role("button", name="Yes, replace").click()
    expect(walker.locator("#messages")).to_contain_text("GITHUB_SECRET is stored")
    walker.get_by_role("link", name="PAY_KEY").click()
    walker.get_by_role("button", name="Delete").click()
    expect(walker.locator("#confirm")).to_contain_text("steps of charge-customers")
    walker.get_by_role("button", name="Yes, delete").click()
    expect(walker.locator("#messages")).to_contain_text("charge-customers will ask for it in vain")
    expect(walker.get_by_label("Missing")).to_contain_text("PAY_KEY")


def test_a_rule_is_tried_set_and_taken_back_and_the_log_says_so(walker: Page, house: Organization) -> None:  # noqa: F811
    walker.goto("/retention/")
    walker.get_by_role("link", name="completed").click()
    walker.get_by_label("Days, for this organization").fill("7")
    walker.locator("form", has=walker.get_by_label("Days, for this organization")).get_by_role("button").click()
    expect(walker.locator(".trial")).to_contain_text("Kept for 7 days, now 30 days: nothing is older by now")
    walker.get_by_role("button", name="Keep completed for 7 days").click()
    expect(walker.locator("#messages")).to_contain_text("completed: 7 days")
    assert RetentionRule.objects.get(organization=house, subject="completed").days == 7
    walker.get_by_role("button", name="Take the rule back").click()
    walker.get_by_role("button", name="Yes, take the rule back").click()
    expect(walker.locator("#messages")).to_contain_text("is taken back")
    walker.goto("/audit/")
    expect(walker.locator("tbody tr").first).to_contain_text("retention.clear")
    walker.locator("tbody details.entry").nth(1).locator("summary").first.click()
    expect(walker.locator("tbody tr").nth(1).locator(".diff")).to_contain_text("organization")
    walker.locator("tbody tr").nth(1).get_by_role("link", name="completed").click()
    expect(walker.get_by_role("heading", name="completed: kept 30 days")).to_be_visible()
    walker.goto("/audit/")
    walker.get_by_label("What was done").fill("retention.*")
    walker.keyboard.press("Enter")
    expect(walker.locator("tbody tr")).to_have_count(3)
    walker.locator("summary", has_text="Export").click()
    with walker.expect_download() as download:
        walker.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename.endswith(".csv")


def test_the_keyboard_alone_issues_a_key(walker: Page, house: Organization) -> None:  # noqa: F811
    walker.goto("/")
    walker.keyboard.press("g")
    walker.keyboard.press("k")
    expect(walker.get_by_role("heading", name="Keys")).to_be_visible()
    walker.goto("/keys/?new=yes")
    walker.get_by_label("Name").focus()
    walker.keyboard.type("typed")
    for _ in range(30):
        walker.keyboard.press("Tab")
        focused = walker.evaluate("() => [document.activeElement.name, document.activeElement.value]")
        if focused == ["scopes", "run_flows"]:
            walker.keyboard.press("Space")
        if "Issue it" in walker.evaluate("() => document.activeElement.textContent"):
            break
    walker.keyboard.press("Enter")
    expect(walker.locator(".once pre")).to_have_text(SHOWN_KEY)
