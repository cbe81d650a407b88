"""How long things are kept is set by rule, by organization, by the environment; by REST, command and admin alike."""

from __future__ import annotations

import datetime as dt
import io
import json
from typing import Any

import pytest
import uuid6
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db.models import Q
from django.test import Client
from django.utils import timezone
from django_celery_results.models import TaskResult

from dlq.models import Alert, AlertNotification
from tests.integration.api.test_api import Api, assert_problem
from tests.support.workers import publish
from throttling.errors import EnvironmentValueError
from throttling.models import ThrottleChange
from workflows.engine.retention import ages, subjects
from workflows.engine.retention.rules import Rules
from workflows.errors import InvalidInput
from workflows.models import AccessKey, BulkOperation, CeleryTask, CronFire, Flow, Organization, RetentionRule
from workflows.models.run import first_id
from workflows.services import bulk
from workflows.services.retention import rules

LONG_AGO = timezone.now() - dt.timedelta(days=800)
BAD_DAYS: tuple[Any, ...] = (0, -1, 0.04, 3651, float("nan"), float("inf"), "soon", "", True, [1], "1e999")


def test_everything_is_kept_for_a_time_by_default() -> None:
    assert {name: subject.days for name, subject in subjects.SUBJECTS.items()} == {
        "completed": 30, "failed": 30, "cancelled": 30, "events": 30, "logs": 30, "outcomes": 30, "letters": 30,
        "cron_fires": 30, "operations": 30, "alerts": 90, "versions": 365, "limit_history": 365, "audit": 365,
        "task_results": 7, "sessions": 1,
    }  # fmt: skip


