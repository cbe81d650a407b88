"""A run has one status, wherever it is shown, and the filter of a list goes by it."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client

from tests.support.workers import WorkerPool, await_that, publish
from workflows import services
from workflows.models import AccessKey, Organization, Run, StepRun

ASK = {"id": "ask", "type": "wait_for_approval"}


@pytest.fixture
def waiting(org: Organization, workers: WorkerPool) -> UUID:
    """A run that waits for a person: nothing of it is ready or runs."""
    slug = publish(org, [ASK], on=[{"event": "status/asked"}])
    (run,) = services.trigger(org, slug).run_ids
    await_that(lambda: StepRun.objects.filter(run_id=run, status="waiting").exists(), 20)
    assert Run.objects.get(id=run).status == "running"
    return run


@pytest.fixture
def site(org: Organization) -> Client:
    client = Client()
    user = get_user_model().objects.create_superuser(f"u-{org.slug}", password="p")
    client.force_login(user)
    session = client.session
    session["organization"] = str(org.id)
    session.save()
    return client


def api(key: str, path: str) -> Any:
    answer = Client(headers={"authorization": f"Bearer {key}"}).get(f"/api{path}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def cli(org: Organization, *arguments: str) -> Any:
    out = StringIO()
    call_command("runs", "list", "--json", "--org", org.slug, *arguments, stdout=out)
    return json.loads(out.getvalue())


def test_api_and_command_list_it_as_its_page_shows_it(org: Organization, api_key: str, waiting: UUID) -> None:
    assert api(api_key, f"/runs/{waiting}")["status"] == "waiting"
    for query, found in (("", 1), ("?status=waiting", 1), ("?status=running", 0), ("?status=queued", 0)):
        runs = api(api_key, f"/runs{query}")["runs"]
        assert [run["status"] for run in runs] == ["waiting"] * found, query
    assert [run["status"] for run in cli(org)["runs"]] == ["waiting"]
    assert [run["status"] for run in cli(org, "--status", "waiting")["runs"]] == ["waiting"]
    assert cli(org, "--status", "running")["runs"] == []
    assert api(api_key, f"/jobs/{waiting}")["state"] == "delayed"


def test_an_event_lists_its_runs_as_they_are(org: Organization, api_key: str, workers: WorkerPool) -> None:
    publish(org, [ASK], on=[{"event": "status/asked"}])
    key = AccessKey.issue(org, AccessKey.Kind.EVENT, "test")[1]
    sent = Client().post(f"/e/{key}", {"name": "status/asked", "data": {}}, content_type="application/json")
    event = sent.json()["ids"][0]
    run = await_that(lambda: Run.objects.filter(event_id=event).first(), 20)
    await_that(lambda: StepRun.objects.filter(run_id=run.id, status="waiting").exists(), 20)
    assert [each["status"] for each in api(api_key, f"/events/{event}")["runs"]] == ["waiting"]


def test_dashboard_and_admin_show_it_too(org: Organization, waiting: UUID, site: Client) -> None:
    for address, found in (
        (f"/?status=waiting&organization={org.slug}", True), (f"/?status=running&organization={org.slug}", False),
        ("/admin/headrace_workflows/run/?status=waiting", True), ("/admin/headrace_workflows/run/?status=running", False),
        ("/admin/headrace_workflows/run/", True),
    ):  # fmt: skip
        page = site.get(address)
        assert page.status_code == 200, address
        assert (str(waiting) in page.content.decode()) is found, address
    row = next(
        part
        for part in site.get("/admin/headrace_workflows/run/").content.decode().split("<tr")
        if str(waiting) in part
    )
    assert ">waiting<" in row
    assert ">waiting<" in site.get(f"/admin/headrace_workflows/run/{waiting}/change/").content.decode()


def test_what_is_at_work_is_shown_as_running(org: Organization, api_key: str, workers: WorkerPool) -> None:
    slug = publish(org, [{"id": "a", "type": "probe_async", "config": {"hold_ms": 3_000}}])
    (run,) = services.trigger(org, slug).run_ids
    await_that(lambda: StepRun.objects.filter(run_id=run, status="running").exists(), 20)
    assert [each["status"] for each in api(api_key, "/runs?status=running")["runs"]] == ["running"]
    assert api(api_key, "/runs?status=waiting")["runs"] == []
