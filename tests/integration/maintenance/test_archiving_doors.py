"""Archiving and deleting over REST, by command and in the admin, and what every page shows afterwards."""

from __future__ import annotations

import io
import json
import uuid
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from dlq.models import DeadLetter
from tests.integration.api.test_api import Api, assert_problem
from tests.integration.maintenance.test_archiving import NOOP, SLEEP, b26, boss, command, with_history
from tests.support.workers import WorkerPool, await_end, await_that, publish
from workflows import services
from workflows.errors import FlowArchived
from workflows.models import (
    Attempt,
    Flow,
    IdempotencyKey,
    Membership,
    Organization,
    Run,
    TriggerOutcome,
)
from workflows.services import repair
from workflows.services.flows import archiving


def test_rest_says_what_it_wants_to_know(org: Organization, api_key: str, other: Organization) -> None:
    api = Api(api_key)
    b26(org)
    publish(other, [NOOP], slug="theirs")
    assert api.client.delete("/api/workflows/b26-delete").status_code == 422
    assert api.client.delete("/api/workflows/b26-delete?history=some").status_code == 422
    assert_problem(api.post("/workflows/theirs/archive"), 404, "flow_not_found", "theirs")
    assert_problem(api.client.delete("/api/workflows/theirs?history=delete"), 404, "flow_not_found", "theirs")
    assert_problem(api.post("/workflows/b26-delete/unarchive"), 409, "flow_not_archived", "not archived")
    assert api.post("/workflows/b26-delete/archive").json() == {"slug": "b26-delete", "archived": True}
    assert api.post("/workflows/b26-delete/unarchive").json() == {"slug": "b26-delete", "archived": False}
    kept = api.client.delete("/api/workflows/b26-delete?history=keep")
    assert (kept.status_code, kept.json()) == (200, {"slug": "b26-delete", "history": "keep", "done": True})
    assert Client().delete("/api/workflows/b26-delete?history=keep").status_code == 401


def test_the_command_archives_brings_back_and_deletes(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = b26(org)
    assert "starts nothing" in command(org, "archive", flow.slug)
    assert flow.slug not in command(org, "list")
    assert flow.slug in command(org, "list", "--archived")
    assert "flow: b26-delete" in command(org, "export", flow.slug)
    assert command(org, "export").strip() == ""
    assert json.loads(command(org, "unarchive", flow.slug, "--json")) == {"flow": flow.slug, "archived": False}
    monkeypatch.setattr("builtins.input", lambda _: "no")
    with pytest.raises(CommandError, match="Nothing was done"):
        command(org, "delete", flow.slug, "--history", "delete")
    with pytest.raises(CommandError):
        command(org, "delete", flow.slug, "--yes")
    assert "history is kept" in command(org, "delete", flow.slug, "--history", "keep", "--yes")
    assert "deleted with its history" in command(org, "delete", flow.slug, "--history", "delete", "--yes")
    with pytest.raises(CommandError, match="no flow"):
        command(org, "delete", flow.slug, "--history", "delete", "--yes")


def says(answer: Any) -> dict[str, str]:
    """What the page says, by flow."""
    return dict(str(each).split(": ", 1) for each in answer.context["messages"])


def test_the_admin_asks_first_and_says_what_it_did(org: Organization) -> None:
    flow, client, listed = b26(org), boss(org), reverse("admin:headrace_workflows_flow_changelist")
    busy = Flow.objects.get(organization=org, slug=publish(org, [SLEEP], slug="busy"))
    run_id = services.trigger(org, busy.slug).run_ids[0]
    chosen = {"_selected_action": [str(flow.id), str(busy.id)], "action": "archive"}
    assert b"Delete selected" not in client.get(listed).content
    asked = client.post(listed, chosen)
    assert (asked.status_code, b"Archive these flows?" in asked.content) == (200, True)
    assert Flow.objects.get(id=flow.id).archived_at is None
    done = client.post(listed, {**chosen, "confirmed": "yes"}, follow=True)
    assert says(done)["b26-delete"] == "archived."
    assert f"live runs: {run_id}" in says(done)["busy"]
    assert (Flow.objects.get(id=flow.id).archived_at is None, Flow.objects.get(id=busy.id).archived_at) == (False, None)
    assert [f"/{flow.id}/" in client.get(f"{listed}?archived={which}").content.decode() for which in ("", "yes", "all")] == [
        False, True, True,
    ]  # fmt: skip
    one = {"_selected_action": str(flow.id)}
    back = client.post(f"{listed}?archived=yes", {**one, "action": "unarchive"}, follow=True)
    assert says(back) == {"b26-delete": "back."}
    erase = {**one, "action": "delete_with_history"}
    assert b"for good" in client.post(listed, erase).content
    assert Flow.objects.filter(id=flow.id).exists()
    assert "history" in says(client.post(listed, {**erase, "confirmed": "yes"}, follow=True))["b26-delete"]
    await_that(lambda: not Flow.objects.filter(id=flow.id).exists() or archiving.delete_rest(), 30)
    services.cancel_run(org, run_id)


def test_the_admin_offers_it_to_those_who_may(org: Organization) -> None:
    b26(org)
    listed = reverse("admin:headrace_workflows_flow_changelist")
    for codenames, offered in (
        ((), []),
        (("change_flow",), ["archive", "unarchive"]),
        (("delete_flow",), ["delete_with_history"]),
    ):
        name = f"user-{uuid.uuid4().hex[:8]}"
        user = get_user_model().objects.create_user(name, password="secret", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=("view_flow", *codenames)))
        Membership.objects.create(organization=org, user=user, role="viewer")
        client = Client()
        client.login(username=name, password="secret")
        page = client.get(listed).content.decode()
        assert [
            each for each in ("archive", "unarchive", "delete_with_history") if f'value="{each}"' in page
        ] == offered


