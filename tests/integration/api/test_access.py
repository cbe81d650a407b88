"""Who sees and does what by role; where events without a key may come from; what pages may load."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.utils import timezone

from tests.support.workers import leave_nothing, publish
from workflows import services
from workflows.dashboard import access as dashboard_access
from workflows.models import AccessKey, Membership, Organization, Run, Trigger, Wait
from workflows.this_process.configuration import configuration


def login(*permissions: str, of: Organization | None = None, role: str = "viewer", **flags: bool) -> Client:
    """A browser that is logged in with these permissions, as a member of an organization in a role."""
    user = get_user_model().objects.create_user(f"user-{uuid.uuid4().hex[:8]}", password="x", **flags)
    for name in permissions:
        app, _, code = name.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=code))
    if of is not None:
        Membership.objects.create(organization=of, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def run(org: Organization) -> Iterator[Run]:
    """A run that waits for a decision of anybody."""
    slug = publish(
        org, [{"id": "ask", "type": "wait_for_approval", "config": {"title": "Sure?"}}], slug="asks",
        on={"webhook": "none", "name": "hook/called"},
    )  # fmt: skip
    yield Run.objects.get(id=services.trigger(org, slug).run_ids[0])
    leave_nothing(org)


def actions(run: Run) -> list[str]:
    return [
        f"/runs/{run.id}/cancel/", f"/runs/{run.id}/replay/start/", f"/runs/{run.id}/replay/resume/",
        "/flows/asks/pause/", "/flows/asks/drain/", "/flows/asks/resume/",
    ]  # fmt: skip


PAGES = ["/", "/flows/", "/approvals/"]


def test_a_viewer_sees_the_organization_and_changes_nothing(org: Organization, run: Run) -> None:
    client = login(of=org)
    for path in [*PAGES, f"/runs/{run.id}/"]:
        assert client.get(path).status_code == 200, path
    for path in actions(run):
        answer = client.post(path)
        assert (answer.status_code, b"it is viewer of" in answer.content) == (403, True), path
    assert b"<button>Cancel" not in client.get(f"/runs/{run.id}/").content
    assert b"<button>Pause" not in client.get("/flows/").content
    run.refresh_from_db()
    assert run.cancel_requested_at is None


@pytest.mark.parametrize("role", ["operator", "editor", "admin"])
def test_an_operator_and_whoever_is_more_pauses_and_cancels(org: Organization, run: Run, role: str) -> None:
    client = login(of=org, role=role)
    assert b"<button>Pause" in client.get("/flows/").content
    assert client.post("/flows/asks/pause/").status_code == 302
    assert client.post("/flows/asks/resume/").status_code == 302
    assert client.post(f"/runs/{run.id}/cancel/").status_code == 302
    run.refresh_from_db()
    assert run.cancel_requested_at is not None


def test_a_django_permission_adds_its_right_where_the_login_is_a_member(org: Organization, run: Run) -> None:
    client = login("headrace_workflows.change_flow", of=org)
    assert b"<button>Pause" in client.get("/flows/").content
    assert client.post("/flows/asks/pause/").status_code == 302
    assert client.post(f"/runs/{run.id}/cancel/").status_code == 403
    client = login("headrace_workflows.change_run", of=org)
    assert client.post("/flows/asks/resume/").status_code == 403
    assert client.post(f"/runs/{run.id}/cancel/").status_code == 302
    client = login("headrace_workflows.stop_flow", of=org)
    assert client.post("/flows/asks/resume/").status_code == 302


def test_the_address_of_a_webhook_is_shown_to_those_only_who_may_change_flows(org: Organization, run: Run) -> None:
    token = Trigger.objects.get(organization=org).token
    for role, shown in [("viewer", False), ("operator", False), ("editor", True)]:
        page = login(of=org, role=role).get("/webhooks/").content.decode()
        assert (token in page, "/hooks/***" in page) == (shown, not shown), role
    assert token in login("headrace_workflows.change_flow", of=org).get("/webhooks/").content.decode()


def test_an_approval_that_names_nobody_takes_the_right_and_a_named_login_needs_none(
    org: Organization, run: Run
) -> None:
    wait = Wait(
        org_id=org.id,
        run_id=run.id,
        step_run_id=uuid.uuid4(),
        kind="approval",
        options={"title": "x"},
        since=timezone.now(),
        created_at=timezone.now(),
    )
    wait.save(force_insert=True)
    path = f"/approvals/{wait.step_run_id}/"
    client = login(of=org)
    assert b"You may not decide this" in client.get(path).content
    answer = client.post(path, {"decision": "approve"}, follow=True)
    assert b"may not decide this" in answer.content
    wait.refresh_from_db()
    assert wait.taken_at is None
    named = get_user_model().objects.create_user(f"anna-{uuid.uuid4().hex[:6]}")
    Wait.objects.filter(step_run_id=wait.step_run_id).update(
        options={"title": "x", "approvers": [f"user:{named.username}"]}
    )
    anna = Client()
    anna.force_login(named)
    assert anna.get(path).status_code == 403, "being named is no membership"
    Membership.objects.create(organization=org, user=named, role="viewer")
    assert b'value="approve"' in anna.get(path).content
    operator = login(of=org, role="operator").get(path).content
    assert b'value="approve"' not in operator, "others are named"
    admin = login(of=org, role="admin").get(path).content
    assert (b'value="approve"' in admin, b"as_operator" in admin) == (True, True)


@pytest.mark.parametrize("permissions", [[], ["headrace_workflows.change_run", "headrace_workflows.change_flow"]])
def test_a_login_without_a_membership_gets_nothing_whatever_its_permissions(
    org: Organization, other: Organization, run: Run, permissions: list[str]
) -> None:
    client = login(*permissions, is_staff=True)
    for path in [*PAGES, f"/runs/{run.id}/", f"/?org={org.slug}"]:
        answer = client.get(path)
        assert (answer.status_code, b"member of no organization" in answer.content) == (403, True), path
    for path in actions(run):
        assert client.post(path).status_code == 403, path
    for path in ("/api/stream", f"/api/runs/{run.id}/stream"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path
        assert "member of no organization" in answer.json()["detail"]


def test_the_strongest_of_a_logins_memberships_counts(org: Organization, run: Run) -> None:
    user = get_user_model().objects.create_user(f"team-{uuid.uuid4().hex[:8]}")
    team = Group.objects.create(name=f"team-{uuid.uuid4().hex[:8]}")
    Membership.objects.create(organization=org, user=user, role="viewer")
    Membership.objects.create(organization=org, group=team, role="operator")
    client = Client()
    client.force_login(user)
    assert client.post("/flows/asks/pause/").status_code == 403
    user.groups.add(team)
    assert client.post("/flows/asks/pause/").status_code == 302
    assert client.post("/flows/asks/resume/").status_code == 302
    team.delete()
    assert client.post("/flows/asks/pause/").status_code == 403


def test_an_operator_of_the_installation_chooses_and_the_choice_stays(org: Organization, run: Run) -> None:
    client = login(is_superuser=True)
    assert client.get(f"/runs/{run.id}/?org=nobody").status_code == 404
    assert client.get(f"/runs/{run.id}/?org={org.slug}").status_code == 200
    assert org.slug.encode() in client.get("/flows/").content
    assert client.post("/flows/asks/pause/").status_code == 302
    assert client.post("/flows/asks/resume/").status_code == 302


def test_a_member_of_two_organizations_switches_and_of_no_third(
    org: Organization, other: Organization, run: Run
) -> None:
    client = login(of=org, role="operator")
    assert client.get(f"/?org={org.slug}").status_code == 200
    for wanted in ("somebody", other.slug, str(other.id)):
        answer = client.get(f"/?org={wanted}")
        assert (answer.status_code, f"no organization &#x27;{wanted}&#x27;" in answer.content.decode()) == (404, True)
        assert client.post("/switch/", {"organization": wanted}).status_code == 404
    assert client.get("/?org=%00").status_code == 422
    assert b'action="/switch/"' not in client.get("/").content, "one organization needs no switch"
    user = get_user_model().objects.get(id=client.session["_auth_user_id"])
    Membership.objects.create(organization=other, user=user, role="viewer")
    assert b'action="/switch/"' in client.get("/").content
    assert client.post("/switch/", {"organization": other.slug}).status_code == 302
    assert client.get(f"/runs/{run.id}/").status_code == 404
    assert client.get(f"/api/runs/{run.id}/stream").status_code == 404
    assert client.post(f"/runs/{run.id}/cancel/").status_code == 403, "a viewer there"
    assert client.post("/switch/", {"organization": str(org.id)}).status_code == 302
    assert client.get(f"/runs/{run.id}/").status_code == 200
    Membership.objects.filter(organization=org, user=user).delete()
    assert client.get(f"/runs/{run.id}/").status_code == 404
    assert other.slug in client.get("/flows/").content.decode(), "what was chosen is not the login's any more"


def test_where_there_are_many_organizations_their_name_is_typed(
    org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = login(of=org)
    user = get_user_model().objects.get(id=client.session["_auth_user_id"])
    Membership.objects.create(organization=other, user=user, role="viewer")
    assert '<select name="organization"' in client.get("/").content.decode()
    monkeypatch.setattr(dashboard_access, "MOST_SHOWN", 1)
    assert client.post("/switch/", {"organization": other.slug}).status_code == 302
    page = client.get("/").content.decode()
    assert f'<input name="organization" list="organizations" value="{other.slug}"' in page
    assert f'<option value="{min(org.slug, other.slug)}"></option>' in page
    assert f'<option value="{max(org.slug, other.slug)}"></option>' not in page


@pytest.mark.parametrize(
    ("model", "verb", "see"),
    [
        ("headrace_workflows/run", "cancel", "headrace_workflows.view_run"),
        ("headrace_workflows/run", "replay", "headrace_workflows.view_run"),
        ("headrace_workflows/accesskey", "revoke", "headrace_workflows.view_accesskey"),
        ("headrace_workflows/bulkoperation", "stop", "headrace_workflows.view_bulkoperation"),
        ("headrace_dlq/deadletter", "ignore", "headrace_dlq.view_deadletter"),
        ("django_celery_beat/periodictask", "run_tasks", "django_celery_beat.view_periodictask"),
        ("django_celery_beat/periodictask", "disable_tasks", "django_celery_beat.view_periodictask"),
    ],
)
def test_who_may_only_look_has_no_action_in_the_admin(org: Organization, model: str, verb: str, see: str) -> None:
    row, _ = AccessKey.issue(org, "api", "kept")
    client = login(see, of=org, is_staff=True)
    page = client.get(f"/admin/{model}/")
    assert (page.status_code, f'value="{verb}"' in page.content.decode()) == (200, False)
    client.post(f"/admin/{model}/", {"action": verb, "_selected_action": [str(row.pk)]})
    row.refresh_from_db()
    assert row.revoked_at is None


# --- events without a key -------------------------------------------------------------------------------------------


def send(headers: dict[str, str], key: str = "NO_EVENT_KEY_SET", **more: Any) -> Any:
    body = json.dumps({"name": f"page/{uuid.uuid4()}"})
    return Client().post(f"/e/{key}", body, content_type="text/plain", headers=headers, **more)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver:3000"},
        {"origin": "https://testserver"},
        {"referer": "https://evil.example/page"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "same-origin", "origin": "https://evil.example"},
    ],
)
def test_a_page_of_another_site_starts_nothing_without_a_real_key(
    org: Organization, headers: dict[str, str], settings: Any
) -> None:
    assert configuration().any_event_key_on_loopback
    answer = send(headers)
    assert (answer.status_code, "page of another site" in answer.json()["error"]) == (401, True)
    key = AccessKey.issue(org, "event", "real")[1]
    assert send(headers, key).status_code == 200  # one with a real key may send from wherever it is


@pytest.mark.parametrize("headers", [{}, {"sec-fetch-site": "none"}, {"origin": "http://testserver"}])
def test_a_program_of_this_machine_needs_no_key(org: Organization, headers: dict[str, str]) -> None:
    assert send(headers).status_code == 200


def test_a_name_that_points_here_is_no_way_in(org: Organization, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    assert send({}, SERVER_NAME="evil.example").status_code == 401
    assert send({}, SERVER_NAME="127.0.0.1").status_code == 200
    settings.ALLOWED_HOSTS = ["localhost"]
    assert send({}, SERVER_NAME="evil.example").status_code == 400


# --- what pages may load --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/login/", "/admin/login/", "/", "/api/docs", "/api/openapi.json", "/healthz", "/nothing"]
)
def test_every_answer_has_a_policy_without_inline_scripts(org: Organization, path: str) -> None:
    answer = login(is_superuser=True).get(path)
    rules = dict(rule.strip().split(" ", 1) for rule in answer["Content-Security-Policy"].split(";"))
    assert rules["script-src"] == "'self'"
    assert (rules["default-src"], rules["frame-ancestors"], rules["base-uri"]) == ("'none'", "'none'", "'none'")
    assert ("unsafe-inline" in rules["style-src"]) == path.startswith(("/admin", "/api/docs"))
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer["X-Frame-Options"] == "DENY"
    assert b"https://cdn" not in answer.content
