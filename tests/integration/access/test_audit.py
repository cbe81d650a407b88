"""The audit log: whatever a person, a key or a command changes is in it, once, and stays as it was written."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import uuid
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone

from tests.integration.access.test_keys import issued
from tests.integration.api.test_access import login
from tests.integration.commands.test_commands_walk import COMMANDS, verbs
from tests.support.admin_site import act, staff
from tests.support.openapi import OPERATIONS
from tests.support.pages.patterns import pages
from tests.support.workers import publish
from workflows import services
from workflows.api.edge import operations
from workflows.dashboard import audited
from workflows.edge.access import RIGHTS
from workflows.errors import ScopeMissing
from workflows.management.commands import runs
from workflows.models import AuditEntry, Flow, Organization
from workflows.selectors.access.audit import AuditFilter, entries
from workflows.services import schedules
from workflows.services.access import audit
from workflows.services.retention import pruning

NOOP = [{"id": "a", "type": "noop"}]
NOT_BY_PAGE = {
    "logout": "Django's signal writes it (services.access.sign_ins)",
    "switch": "which organization a session looks at: nothing of it changes",
}


def of(org: Organization) -> list[AuditEntry]:
    """The entries of an organization, the oldest first."""
    return list(AuditEntry.objects.filter(org_id=org.id).order_by("id"))


# --- nothing is forgotten -------------------------------------------------------------------------------------------


def test_every_operation_of_the_api_is_written_down_or_says_why_not() -> None:
    silent = {key for key, each in operations.OPERATIONS.items() if bool(each.verb) == bool(each.not_audited)}
    assert silent == set()
    there = {(method.upper(), path.removeprefix("/api")) for method, path, _ in OPERATIONS}
    assert {key for key in there if key[0] not in operations.SAFE} - operations.OPERATIONS.keys() == set()
    assert operations.OPERATIONS.keys() - there == set(), "these are no operations any more"
    assert {each.right for each in operations.OPERATIONS.values()} <= RIGHTS.keys()
    unknown = operations.operation_of("POST", "/api/something/new")
    assert unknown is not None
    assert unknown.verb == "post /something/new"


def test_every_page_is_one_that_writes_its_changes_down() -> None:
    others = {each.name for each in pages() if not getattr(each.pattern.callback, "is_page", False)}
    assert others == NOT_BY_PAGE.keys()


def test_every_form_of_a_page_has_a_verb_and_what_it_is_done_to() -> None:
    unsafe = {each.name for each in pages() if each.is_unsafe} - NOT_BY_PAGE.keys()
    assert unsafe - audited.VERBS.keys() == set(), "say in workflows/dashboard/audited.py what it does"
    assert audited.VERBS.keys() - unsafe == set(), "these take no form, or are no pages any more"
    names = {each.partition(" ")[0] for each in (*audited.BY_PARTS, *audited.PREVIEWS)}
    assert names <= audited.VERBS.keys()
    assert all(verb and kind for verb, kind, _ in audited.VERBS.values())


def test_every_verb_of_a_command_is_written_down_or_says_why_not() -> None:
    silent = []
    for name in COMMANDS:
        command: Any = load_command_class(get_commands()[name], name)
        for parts, _ in verbs(name):
            verb = parts[0] if parts else ""
            said = [verb in each for each in (command.changes, command.changes_by_parts, command.not_audited)]
            if sum(said) != 1:
                silent.append(f"{name} {verb}")
    assert silent == []


# --- the API --------------------------------------------------------------------------------------------------------


def test_what_a_key_changes_is_written_with_who_and_from_where(org: Organization) -> None:
    slug = publish(org, NOOP)
    row, api = issued(org)
    api.headers["x-request-id"] = "req-1"
    assert api.post(f"/workflows/{slug}/pause", {"reason": "too loud"}).status_code == 200
    (entry,) = of(org)
    assert (entry.actor_kind, entry.actor) == ("key", f"{row.prefix}… (test)")
    assert (entry.verb, entry.object_kind, entry.object_id) == ("flow.pause", "flow", slug)
    assert (entry.details, entry.request_id, len(entry.origin)) == ({"reason": "too loud"}, "req-1", 16)


def test_what_was_made_is_named_and_a_body_that_nobody_reads_does_no_harm(org: Organization) -> None:
    _, api = issued(org)
    made = api.post("/keys", {"name": "n", "scopes": ["run_flows"]}).json()
    assert [(each.verb, each.object_id) for each in of(org)] == [("key.issue", made["id"])]
    assert of(org)[0].details == {"name": "n", "scopes": ["run_flows"]}
    publish(org, NOOP, slug="garbled")
    answer = Client().post("/api/workflows/garbled/archive", "{no json", "application/json", headers=api.headers)
    assert answer.status_code == 200
    assert of(org)[-1].verb == "flow.archive"


def test_what_an_operators_key_changes_elsewhere_is_written_there(org: Organization, other: Organization) -> None:
    _, api = issued(org, operator=True, as_operator=True)
    slug = publish(other, NOOP, slug=f"theirs-{uuid.uuid4().hex[:8]}")
    limit = {"scope": "flow", "flow": slug, "concurrency": 3, "organization": "all"}
    before = AuditEntry.objects.filter(org_id=None).count()
    assert api.send("PUT", "/limits", limit).status_code == 200
    assert [each.verb for each in of(other)] == ["limit.set"]
    for_all = {"days": 9, "organization": "all"}
    assert api.send("PUT", "/organization/retention/failed", for_all).status_code == 200
    assert api.send("DELETE", "/organization/retention/failed?organization=all").status_code == 200
    assert api.post("/queues/io/pause").status_code == 200
    assert api.post("/queues/io/resume").status_code == 200
    found = AuditEntry.objects.filter(org_id=None).order_by("id")[before:]
    assert [each.verb for each in found] == ["retention.set", "retention.clear", "queue.pause", "queue.resume"]
    assert of(org) == []
    publish(org, NOOP, slug=slug)
    assert api.send("PUT", "/limits", limit).status_code == 422, "two organizations have it"


def test_what_is_refused_or_only_tried_is_not_written(org: Organization) -> None:
    _, api = issued(org)
    slug = publish(org, NOOP)
    assert api.post(f"/runs/{uuid.uuid4()}/cancel", {}).status_code == 404
    assert api.post("/workflows/nothing/pause", {}).status_code == 404
    assert api.post("/runs/bulk/cancel", {"filter": {"status": "waiting"}, "dryRun": True}).status_code == 202
    assert api.post(f"/workflows/{slug}/run", {}).status_code == 202  # the data plane
    assert of(org) == []


def test_a_change_and_its_entry_are_one_transaction(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    slug = publish(org, NOOP)
    _, api = issued(org)

    def fail(*_: Any, **__: Any) -> None:
        raise DatabaseError("the log is full")

    monkeypatch.setattr(audit, "record", fail)
    assert api.post(f"/workflows/{slug}/archive").status_code == 500
    assert Flow.objects.get(organization=org, slug=slug).archived_at is None


def test_payloads_and_secrets_are_not_written_down(org: Organization) -> None:
    slug = publish(org, NOOP)
    run_id = services.trigger(org, slug, delay="1h").run_ids[0]
    services.cancel_run(org, run_id)
    _, api = issued(org)
    answer = api.post(f"/runs/{run_id}/replay", {"input": {"card": "4111111111111111"}})
    assert answer.status_code == 202, answer.content
    (entry,) = of(org)
    assert (entry.verb, entry.details) == ("run.replay", {"input": "***"})
    audit.record(
        org.id, audit.of_command(), "x", details={"note": "hr_api_abcdefghijklmnopqrstuvwx", "big": "x" * 9_000}
    )
    assert "abcdefgh" not in json.dumps(of(org)[-1].details)
    audit.record(org.id, audit.of_command(), "x", details={str(number): "x" * 400 for number in range(20)})
    assert of(org)[-1].details["shortened"] is True


def test_the_log_is_read_page_by_page_with_filters_by_those_who_may(org: Organization, other: Organization) -> None:
    for number in range(5):
        audit.record(org.id, audit.of_command(), f"test.{number}", kind="thing", id=number)
    audit.record(other.id, audit.of_command(), "test.other")
    _, api = issued(org, "change_organization")
    seen: list[str] = []
    cursor = ""
    while True:
        page = api.get("/audit", limit="2", **({"cursor": cursor} if cursor else {})).json()
        seen += [each["verb"] for each in page["entries"]]
        cursor = page["nextCursor"]
        if not cursor:
            break
    assert seen == [f"test.{number}" for number in (4, 3, 2, 1, 0)]
    assert [each["verb"] for each in api.get("/audit", objectId="3").json()["entries"]] == ["test.3"]
    assert len(api.get("/audit", verb="test.*").json()["entries"]) == 5
    later = (timezone.now() + dt.timedelta(hours=1)).isoformat()
    assert api.get("/audit", since=later).json()["entries"] == []
    assert api.get("/audit", cursor="x").status_code == 422
    assert issued(org, "change_runs")[1].get("/audit").status_code == 403


# --- pages, the admin, commands, logins -----------------------------------------------------------------------------


def test_what_a_login_changes_on_a_page_is_written(org: Organization) -> None:
    slug = publish(org, NOOP)
    run_id = services.trigger(org, slug, delay="1h").run_ids[0]
    client = login(is_superuser=True)
    assert client.post(f"/runs/{run_id}/cancel/?org={org.slug}").status_code == 302
    (entry,) = of(org)
    assert (entry.actor_kind, entry.verb, entry.object_id) == ("login", "run.cancel", str(run_id))
    client.post(f"/runs/{run_id}/cancel/?org={org.slug}")  # it has ended: nothing is done, and the page says so
    client.post(f"/flows/{slug}/pause/?org={org.slug}")
    client.post(f"/flows/{slug}/resume/?org={org.slug}")
    client.post(f"/flows/{slug}/resume/?org={org.slug}")
    assert [each.verb for each in of(org)] == ["run.cancel", "flow.pause", "flow.resume"]


def test_what_the_admin_saves_and_deletes_is_written(org: Organization) -> None:
    boss = staff(superuser=True)
    given = {"organization": str(org.id), "name": "PAY", "value": "a-secret-value", "_save": "Save"}
    assert boss.post("/admin/headrace_workflows/secret/add/", given).status_code == 302
    row = org.secrets.get()
    boss.post(f"/admin/headrace_workflows/secret/{row.id}/delete/", {"post": "yes"})
    assert [each.verb for each in of(org)] == ["admin.secret.add", "admin.secret.delete"]
    assert "a-secret-value" not in json.dumps([each.details for each in of(org)])
    assert boss.get("/admin/headrace_workflows/auditentry/").status_code == 200


def test_an_action_of_the_admin_is_written_for_what_it_was_done_to_alone(
    org: Organization, other: Organization
) -> None:
    mine, done, theirs = (publish(each, NOOP, slug=slug) for each, slug in ((org, "a"), (org, "b"), (other, "c")))
    runs = [services.trigger(org, slug, delay="1h").run_ids[0] for slug in (mine, done)]
    strange = services.trigger(other, theirs, delay="1h").run_ids[0]
    services.cancel_run(org, runs[1])
    act(staff(of=org, role="operator"), "/admin/headrace_workflows/run/", "cancel", *runs, strange)
    assert [(each.verb, each.object_id, each.details) for each in of(org)] == [
        ("admin.run.cancel", str(runs[0]), {"done": 1, "rows": [str(runs[0])]})
    ]
    assert of(other) == []  # its row was posted, and is none of the login's
    act(staff(superuser=True), "/admin/headrace_workflows/run/", "replay", *runs, strange)
    assert [each.details["rows"] for each in of(other)] == []
    act(staff(superuser=True), "/admin/headrace_workflows/run/", "cancel", strange)
    assert [each.details["rows"] for each in of(other)] == [[str(strange)]]


def test_the_switch_of_a_schedule_is_written_for_the_organization_of_its_flow(org: Organization) -> None:
    publish(org, NOOP, on={"cron": "0 3 * * *"})
    row = schedules.beat_rows([org]).get()
    act(staff(superuser=True), "/admin/django_celery_beat/periodictask/", "disable_tasks", row.pk)
    assert [(each.verb, each.details["done"]) for each in of(org)] == [("admin.periodictask.disable_tasks", 1)]


def test_what_a_command_changes_is_written_and_a_failed_one_is_not(org: Organization) -> None:
    slug = publish(org, NOOP)
    call_command("pauses", "pause", f"--org={org.slug}", f"--flow={slug}", stdout=io.StringIO())
    with pytest.raises(CommandError):
        call_command("pauses", "resume", f"--org={org.slug}", "--flow=nothing", stdout=io.StringIO())
    call_command("organization", "key", "api", f"--org={org.slug}", "--scope=run_flows", stdout=io.StringIO())
    assert [(each.actor_kind, each.verb) for each in of(org)] == [
        ("command", "pauses.pause"),
        ("command", "organization.key"),
    ]
    out = io.StringIO()
    call_command("audit", "list", f"--org={org.slug}", "--json", stdout=out)
    assert [each["verb"] for each in json.loads(out.getvalue())["entries"]] == ["organization.key", "pauses.pause"]


def entry_of(*line: str) -> AuditEntry | None:
    """What a command has added to the log; None where it has added nothing."""
    before = AuditEntry.objects.order_by("-id").values_list("id", flat=True).first() or 0
    with contextlib.suppress(CommandError, KeyboardInterrupt):
        call_command(*line, stdout=io.StringIO())
    added = list(AuditEntry.objects.filter(id__gt=before, actor_kind="command"))
    assert len(added) <= 1
    return added[0] if added else None


def test_a_command_is_written_in_the_organization_it_was_done_to_with_what(org: Organization) -> None:
    slug, at = publish(org, NOOP), f"--org={org.slug}"
    run = services.trigger(org, slug, delay="1h").run_ids[0]
    new = f"new-{uuid.uuid4().hex[:8]}"
    for line, kind, of_what in (
        (["pauses", "pause", at, f"--flow={slug}"], "flow", slug),
        (["pauses", "resume", at, f"--flow={slug}"], "flow", slug),
        (["runs", "cancel", str(run), at], "run", str(run)),
        (["retention", "set", "failed", "9", at], "retention", "failed"),
        (["flows", "archive", slug, at], "flow", slug),
        (["organization", "redaction", "password", at], "organization", org.slug),
        (["organization", "redaction", "--clear", at], "organization", org.slug),
    ):
        found = entry_of(*line)
        assert found is not None, line
        assert (found.org_id, found.object_kind, found.object_id) == (org.id, kind, of_what), line
    made = entry_of("organization", "create", new)
    assert made is not None
    assert (made.org_id, made.object_id) == (Organization.objects.get(slug=new).id, new)
    for verb in (["set", "failed", "9"], ["clear", "failed"]):
        found = entry_of("retention", *verb, "--all", at)
        assert found is not None, verb
        assert found.org_id is None, "it holds for all"


def test_a_command_that_only_shows_is_not_written(org: Organization) -> None:
    publish(org, NOOP)
    for line in (["organization", "redaction"], ["organization", "quotas"], ["retention", "list"]):
        assert entry_of(*line, f"--org={org.slug}") is None, line


def test_a_long_command_that_is_stopped_is_written_as_done_in_part(
    org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    assert entry_of("runs", "cancel", f"--org={org.slug}") is None, "it names no run: nothing was begun"
    assert entry_of("prune", f"--org={org.slug}", "--older-than=1s", "--json") is None, "it is refused"
    monkeypatch.setattr(pruning, "prune", stop)
    found = entry_of("prune", f"--org={org.slug}", "--json")
    assert found is not None
    assert (found.org_id, found.object_kind, found.details["ended"]) == (org.id, "retention", "in part")
    monkeypatch.setattr(runs, "watch", stop)
    found = entry_of("runs", "cancel", "--all", f"--org={org.slug}")
    assert found is not None
    assert (found.object_kind, found.details["ended"]) == ("operation", "in part")
    assert str(uuid.UUID(found.object_id)) == found.object_id


def test_logins_and_logouts_are_written_and_wrong_passwords_are_not(org: Organization) -> None:
    name = f"anna-{uuid.uuid4().hex[:8]}"
    get_user_model().objects.create_user(name, password="right")
    client = Client()
    client.post("/login/", {"username": name, "password": "wrong"})
    client.post("/login/", {"username": name, "password": "right"})
    client.post("/logout/")
    found = AuditEntry.objects.filter(actor=name, org_id=None).order_by("id")
    assert [each.verb for each in found] == ["login", "logout"]
    assert [each.verb for each in entries(None, AuditFilter(actor=name)).entries] == ["logout", "login"]


# --- it stays -------------------------------------------------------------------------------------------------------


def test_postgres_refuses_to_change_an_entry_and_only_retention_deletes(org: Organization) -> None:
    entry = audit.record(org.id, audit.of_command(), "test.kept")
    rows = AuditEntry.objects.filter(id=entry.id)
    with pytest.raises(DatabaseError, match="written once"), transaction.atomic():
        rows.update(verb="test.other")
    with pytest.raises(DatabaseError, match="written once"), transaction.atomic():
        rows.delete()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL headrace.retention = '1'")
        rows.delete()
    assert not rows.exists()


def test_an_operation_that_nobody_has_named_is_refused_for_a_key_with_scopes(org: Organization) -> None:
    row, _ = issued(org, "run_flows")
    with pytest.raises(ScopeMissing):
        operations.refuse_scope(row, operations.operation_of("POST", "/api/something/new"))
