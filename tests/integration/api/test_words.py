"""One word for one thing over REST, command line and pages; a query that means nothing is refused."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from tests.integration.api.test_api import Api, assert_problem
from tests.integration.api.test_edges import JSON, OPERATIONS, Site
from tests.support.admin_site import staff
from tests.support.workers import WorkerPool, leave_nothing, publish
from workflows import presenters, selectors, services
from workflows.models import AccessKey, BulkOperation, LeaderLease, Organization, Run, Trigger
from workflows.steps import callback_urls


@pytest.fixture
def api(api_key: str) -> Api:
    return Api(api_key)


@pytest.fixture
def two(org: Organization) -> Any:
    """A run of each of two flows."""
    runs = {}
    for slug in ("one", "other"):
        publish(org, [{"id": "a", "type": "noop"}], slug=slug)
        runs[slug] = str(services.trigger(org, slug, delay="1h").run_ids[0])
    yield runs
    leave_nothing(org)


# --- queries -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=[f"{m} {p}" for m, p, _ in OPERATIONS])
def test_an_operation_refuses_what_it_does_not_declare_and_what_is_said_twice(
    method: str, path: str, operation: dict[str, Any], org: Organization
) -> None:
    site = Site(org)
    site.known |= {"name": "io"} if "/queues/" in path or "/secrets/" in path else {}
    address = site.address(path.lstrip("/").replace("{", "<").replace("}", ">"))
    known = sorted(each["name"] for each in operation.get("parameters", []) if each["in"] == "query")
    answer = site.keyed.generic(method.upper(), f"{address}?nonsense=1", b"{}", content_type=JSON)
    assert_problem(answer, 422, "invalid_input", "query: 'nonsense' is unknown; ")
    assert all(name in answer.json()["detail"] for name in known)
    for name in known:
        answer = site.keyed.generic(method.upper(), f"{address}?{name}=a&{name}=b", b"{}", content_type=JSON)
        assert_problem(answer, 422, "invalid_input", f"{name!r} is given 2 times")
    stranger = site.stranger.generic(method.upper(), f"{address}?nonsense=1", b"{}", content_type=JSON)
    assert stranger.status_code == 401


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/runs?state=failed", "status"),
        ("/runs?after=2026-01-01", "since"),
        ("/runs?before=2026-01-01", "until"),
        ("/runs?size=5", "limit"),
        ("/runs?Status=failed", "status"),
        ("/runs?staus=failed", "status"),
        ("/runs?user=x", "userId"),
        ("/dlq?flwo=x", "flow"),
        ("/dlq?q=x", "search"),
        ("/limits/explain?step_run=x", "stepRun"),
        ("/stream?organization=x", "org"),
        ("/stream?lasteventid=x", "lastEventId"),
    ],
)
def test_a_refusal_names_what_was_meant(api: Api, path: str, meant: str) -> None:
    assert_problem(api.client.get(f"/api{path}"), 422, "invalid_input", f"Did you mean {meant!r}?")


@pytest.mark.parametrize("path", ["/api/stream", "/api/runs/{}/stream"])
def test_a_stream_refuses_what_it_does_not_know(api: Api, path: str, two: dict[str, str]) -> None:
    address = path.format(two["one"])
    assert_problem(api.client.get(f"{address}?flow=x"), 422, "invalid_input", "use lastEventId, org")
    assert_problem(api.client.get(f"{address}?org=a&org=b"), 422, "invalid_input", "given 2 times")


def test_senders_append_what_they_like(org: Organization) -> None:
    publish(org, [{"id": "a", "type": "noop"}], slug="hooked", on={"webhook": "none", "name": "walk/hook"})
    run_id = services.trigger(org, "hooked", delay="1h").run_ids[0]
    key = AccessKey.issue(org, "event", "e")[1]
    token = Trigger.objects.get(flow__organization=org).token
    assert callback_urls.token_of(run_id, "a")
    for address in (f"/e/{key}", f"/hooks/{token}", f"/callbacks/{callback_urls.token_of(run_id, 'a')}"):
        answer = Client().post(f"{address}?utm=1&utm=2&x", {"name": "walk/x"}, content_type=JSON)
        assert answer.status_code in {200, 202}, (address, answer.content)


# --- flow, and the old workflow ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["flow", "workflow"])
def test_runs_and_dead_letters_are_filtered_by_both_words(api: Api, two: dict[str, str], word: str) -> None:
    assert [run["id"] for run in api.get("/runs", **{word: "one"}).json()["runs"]] == [two["one"]]
    assert api.get("/runs", **{word: "none"}).json()["runs"] == []
    assert api.get("/dlq", **{word: "one"}).json()["deadLetters"] == []
    started = api.post("/runs/bulk/cancel", {"filter": {word: "one"}, "dryRun": True}).json()
    assert started["matched"] == 1
    assert api.post("/dlq/replay", {"filter": {word: "one"}, "dryRun": True}).json()["matched"] == 0


def test_both_words_at_once_are_refused(api: Api) -> None:
    assert_problem(api.client.get("/api/runs?flow=a&workflow=b"), 422, "invalid_input", "the old word for 'flow'")
    both = {"filter": {"flow": "a", "workflow": "b"}}
    assert_problem(api.post("/runs/bulk/cancel", both), 422, "invalid_input", "the old word for 'flow'")
    assert_problem(api.post("/dlq/replay", both), 422, "invalid_input", "the old word for 'flow'")


def test_what_is_read_has_the_new_word_and_keeps_the_old(api: Api, org: Organization, two: dict[str, str]) -> None:
    publish(org, [{"id": "a", "type": "noop"}], slug="cron", on={"cron": "0 3 * * *"})
    summary, detail = api.get("/runs", flow="one").json()["runs"][0], api.get(f"/runs/{two['one']}").json()
    for each in (summary, detail, api.get("/schedules").json()[0]):
        assert each["flow"] == each["workflow"] in {"one", "cron"}
    assert api.get("/dlq/stats").json()["byFlow"] == {}


def test_an_operation_that_was_stored_with_the_old_word_goes_on(org: Organization, two: dict[str, str]) -> None:
    assert selectors.live_runs_matching(org, {"workflow": "one"}).count() == 1


def test_the_dashboard_filters_by_both_words(org: Organization, two: dict[str, str]) -> None:
    browser = staff(superuser=True)
    for word in ("flow", "workflow"):
        page = browser.get(f"/?org={org.slug}&{word}=one", headers={"hx-request": "true"}).content.decode()
        assert (two["one"] in page, two["other"] in page) == (True, False)


@pytest.mark.parametrize(
    "words",
    [["--flow", "one"], ["--workflow", "one"], ["--flow", "one", "--user", ""], ["--workflow", "one", "--userId", ""]],
)
def test_commands_take_both_words(org: Organization, two: dict[str, str], words: list[str]) -> None:
    out = StringIO()
    call_command("runs", "--org", org.slug, "--json", "list", *words, stdout=out)
    assert [run["id"] for run in json.loads(out.getvalue())["runs"]] == [two["one"]]
    call_command("runs", "--org", org.slug, "cancel", *words, "--no-wait", stdout=out)
    latest = BulkOperation.objects.filter(org_id=org.id).latest("id")
    assert (latest.matched, latest.filter["flow"]) == (1, "one")


# --- what is said is so --------------------------------------------------------------------------------------------------


def test_a_run_that_ended_is_explained(org: Organization, two: dict[str, str]) -> None:
    services.cancel_run(org, uuid.UUID(two["one"]))
    run = Run.objects.get(id=two["one"])
    out = StringIO()
    call_command("limits", "--org", org.slug, "explain", str(run.id), stdout=out)
    assert "The run is cancelled since" in out.getvalue()
    assert "None of its steps was started" in out.getvalue()
    step = selectors.run_detail(org, run.id).steps[0]
    call_command("limits", "--org", org.slug, "explain", str(step.step_run.id), stdout=out)
    assert "a: Does not wait: it is cancelled" in out.getvalue()
    with pytest.raises(CommandError, match="no step run and no run"):
        call_command("limits", "--org", org.slug, "explain", str(uuid.uuid4()), stdout=out)
    assert presenters.run_out(selectors.run_detail(org, run.id))["flow"] == "one"


def test_the_scheduler_is_initialized_while_a_worker_leads(api: Api, own_workers: WorkerPool) -> None:
    """No worker is here that would lead."""
    LeaderLease.objects.all().delete()
    assert api.get("/workflows/queue/stats").json()["scheduler"]["initialized"] is False
    now = timezone.now()
    LeaderLease.objects.create(name="maintenance", holder=uuid.uuid4(), expires_at=now + dt.timedelta(minutes=5))
    assert api.get("/workflows/queue/stats").json()["scheduler"]["initialized"] is True
    LeaderLease.objects.update(expires_at=now - dt.timedelta(minutes=5))
    assert api.get("/workflows/queue/stats").json()["scheduler"]["initialized"] is False
    LeaderLease.objects.all().delete()
