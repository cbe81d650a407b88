"""Lists to choose from, and lists without pages: they end, and what is not among them can be named."""

from __future__ import annotations

import pytest
from django.test import Client

from dlq.alerting import care
from dlq.models import AlertRule
from tests.integration.dashboard.people import member
from tests.support.workers import publish
from workflows import services
from workflows.dashboard.limits import views as limits
from workflows.dashboard.trying import views as trying
from workflows.models import Organization, Run
from workflows.selectors.pages import events as event_selectors
from workflows.selectors.pages import flows as selectors
from workflows.services import events

LIMITED = [{"id": "a", "type": "noop", "throttling": {"concurrency": 3}}]


@pytest.fixture
def admin(org: Organization, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Of an organization with three flows, where a list has two."""
    for name in ("one", "three", "two"):
        publish(org, LIMITED, slug=name, on={"event": f"on/{name}"})
    monkeypatch.setattr(selectors, "NAMES_SHOWN", 2)
    return member(org, "admin")


def test_two_of_three_flows_are_offered_and_the_third_is_written(org: Organization, admin: Client) -> None:
    for path in ("/", "/limits/", "/test/"):
        page = admin.get(path).content.decode()
        assert '<input name="flow" list="flow-names"' in page, path
        assert ('<option value="three">' in page, '<option value="two">' in page) == (True, False), path
    assert 'value="two"' in admin.get("/?flow=two").content.decode()
    assert "Run two" in admin.get("/test/?flow=two").content.decode()
    answer = admin.post("/test/", {"flow": "two", "input": "{}"})
    assert Run.objects.get(org_id=org.id).flow.slug == "two"
    assert answer.status_code == 302
    assert admin.get("/limits/change/?scope=flow&flow=two").status_code == 200


def test_a_few_flows_are_a_list_and_what_is_chosen_stays_chosen(
    admin: Client, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selectors, "NAMES_SHOWN", 3)
    page = admin.get("/?flow=archived-one").content.decode()
    assert "<option selected>archived-one</option>" in page, "the list is of that flow, and its form says so"
    assert "<option selected>two</option>" in admin.get("/test/?flow=two").content.decode()


def test_the_limits_of_flows_are_listed_up_to_a_number_and_named(
    admin: Client, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SHOWN", 2)
    page = admin.get("/limits/").content.decode()
    assert "The 2 that are wanted most, of" in page
    monkeypatch.setattr(limits, "SHOWN", 200)
    rows = [row for _, found, _ in admin.get("/limits/").context["groups"] for row in found]
    named = {name for name in ("one", "two", "three") if any(f"({name})" in row["what"] for row in rows)}
    assert named == {"one", "two", "three"}, "also those that no list offers"


def test_names_of_events_and_schemas_end_and_are_searched(
    admin: Client, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/one", "b/two", "c/three"):
        events.put_schema(org, name, {"type": "object"})
    assert admin.get("/test/events/").context["names"] == ["a/one", "b/two", "c/three", "on/one", "on/three"]
    monkeypatch.setattr(trying, "NAMES_SHOWN", 1)
    assert admin.get("/test/events/").context["names"] == ["a/one"]
    monkeypatch.setattr(event_selectors, "SCHEMAS_SHOWN", 2)
    page = admin.get("/events/schemas/")
    assert [each["row"].name for each in page.context["schemas"]] == ["a/one", "b/two"]
    assert "There are more: search" in page.content.decode()
    assert [each["row"].name for each in admin.get("/events/schemas/?q=THREE").context["schemas"]] == ["c/three"]
    assert "No event with this in its name" in admin.get("/events/schemas/?q=four").content.decode()
    assert admin.get("/events/schemas/?q=%00").status_code == 422


def test_a_name_is_heard_by_every_flow_with_a_pattern_for_it(org: Organization) -> None:
    for slug, name in (("any", "*"), ("exact", "a/b"), ("twice", "a/*")):
        publish(org, LIMITED, slug=slug, on=[{"event": name}, {"event": name, "id": "again", "if": "true"}])
    assert event_selectors.listens_in(["a/b", "a/c"], org) == {
        "a/b": ["any", "exact", "twice"],
        "a/c": ["any", "twice"],
    }


def test_rules_of_alerts_end(admin: Client, org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = AlertRule.objects.filter(org_id=None).count()
    monkeypatch.setattr(care, "MOST_LISTED", shipped - 1)
    page = admin.get("/alerts/")
    assert len(page.context["rules"]) == shipped - 1
    assert "There are more rules" in page.content.decode()


def test_a_flow_of_another_organization_is_not_named(org: Organization, other: Organization) -> None:
    publish(other, LIMITED, slug="theirs")
    (theirs,) = (services.published(other, "theirs").flow_id,)
    assert selectors.slugs_of(org, {theirs}) == {}
