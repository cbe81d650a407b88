"""Reports, imports, schedules, users: jobs that read and write rows."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.utils import timezone

from examples import server
from examples.python import imports, reports, schedules, signup
from examples.python.outside import Outside
from tests.integration.examples import jobs
from tests.support.workers import await_that
from workflows import services
from workflows.errors import InvalidInput
from workflows.models import Organization, Run
from workflows.services import events

pytestmark = pytest.mark.usefixtures("workers")


def test_a_report_is_stored_and_its_user_notified(org: Organization, outside: Outside) -> None:
    request = {"reportType": "users", "dateRange": {"start": "2026-01-01", "end": "2026-01-31"}, "userId": "u-1"}
    found = jobs.output(org, reports.report_generate, request)
    assert found["rows"] == 31
    stored = outside.first("files", id=found["downloadUrl"])
    assert base64.b64decode(stored["content"]).startswith(b"users 2026-01-01")
    assert outside.first("notifications", userId="u-1")["downloadUrl"] == found["downloadUrl"]
    with pytest.raises(InvalidInput, match="reportType"):
        jobs.start(org, reports.report_generate, {**request, "reportType": "gossip"})


def test_an_import_shows_its_progress_and_sums_up(org: Organization, outside: Outside) -> None:
    data = {"file": "people.csv?records=1200", "importType": "contacts", "userId": "u-1"}
    detail = jobs.run(org, imports.import_with_progress, data)
    found = detail.run.output
    assert (found["total"], found["successful"], found["failed"]) == (1200, 1080, 120), detail.run.error
    assert len(found["errors"]) == imports.MAX_ERRORS
    assert len(outside.find("contacts")) == 1080
    assert outside.first("imports", id=str(detail.run.id))["failed"] == 120
    assert len(jobs.journal(detail.run.id)) == 26


def test_an_import_fans_out_into_a_run_for_each_batch(org: Organization, outside: Outside) -> None:
    jobs.publish(org, imports.process_import_batch)
    data = {"importId": "i-1", "file": "people.csv?records=250"}
    assert jobs.output(org, imports.process_import, data) == {"totalRecords": 250, "batches": 3}
    batches = Run.objects.filter(org_id=org.id, flow__slug="process-import-batch")
    await_that(lambda: batches.filter(status="completed").count() == 3, what="the batches")
    assert sum(row["total"] for row in outside.find("import_progress", importId="i-1")) == 250
    assert len(outside.find("contacts")) == 225


def test_a_throttled_import_imports(org: Organization, outside: Outside) -> None:
    records = [{"id": "1", "email": "a@example.org"}, {"id": "2", "email": ""}]
    found = jobs.output(org, imports.throttled_bulk_import, {"records": records})
    assert found == {"total": 2, "successful": 1, "failed": 1, "errors": [{"id": "2", "error": "no email"}]}


def test_an_event_for_each_item_or_one_for_all(org: Organization, outside: Outside) -> None:
    assert jobs.output(org, imports.item_process, {"item": {"id": "one"}}) == {"processed": 1}
    items: list[dict[str, Any]] = [{"id": f"i-{n}"} for n in range(20)]
    detail = jobs.run(org, imports.items_process_batch, {"items": [*items, {"name": "no id"}]})
    assert (detail.run.output["total"], detail.run.output["failed"]) == (21, 1), detail.run.error
    assert "no id" in detail.run.output["errors"][0]["error"]
    assert len(outside.find("items")) == 21


def test_single_events_are_gathered_into_one_run(org: Organization, outside: Outside) -> None:
    jobs.publish(org, imports.items_gathered)
    events.send(org, [{"name": "item/gathered", "data": {"item": {"id": f"g-{n}"}}} for n in range(12)])
    assert jobs.await_run_of(org, imports.items_gathered).run.output == {"processed": 12}
    assert Run.objects.filter(org_id=org.id).count() == 1


def test_the_nightly_jobs_delete_what_is_old(org: Organization, outside: Outside) -> None:
    now = timezone.now()
    old, new = (now - dt.timedelta(days=8)).isoformat(), (now - dt.timedelta(days=6)).isoformat()
    outside.upsert("auth_tokens", {"id": "old", "expires_at": old}, {"id": "new", "expires_at": new})
    assert jobs.output(org, schedules.cleanup_expired_tokens) == {"deletedCount": 1}
    assert [row["id"] for row in outside.find("auth_tokens")] == ["new"]
    for key, age in (("expired", -1), ("alive", 1)):
        Session.objects.create(session_key=f"{key}-{org.slug}", expire_date=now + dt.timedelta(hours=age))
    assert jobs.output(org, schedules.cleanup_expired_sessions)["deletedCount"] >= 1
    left = Session.objects.filter(session_key__endswith=org.slug)
    assert [row.session_key for row in left] == [f"alive-{org.slug}"]
    left.delete()


def test_the_daily_cleanup_deletes_sessions_and_old_logs(org: Organization, outside: Outside) -> None:
    now = timezone.now()
    user, _ = get_user_model().objects.get_or_create(username="cleaner")
    Session.objects.create(session_key=f"expired-{org.slug}", expire_date=now - dt.timedelta(hours=1))
    for days in (91, 89):
        entry = LogEntry.objects.create(user=user, action_flag=1, object_repr=f"{org.slug} {days}")
        LogEntry.objects.filter(pk=entry.pk).update(action_time=now - dt.timedelta(days=days))
    found = jobs.output(org, schedules.daily_cleanup)
    assert min(found["sessionsDeleted"], found["logsDeleted"]) >= 1
    kept = LogEntry.objects.filter(object_repr__startswith=org.slug)
    assert [entry.object_repr for entry in kept] == [f"{org.slug} 89"]
    user.delete()


def test_lists_in_pages_are_read_to_the_end(org: Organization, outside: Outside) -> None:
    detail = jobs.run(org, schedules.sync_github_metrics)
    assert detail.run.output == {"repositories": server.PAGES}, detail.run.error
    assert [key for key, _ in jobs.journal(detail.run.id)] == [
        "fetch-metrics", "fetch-metrics:1", "fetch-metrics:2", "store-metrics",
    ]  # fmt: skip
    assert len(outside.find("github_metrics")) == server.PAGES
    assert jobs.output(org, schedules.generate_sitemap) == {"pages": server.PAGES}
    assert outside.first("files", id="sitemap.xml")["content"].count("<loc>") == server.PAGES
    assert jobs.output(org, schedules.sync_external_data) == {"synced": True}
    assert len(outside.find("syncs")) == 1


def test_many_changes_give_one_sitemap(org: Organization, outside: Outside) -> None:
    jobs.publish(org, schedules.generate_sitemap, schedules.sitemap_on_change)
    for _ in range(5):
        events.send(org, [{"name": "site/changed", "data": {}}])
    assert jobs.await_run_of(org, schedules.sitemap_on_change).run.output == {"pages": server.PAGES}
    assert Run.objects.filter(org_id=org.id, flow__slug="generate-sitemap").count() == 1


def test_a_signup_does_each_thing_once(org: Organization, outside: Outside) -> None:
    jobs.publish(org, signup.on_user_signup)
    events.send(org, [{"name": "user/signup", "data": {"userId": "abc123", "email": "user@example.com"}}])
    detail = jobs.await_run_of(org, signup.on_user_signup)
    assert jobs.journal(detail.run.id) == [
        ("send-welcome-email", "completed"), ("initialize-user-data", "completed"), ("track-signup", "completed"),
    ]  # fmt: skip
    assert outside.first("profiles", id="abc123")["isComplete"] is False
    assert [row["event"] for row in server.WORLD.tables["analytics"].values()] == ["user_signup"]


def test_a_user_is_created_and_then_updated(org: Organization, outside: Outside) -> None:
    email = f"{org.slug}@example.com"
    created = jobs.output(org, signup.create_or_update_user, {"email": email, "name": "User"})
    changed = jobs.output(org, signup.create_or_update_user, {"email": email, "name": "Other"})
    assert (created["created"], changed) == (True, {"id": created["id"], "created": False})
    user = get_user_model().objects.get(username=email)
    assert user.first_name == "Other"
    user.delete()


def test_a_reminder_is_cancelled_with_its_user(org: Organization, outside: Outside) -> None:
    run_id = jobs.start(org, signup.send_profile_reminder, {"userId": "gone", "email": "gone@example.com"})
    await_that(lambda: jobs.journal(run_id) == [("wait-24h", "waiting")], what="the sleep")
    events.send(org, [{"name": "user/deleted", "data": {"userId": "gone"}}])
    await_that(lambda: services.get_run(org, run_id).status == "cancelled", what="the end")
    assert "mails" not in server.WORLD.tables
