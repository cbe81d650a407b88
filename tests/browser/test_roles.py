"""Two people, three roles, two organizations, in a real browser: what each sees, can click, and is refused."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.test_dashboard import browser, choose_organization, confirm, shoot  # noqa: F401  (a fixture)
from tests.support.workers import leave_nothing, publish
from workflows import services
from workflows.models import AuditEntry, Membership, Organization, Run

PASSWORD = "correct horse"
DELAY = [{"id": "nap", "type": "delay", "config": {"for": "1h"}}]


@dataclass(frozen=True, kw_only=True)
class Place:
    """An organization with a run that sleeps."""

    org: Organization
    slug: str
    run_id: Any


@pytest.fixture
def places(live_db: None) -> Iterator[tuple[Place, Place]]:
    made = []
    for name in ("red", "blue"):
        org = Organization.objects.create(slug=f"{name}-{uuid.uuid4().hex[:6]}", name=name.title())
        slug = publish(org, DELAY, slug=f"{name}-flow")
        made.append(Place(org=org, slug=slug, run_id=services.trigger(org, slug).run_ids[0]))
    yield made[0], made[1]
    for place in made:
        leave_nothing(place.org)


@pytest.fixture
def contexts(browser: Any, address: str) -> Iterator[list[BrowserContext]]:  # noqa: F811
    opened: list[BrowserContext] = [browser.new_context(base_url=address) for _ in range(2)]
    yield opened
    for context in opened:
        context.close()


def person(name: str) -> Any:
    return get_user_model().objects.create_user(f"{name}-{uuid.uuid4().hex[:6]}", password=PASSWORD)


def log_in(context: BrowserContext, user: Any) -> Page:
    page = context.new_page()
    page.goto("/login/")
    page.get_by_label("User name").fill(user.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    return page


def status_of(page: Page, path: str) -> int:
    answer = page.goto(path)
    assert answer is not None
    return answer.status


def switch(page: Page, place: Place) -> None:
    choose_organization(page, place.org.slug)
    page.get_by_role("button", name="Switch").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()


def test_an_admin_adds_an_operator_who_sees_that_organization_only(
    contexts: list[BrowserContext], places: tuple[Place, Place]
) -> None:
    red, blue = places
    anna, bert = person("anna"), person("bert")
    Membership.objects.create(organization=red.org, user=anna, role="admin")
    his = log_in(contexts[1], bert)
    expect(his.locator("main")).to_contain_text("member of no organization")
    assert status_of(his, f"/runs/{red.run_id}/") == 403

    hers = log_in(contexts[0], anna)
    hers.get_by_role("link", name="Organization").click()
    hers.get_by_label("Login or team").fill(bert.username)
    hers.locator("form.add-member").get_by_label("Role").select_option("operator")
    hers.get_by_role("button", name="Add").click()
    expect(hers.locator("main")).to_contain_text(f"user:{bert.username} is operator now.")
    shoot(hers, "organization")

    assert status_of(his, "/flows/") == 200
    expect(his.locator("tbody")).to_contain_text("red-flow")
    expect(his.get_by_label("Organization", exact=True)).to_have_count(0)
    confirm(his, "Pause")
    confirm(his, "Resume")
    expect(his.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    assert status_of(his, f"/runs/{blue.run_id}/") == 404
    assert status_of(his, f"/?org={blue.org.slug}") == 404
    assert status_of(his, "/organization/") == 200
    expect(his.get_by_label("Login or team")).to_have_count(0)
    assert status_of(his, "/admin/") == 200  # the login of the admin: he is no staff
    expect(his.locator("form#login-form")).to_be_visible()

    hers.locator("tr", has_text=bert.username).get_by_role("button", name="Remove").click()
    expect(hers.locator("main")).to_contain_text("no member any more")
    assert status_of(his, "/") == 403


def test_an_admin_of_one_organization_is_a_viewer_of_another_by_its_team(
    contexts: list[BrowserContext], places: tuple[Place, Place]
) -> None:
    red, blue = places
    anna = person("anna")
    team = Group.objects.create(name=f"team-{uuid.uuid4().hex[:6]}")
    anna.groups.add(team)
    Membership.objects.create(organization=red.org, user=anna, role="admin")
    Membership.objects.create(organization=blue.org, group=team, role="viewer")
    hers = log_in(contexts[0], anna)
    switch(hers, red)
    assert status_of(hers, f"/runs/{red.run_id}/") == 200
    expect(hers.get_by_role("button", name="Cancel")).to_be_visible()

    switch(hers, blue)
    expect(hers.locator("tbody")).to_contain_text("blue-flow")
    assert status_of(hers, f"/runs/{red.run_id}/") == 404
    assert status_of(hers, f"/runs/{blue.run_id}/") == 200
    expect(hers.get_by_role("heading", name="blue-flow")).to_be_visible()
    expect(hers.get_by_role("button", name="Cancel")).to_have_count(0)
    tried = contexts[0].request.post(
        f"/runs/{blue.run_id}/cancel/", headers={"X-CSRFToken": csrf(contexts[0]), "Referer": hers.url}
    )
    assert (tried.status, "it is viewer of" in tried.text()) == (403, True)
    assert Run.objects.get(id=blue.run_id).cancel_requested_at is None

    switch(hers, red)
    hers.goto(f"/runs/{red.run_id}/")
    confirm(hers, "Cancel")
    expect(hers.get_by_role("heading", name="red-flow")).to_be_visible()
    assert Run.objects.get(id=red.run_id).cancel_requested_at is not None


def test_a_tab_that_shows_another_organization_than_the_session_is_at_changes_nothing(
    contexts: list[BrowserContext], places: tuple[Place, Place]
) -> None:
    red, blue = places
    anna, bert = person("anna"), person("bert")
    for place in places:
        Membership.objects.create(organization=place.org, user=anna, role="admin")
    here = log_in(contexts[0], anna)
    switch(here, red)
    listed = contexts[0].new_page()
    listed.goto("/")
    expect(listed.locator("tbody")).to_contain_text("red-flow")
    polled = contexts[0].new_page()
    polled.goto("/limits/")
    here.goto("/organization/")
    here.get_by_label("Login or team").fill(bert.username)
    there = contexts[0].new_page()
    there.goto("/")
    switch(there, blue)

    here.get_by_role("button", name="Add").click()
    words = f"This page shows {red.org.slug}; your session is at {blue.org.slug} now"
    expect(here.get_by_role("alert")).to_contain_text(words)
    assert not Membership.objects.filter(user=bert).exists()
    for each in (listed, polled):
        expect(each.locator("#switched")).to_contain_text(words, timeout=15_000)
    expect(listed.locator("tbody")).not_to_contain_text("blue-flow")

    switch(here, red)  # the page that refuses has the switch
    here.goto("/organization/")
    here.get_by_label("Login or team").fill(bert.username)
    here.get_by_role("button", name="Add").click()
    expect(here.locator("main")).to_contain_text(f"user:{bert.username} is viewer now.")
    assert [each.organization for each in Membership.objects.filter(user=bert)] == [red.org]
    assert "org" not in AuditEntry.objects.get(org_id=red.org.id, verb="member.set").details


def csrf(context: BrowserContext) -> str:
    return next(str(each["value"]) for each in context.cookies() if each["name"] == "csrftoken")