def test_the_rule_of_an_organization_wins_then_that_for_all_then_the_environment(
    org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept(whose: Organization) -> tuple[float | None, str]:
        found = Rules().kept("failed", whose.id)
        return found.days, found.source

    assert kept(org) == (30, "default")
    monkeypatch.setenv("HEADRACE_RETENTION_FAILED_DAYS", "12.5")
    assert kept(org) == (12.5, "environment")
    try:
        rules.set_rule(None, "failed", "forever", by="me")
        assert kept(org) == (None, "installation")
        rules.set_rule(org, "failed", 0.5, by="me")
        assert (kept(org), kept(other)) == ((0.5, "organization"), (None, "installation"))
    finally:
        RetentionRule.objects.filter(organization=None).delete()
    monkeypatch.setenv("HEADRACE_RETENTION_FAILED_DAYS", "tomorrow")
    with pytest.raises(EnvironmentValueError, match="HEADRACE_RETENTION_FAILED_DAYS.*3650"):
        kept(other)


@pytest.mark.parametrize("days", BAD_DAYS, ids=str)
def test_days_that_can_t_be_are_refused(days: Any) -> None:
    with pytest.raises(InvalidInput, match="ten years"):
        subjects.checked_days(days)


class RulesApi(Api):
    """A client that changes rules."""

    def put(self, path: str, body: Any) -> Any:
        return self.client.put(f"/api{path}", body, content_type="application/json")

    def delete(self, path: str, query: str = "") -> Any:
        return self.client.delete(f"/api{path}{query}")


def test_rules_are_set_and_taken_back_over_rest(org: Organization, api_key: str, live_db: None) -> None:
    api = RulesApi(api_key)
    before = api.get("/organization/retention").json()
    assert {rule["subject"] for rule in before["rules"]} == set(subjects.SUBJECTS)
    assert before["on"]
    assert before["announcement"] == ""
    answer = api.put("/organization/retention/completed", {"days": 7}).json()
    (rule,) = [rule for rule in answer["rules"] if rule["subject"] == "completed"]
    assert (rule["days"], rule["source"], rule["default"]) == (7, "organization", 30)
    assert api.put("/organization/retention/completed", {"days": None}).json()["rules"][0]["days"] is None
    assert RetentionRule.objects.get(organization=org).changed_by
    assert api.delete("/organization/retention/completed").json()["rules"][0]["source"] == "default"
    for subject, body, says in (
        ("nothing", {"days": 1}, "not kept by a rule"), ("completed", {"days": 0}, "ten years"),
        ("audit", {"days": 1}, "all organizations"),
    ):  # fmt: skip
        assert_problem(api.put(f"/organization/retention/{subject}", body), 422, "invalid_input", says)
    assert api.put("/organization/retention/completed", {}).status_code == 422
    assert_problem(
        api.put("/organization/retention/audit", {"days": 1, "organization": "all"}), 403, "forbidden", "operator's key"
    )
    operator = RulesApi(AccessKey.issue(org, AccessKey.Kind.API, "op", operator=True)[1])
    assert operator.put("/organization/retention/audit", {"days": 400, "organization": "all"}).status_code == 200
    assert operator.delete("/organization/retention/audit", "?organization=all").status_code == 200
    assert not RetentionRule.objects.filter(Q(organization=None) | Q(organization=org)).exists()


def test_rules_are_set_and_taken_back_by_command(org: Organization) -> None:
    def command(*arguments: str) -> dict[str, Any]:
        out = io.StringIO()
        call_command("retention", *arguments, "--org", org.slug, "--json", stdout=out)
        answer: dict[str, Any] = json.loads(out.getvalue())
        return answer

    answer = command("set", "failed", "90")
    assert [rule["days"] for rule in answer["rules"] if rule["subject"] == "failed"] == [90]
    with pytest.raises(CommandError, match="ten years"):
        command("set", "failed", "4000")
    command("clear", "failed")
    with pytest.raises(CommandError, match="one rule for all"):
        command("clear", "audit")
    assert not RetentionRule.objects.filter(organization=org).exists()
    out = io.StringIO()
    call_command("retention", "list", "--org", org.slug, stdout=out)
    assert "30 days" in out.getvalue()


def test_rules_are_set_and_taken_back_in_the_admin(org: Organization) -> None:
    get_user_model().objects.create_superuser(f"boss-{org.slug}", password="secret")
    client = Client()
    client.login(username=f"boss-{org.slug}", password="secret")
    path = "/admin/headrace_workflows/retentionrule"
    body = {"organization": str(org.id), "subject": "events", "days": "60"}
    assert client.post(f"{path}/add/", body).status_code == 302
    rule = RetentionRule.objects.get(organization=org)
    assert (rule.subject, rule.days, rule.changed_by) == ("events", 60, f"user boss-{org.slug}")
    assert "There is such a rule already" in client.post(f"{path}/add/", body).content.decode()
    page = client.post(f"{path}/add/", {**body, "subject": "logs", "days": "0"}).content.decode()
    assert "ten years" in page
    assert "all organizations" in client.post(f"{path}/add/", {**body, "subject": "audit"}).content.decode()
    other = {**body, "subject": "failed", "days": "", "seen": rule.seen}
    assert client.post(f"{path}/{rule.pk}/change/", other).status_code == 302
    changed = RetentionRule.objects.get(organization=org)
    assert (changed.subject, changed.days) == ("failed", None)
    assert client.get(f"{path}/").status_code == 200
    assert client.get("/admin/headrace_workflows/retentionstate/").status_code == 200
    assert client.post(f"{path}/{changed.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not RetentionRule.objects.filter(organization=org).exists()


# --- what has an age alone ------------------------------------------------------------------------------------------


def table(name: str) -> ages.AgedTable:
    return next(table for table in ages.all_tables() if table.name == name)


def old_id() -> Any:
    return type(uuid6.uuid7())(int=first_id(LONG_AGO.timestamp()).int + uuid6.uuid7().int % 2**70)


def expire(name: str) -> None:
    before = timezone.now() - dt.timedelta(days=400)
    while table(name).delete(before, 2):
        pass
    assert table(name).count(before) == 0


def test_old_cron_fires_go_but_the_queued_and_the_latest(org: Organization) -> None:
    publish(org, [{"id": "a", "type": "noop"}])
    flow = Flow.objects.get(organization=org)
    rows = [
        CronFire.objects.create(
            id=old_id(), org_id=org.id, flow=flow, schedule="* * * * * UTC", outcome=outcome,
            fire_at=LONG_AGO + dt.timedelta(minutes=minute),
        )
        for minute, outcome in enumerate(("started", "queued", "missed", "skipped"))
    ]  # fmt: skip
    expire("headrace_workflows_cronfire")
    assert set(CronFire.objects.filter(flow=flow)) == {rows[1], rows[3]}
    CronFire.objects.filter(flow=flow).delete()  # a queued one without a trigger is a fault to later tests' workers


def test_old_operations_go_but_those_that_may_go_on(org: Organization) -> None:
    made = []
    for status in ("completed", "stopped", "running", "stopped"):
        operation = bulk.start(org, "cancel_runs", {}, by="me")
        before = operation.id
        operation.id = old_id()
        operation.status, operation.ended_at = status, LONG_AGO if status == "completed" else None
        operation.save(force_insert=True)
        BulkOperation.objects.filter(id=before).delete()
        made.append(operation)
    bulk.stop(org, bulk.resume(org, made[3].id, by="me").id, by="me")  # somebody works with it
    expire("headrace_workflows_bulkoperation")
    assert set(BulkOperation.objects.filter(org_id=org.id)) == {made[2], made[3]}
    bulk.stop(org, made[2].id, by="me")


def test_the_latest_change_of_a_limit_stays(org: Organization) -> None:
    for _ in range(3):
        ThrottleChange.objects.create(by="me", place=f"org {org.id}", org_id=org.id)
    latest = ThrottleChange.objects.latest("id")
    ThrottleChange.objects.filter(org_id=org.id).update(at=LONG_AGO)
    expire("headrace_throttling_throttlechange")
    assert list(ThrottleChange.objects.filter(org_id=org.id)) == [latest]


def test_recovered_alerts_go_with_their_notifications(org: Organization) -> None:
    rows = [
        Alert.objects.create(
            id=old_id(), org_id=org.id, severity="info", title="x", message="x", fired_at=LONG_AGO, seen_at=LONG_AGO,
            recovered_at=LONG_AGO,
        )
        for _ in range(2)
    ]  # fmt: skip
    for row, status in zip(rows, ("sent", "pending"), strict=True):
        AlertNotification.objects.create(alert=row, channel="c", kind="fired", status=status, due_at=LONG_AGO)
    expire("headrace_dlq_alert")
    assert list(Alert.objects.filter(org_id=org.id)) == [rows[1]]
    assert AlertNotification.objects.filter(alert__org_id=org.id).count() == 1
    Alert.objects.filter(org_id=org.id).delete()


def test_rows_of_django_and_celery_go_by_their_age(org: Organization) -> None:
    user = get_user_model().objects.create_user(f"u-{org.slug}")
    entry = LogEntry.objects.create(
        user=user, content_type=ContentType.objects.first(), object_id="1", object_repr="x", action_flag=1
    )
    LogEntry.objects.filter(id=entry.id).update(action_time=LONG_AGO)
    Session.objects.create(session_key=f"old-{org.slug}"[:40], session_data="", expire_date=LONG_AGO)
    result = TaskResult.objects.create(task_id=f"t-{org.slug}", status="FAILURE")
    TaskResult.objects.filter(id=result.id).update(date_done=LONG_AGO)
    recent = TaskResult.objects.create(task_id=f"r-{org.slug}")
    running, awaited = (
        TaskResult.objects.create(task_id=f"{name}-{org.slug}", status=status)
        for name, status in (("s", "STARTED"), ("w", "SUCCESS"))
    )
    TaskResult.objects.filter(id__in=[running.id, awaited.id]).update(date_done=LONG_AGO)
    sent = CeleryTask.objects.create(
        task_id=awaited.task_id, step_run_id=uuid6.uuid7(), org_id=org.id, run_id=uuid6.uuid7(), name="x", state="sent",
        created_at=LONG_AGO, taken_at=LONG_AGO,
    )  # fmt: skip
    for name in ("django_admin_log", "django_session", "django_celery_results_taskresult"):
        expire(name)
    assert not LogEntry.objects.filter(user=user).exists()
    assert not Session.objects.filter(session_key__startswith="old-").exists()
    assert set(TaskResult.objects.filter(task_id__endswith=org.slug)) == {recent, running, awaited}
    sent.delete()
    expire("django_celery_results_taskresult")
    assert set(TaskResult.objects.filter(task_id__endswith=org.slug)) == {recent, running}


def test_a_rule_that_was_changed_since_is_left_by_every_door(org: Organization, api_key: str, live_db: None) -> None:
    api = RulesApi(api_key)

    def seen() -> dict[str, str]:
        found = api.get("/organization/retention").json()["rules"]
        return next(rule["seen"] for rule in found if rule["subject"] == "failed")

    old = seen()["this"]
    assert old == "", "there is no rule"
    rules.set_rule(org, "failed", 90, by="user bert", seen=old)
    refused = api.put("/organization/retention/failed", {"days": 4, "seen": old})
    assert_problem(refused, 409, "retention_rule_changed", "was changed by user bert since you looked")
    with pytest.raises(CommandError, match="changed by user bert"):
        call_command("retention", "--org", org.slug, "set", "failed", "4", "--seen", old)
    with pytest.raises(rules.RuleChanged):
        rules.clear_rule(org, "failed", by="me", seen=old)
    assert api.delete("/organization/retention/failed", "?seen=").status_code == 409
    assert RetentionRule.objects.get(organization=org).days == 90
    assert api.put("/organization/retention/failed", {"days": 4, "seen": seen()["this"]}).status_code == 200
    call_command("retention", "--org", org.slug, "set", "failed", "5", "--seen", seen()["this"], stdout=io.StringIO())
    assert seen() == {"this": RetentionRule.objects.get(organization=org).seen, "all": ""}
    call_command("retention", "--org", org.slug, "clear", "failed", "--seen", seen()["this"], stdout=io.StringIO())
    assert not RetentionRule.objects.filter(organization=org).exists()
    with pytest.raises(rules.RuleChanged):
        rules.set_rule(org, "failed", 1, by="me", seen=timezone.now().isoformat())


def test_two_first_rules_at_once_are_one_and_the_other_is_told(
    org: Organization, monkeypatch: pytest.MonkeyPatch, live_db: None
) -> None:
    look = rules._seen

    def look_before(*args: Any) -> Any:
        found = look(*args)
        RetentionRule.objects.create(organization=org, subject="failed", days=9, changed_by="another")
        return found

    monkeypatch.setattr(rules, "_seen", look_before)
    with pytest.raises(rules.RuleChanged, match="set by another just now"):
        rules.set_rule(org, "failed", 1, by="me", seen="")
