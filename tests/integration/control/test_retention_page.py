"""The page of retention: the rules in force, what a change would let go, and who may change what."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.integration.dashboard.people import member, operator_of_all
from tests.support.workers import publish
from workflows import services
from workflows.models import AuditEntry, Organization, RetentionRule, RetentionState, Run
from workflows.selectors.upkeep import bloat
from workflows.selectors.upkeep import retention as selectors
from workflows.services.retention import rules

NOOP = [{"id": "a", "type": "noop"}]


@pytest.fixture
def admin(org: Organization) -> Client:
    return member(org, "admin")


@pytest.fixture(autouse=True)
def as_before(org: Organization) -> Iterator[None]:
    """Rules and state of the installation stay as they were."""
    state = RetentionState.objects.filter(id=1).values().first()
    yield
    RetentionRule.objects.filter(organization=None).delete()
    if state is not None:
        RetentionState.objects.filter(id=1).update(**state)


def row_of(client: Client, subject: str) -> Any:
    rows = client.get("/retention/").context["rows"]
    return next(each for each in rows if each["subject"].name == subject)


def failed_run(org: Organization, days: float) -> None:
    run_id = services.trigger(org, publish(org, NOOP, slug="aged"), delay="1h").run_ids[0]
    at = timezone.now() - dt.timedelta(days=days)
    services.cancel_run(org, run_id)
    Run.objects.filter(id=run_id).update(ended_at=at)


def test_every_rule_says_how_long_and_where_it_comes_from(
    org: Organization, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_RETENTION_EVENTS_DAYS", "14")
    rules.set_rule(org, "failed", 90, by="user anna")
    rules.set_rule(None, "completed", "forever", by="user root")
    page = admin.get("/retention/").content.decode()
    found = {name: row_of(admin, name) for name in ("failed", "completed", "events", "cancelled")}
    assert {name: (row["kept"].days, row["kept"].source) for name, row in found.items()} == {
        "failed": (90.0, "organization"), "completed": (None, "installation"), "events": (14.0, "environment"),
        "cancelled": (30, "default"),
    }  # fmt: skip
    assert "user anna" in page
    assert "HEADRACE_RETENTION_EVENTS_DAYS" in page
    assert "for ever" in page


def test_a_change_is_tried_before_it_is_made_and_says_what_would_go(org: Organization, admin: Client) -> None:
    for days in (3, 5, 20):
        failed_run(org, days)
    shown = admin.get("/retention/?subject=cancelled&days=4&place=this")
    trial = shown.context["trial"]
    assert (trial.older, trial.days, trial.now.days, trial.is_shorter) == (2, 4.0, 30, True)
    assert "<b>2</b> are older" in shown.content.decode()
    assert not RetentionRule.objects.filter(organization=org).exists()
    form = {"subject": "cancelled", "place": "this", "days": "4", "do": "set", "seen": ""}
    assert admin.post("/retention/", form).status_code == 302
    assert row_of(admin, "cancelled")["kept"].days == 4
    assert admin.get("/retention/?subject=cancelled&days=forever").context["trial"].days is None
    assert "nothing is older" in admin.get("/retention/?subject=events&days=300").content.decode()
    assert admin.get("/retention/?subject=logs&days=3").context["trial"].older is None
    (entry,) = AuditEntry.objects.filter(org_id=org.id)
    assert (entry.verb, entry.object_id) == ("retention.set", "cancelled")
    assert entry.details["before"] == {"days": 30.0, "source": "default"}
    assert entry.details["after"] == {"days": 4.0, "source": "organization"}


def test_no_more_than_a_bound_is_counted(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    for days in (3, 4, 5):
        failed_run(org, days)
    monkeypatch.setattr(selectors, "MOST_COUNTED", 1)
    assert selectors.trial(org, "cancelled", 1).older == 2


def test_a_rule_that_was_changed_meanwhile_is_left_and_one_is_taken_back(org: Organization, admin: Client) -> None:
    form = {"subject": "failed", "place": "this", "days": "4", "do": "set", "seen": ""}
    rules.set_rule(org, "failed", 90, by="user bert")
    answer = admin.post("/retention/", form)
    assert answer.status_code == 409
    assert "was changed by user bert since you looked" in answer.content.decode()
    assert row_of(admin, "failed")["kept"].days == 90
    seen = RetentionRule.objects.get(organization=org).changed_at.isoformat()
    assert admin.post("/retention/", {**form, "do": "clear", "seen": seen}).status_code == 302
    assert row_of(admin, "failed")["kept"].source == "default"
    answer = admin.post("/retention/", {**form, "do": "clear"})
    assert (answer.status_code, "no rule to take back" in answer.content.decode()) == (422, True)
    assert [each.verb for each in AuditEntry.objects.filter(org_id=org.id)] == ["retention.clear"]


@pytest.mark.parametrize(
    "wrong",
    [{"subject": ""}, {"subject": "everything"}, {"days": ""}, {"days": "x"}, {"days": "0"}, {"days": "-1"}, {"days": "nan"},
     {"days": "3651"}, {"days": "1e999"}, {"do": "delete"}, {"do": ""}, {"place": "theirs"}],
    ids=str,
)  # fmt: skip
def test_what_can_not_be_meant_is_refused_with_what_to_do(
    org: Organization, admin: Client, wrong: dict[str, str]
) -> None:
    form = {"subject": "failed", "place": "this", "days": "4", "do": "set", **wrong}
    assert admin.post("/retention/", form).status_code == 422
    assert not RetentionRule.objects.filter(organization=org).exists()
    assert not AuditEntry.objects.filter(org_id=org.id).exists()


def test_what_can_not_be_looked_at_is_refused_too(admin: Client) -> None:
    assert admin.get("/retention/?subject=everything").status_code == 422
    shown = admin.get("/retention/?subject=failed&days=nan")
    assert (shown.status_code, "can&#x27;t be used" in shown.content.decode()) == (200, True)


@pytest.mark.parametrize("role", ["viewer", "operator", "editor"])
def test_everybody_looks_and_admins_change(org: Organization, role: str) -> None:
    client = member(org, role)
    page = client.get("/retention/?subject=failed").content.decode()
    assert "<button" not in page[page.index("h-rule") : page.index("h-rules")]
    assert "Admins of the organization change it" in page
    assert client.post("/retention/", {"subject": "failed", "days": "4", "do": "set"}).status_code == 403
    assert not RetentionRule.objects.filter(organization=org).exists()


def test_a_rule_of_all_is_an_operators_and_its_entry_belongs_to_no_organization(
    org: Organization, admin: Client
) -> None:
    form = {"subject": "audit", "place": "all", "days": "400", "do": "set"}
    assert admin.post("/retention/", form).status_code == 403
    assert admin.post("/retention/", {**form, "place": "this"}).status_code == 422
    assert "an operator of the installation changes it" in admin.get("/retention/?subject=audit").content.decode()
    root, before = operator_of_all(org), AuditEntry.objects.filter(org_id=None, verb="retention.set").count()
    assert root.post("/retention/", form).status_code == 302
    assert RetentionRule.objects.get(organization=None, subject="audit").days == 400
    assert AuditEntry.objects.filter(org_id=None, verb="retention.set").count() == before + 1
    assert not AuditEntry.objects.filter(org_id=org.id).exists()
    assert [name for name, *_ in root.get("/retention/?subject=failed").context["places"]] == ["this", "all"]


def test_numbers_of_all_organizations_are_for_operators(org: Organization, admin: Client) -> None:
    RetentionState.objects.update_or_create(
        id=1,
        defaults={
            "began_at": timezone.now(), "ended_at": timezone.now(), "last_pass": {"headrace_workflows_run": 4711},
            "held": {"a dead letter of it is open": 4242}, "would_delete": {"failed": 4343},
            "dry_until": timezone.now() + dt.timedelta(days=3), "announced_at": timezone.now(),
        },
    )  # fmt: skip
    mine, all_of_it = (
        admin.get("/retention/").content.decode(),
        operator_of_all(org).get("/retention/").content.decode(),
    )
    largest = bloat.table_sizes()[0].table
    for number in ("4711", "4242", "4343", f"<code>{largest}</code>"):
        assert number not in mine, number
        assert number in all_of_it, number
    assert "Until then nothing is" in mine
    assert "4,343 of failed" in all_of_it


def test_what_organizations_store_is_shown_against_its_quota(org: Organization, admin: Client) -> None:
    Organization.objects.filter(id=org.id).update(stored_bytes=3 * 2**20, stored_bytes_most=2 * 2**20)
    page = admin.get("/retention/").content.decode()
    assert "3.0\xa0MB" in page
    assert "quota reached" in page