def pages_of(org: Organization, flow: Flow, run_id: uuid.UUID) -> list[str]:
    """Every list of the admin, and the pages, addresses of REST and commands that could show something of the flow."""
    lists = [
        reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        for model in apps.get_models()
        if model._meta.app_label in {"headrace_workflows", "headrace_dlq", "headrace_throttling", "django_celery_beat"}
        and _has_admin(model)
    ]
    objects = [("flow", flow.id), ("flowversion", flow.current_id), ("run", run_id)]
    shown = [reverse(f"admin:headrace_workflows_{name}_change", args=[id_]) for name, id_ in objects if id_]
    return [*lists, *shown, "/", "/flows/", "/flows/?archived=true", f"/runs/{run_id}/"]


def _has_admin(model: Any) -> bool:
    from django.contrib import admin

    return model in admin.site._registry


@pytest.mark.parametrize("history", ["keep", "delete"])
def test_every_page_is_there_afterwards(org: Organization, api_key: str, workers: WorkerPool, history: str) -> None:
    with_history(org, "walked")
    flow = Flow.objects.get(organization=org, slug="walked")
    run_id = Run.objects.filter(flow=flow).latest("id").id
    letter = DeadLetter.objects.filter(flow=flow).latest("id")
    archiving.delete(org, "walked", history=history, by="test")
    if history == "delete":
        await_that(lambda: not archiving.delete_rest() and not Flow.objects.filter(id=flow.id).exists(), 60)
    client, api, gone = boss(org), Api(api_key), history == "delete"
    for page in pages_of(org, flow, run_id):
        answer = client.get(page, {"org": org.slug} if not page.startswith("/admin") else {})
        about_it = str(run_id) in page or str(flow.id) in page or str(flow.current_id) in page
        assert answer.status_code in ({302, 404} if gone and about_it else {200}), (page, answer.status_code)
    for path in ("/workflows", "/workflows?archived=true", "/runs", "/runs?workflow=walked", "/events", "/dlq", "/dlq/groups",
                 "/limits", "/schedules", "/pauses", "/workflows/queue/stats"):  # fmt: skip
        assert api.client.get(f"/api{path}").status_code == 200, path
    for path in (f"/runs/{run_id}", f"/dlq/{letter.id}"):
        assert api.get(path).status_code == (404 if gone else 200), path
    assert len(api.get("/runs", workflow="walked").json()["runs"]) == (0 if gone else 6)
    for arguments in (("list",), ("list", "--archived"), ("export",)):
        command(org, *arguments)
    call_command("runs", "list", "--org", org.slug, stdout=io.StringIO())
    call_command("dlq", "list", "--org", org.slug, stdout=io.StringIO())
    call_command("limits", "list", "--org", org.slug, stdout=io.StringIO())


def test_repair_of_an_archived_flow_is_refused(org: Organization, workers: WorkerPool) -> None:
    flow = b26(org)
    run_id = services.trigger(org, flow.slug).run_ids[0]
    await_end(org, run_id)
    archiving.archive(org, flow.slug, by="test")
    with pytest.raises(FlowArchived, match="unarchive it first"):
        repair.replay(org, run_id, by="test", dry_run=True)
    assert not Attempt.objects.filter(run_id=run_id, status="failed").exists()
    assert not IdempotencyKey.objects.filter(flow_id=flow.id).exists()
    assert not TriggerOutcome.objects.filter(flow_id=flow.id).exists()
