"""The REST API over HTTP semantics: keys, shapes, problem documents."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.support.workers import WorkerPool, await_that, publish, shipped_policies
from workflows import selectors, services
from workflows.models import AccessKey, Event, Organization, Run


class Api:
    """A client with a key."""

    def __init__(self, key: str) -> None:
        self.client = Client(headers={"authorization": f"Bearer {key}"}, raise_request_exception=False)

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"/api{path}", query)

    def post(self, path: str, body: Any = None, raw: str | None = None) -> Any:
        if raw is not None:
            return self.client.post(f"/api{path}", raw, content_type="application/json")
        return self.client.post(f"/api{path}", body, content_type="application/json")


@pytest.fixture
def api(api_key: str) -> Api:
    return Api(api_key)


def noop_flow(org: Organization, **more: Any) -> str:
    return publish(org, [{"id": "a", "type": "noop", "config": {"output": "${ input.x }"}}], **more)


def assert_problem(answer: Any, status: int, code: str, says: str) -> None:
    assert answer.status_code == status, answer.content
    assert answer["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:headrace:{code}")
    assert says in body["detail"]


@pytest.mark.parametrize("header", [None, "Bearer nonsense", "Basic x", "Bearer "])
def test_a_key_is_required(org: Organization, header: str | None) -> None:
    client = Client(headers={"authorization": header} if header else {})
    for answer in (
        client.get("/api/workflows"),
        client.post("/api/workflows/x/run"),
        client.get(f"/api/runs/{uuid.uuid4()}"),
    ):
        assert_problem(answer, 401, "unauthorized", "API key")


def test_a_revoked_key_and_an_event_key_are_refused(org: Organization) -> None:
    row, key = AccessKey.issue(org, "api", "k")
    assert Api(key).get("/workflows").status_code == 200
    row.revoked_at = row.created_at
    row.save()
    assert Api(key).get("/workflows").status_code == 401
    assert Api(AccessKey.issue(org, "event", "e")[1]).get("/workflows").status_code == 401


def test_a_run_is_started_and_read(api: Api, org: Organization, workers: WorkerPool) -> None:
    slug = noop_flow(org)
    answer = api.post(f"/workflows/{slug}/run", {"triggerData": {"x": 5}, "priority": 1, "userId": "u-1"})
    assert answer.status_code == 202
    body = answer.json()
    assert body == {
        "success": True, "queued": True, "jobId": body["runId"], "runId": body["runId"], "existing": False, "pruned": False,
        "message": "Workflow queued for execution",
    }  # fmt: skip
    await_that(lambda: _ended(api, body["runId"]))
    with shipped_policies():
        run = api.get(f"/runs/{body['runId']}").json()
    assert (run["status"], run["workflow"], run["version"], run["priority"], run["userId"]) == (
        "completed",
        slug,
        1,
        480,
        "u-1",
    )
    assert (run["input"], run["output"], run["totalSteps"], run["completedSteps"], run["failedSteps"]) == (
        {"x": 5},
        5,
        1,
        1,
        0,
    )
    insights = run["throttlingInsights"]
    assert insights["globalDefaults"] == {"concurrency": 10, "rateLimit": "100/60000ms", "retry": "exponential-3x"}
    assert (insights["stepTypeDistribution"], insights["totalRetries"]) == ({"noop": 1}, 0)
    step = run["steps"][0]
    assert (step["id"], step["type"], step["status"], step["attempt"], step["output"], step["input"]) == (
        "a",
        "noop",
        "completed",
        1,
        5,
        {"output": 5},
    )
    assert step["totalStepTime"] >= step["duration"] >= 0
    assert [attempt["status"] for attempt in step["attempts"]] == ["completed"]
    job = api.get(f"/jobs/{body['jobId']}").json()
    assert job == {
        "jobId": body["runId"],
        "runId": body["runId"],
        "state": "completed",
        "progress": 100,
        "result": 5,
        "error": None,
    }


def _ended(api: Api, run_id: str) -> Any:
    run = api.get(f"/runs/{run_id}").json()
    return run if run["endedAt"] else None


def test_an_empty_body_starts_a_run(api: Api, org: Organization) -> None:
    slug = publish(org, [{"id": "a", "type": "noop"}])
    assert api.client.generic("POST", f"/api/workflows/{slug}/run").status_code == 202


def test_an_idempotency_key_answers_with_the_first_run(api: Api, org: Organization) -> None:
    slug = noop_flow(org)
    one, two = (api.post(f"/workflows/{slug}/run", {"idempotencyKey": "k"}).json() for _ in range(2))
    assert (two["runId"], two["existing"], two["message"]) == (
        one["runId"],
        True,
        "An earlier run has this idempotency key",
    )


def test_bad_requests_get_a_problem_document_and_store_nothing(api: Api, org: Organization) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    run = f"/workflows/{noop_flow(org, input_schema=schema)}/run"
    assert_problem(api.post("/workflows/nope/run"), 404, "flow_not_found", "'nope'")
    assert_problem(api.post(run, raw="{not json"), 400, "invalid_json", "Cannot parse")
    assert_problem(api.post(run, {"triggerdata": {}}), 422, "invalid_request", "triggerdata")
    assert_problem(api.post(run, {"priority": 1.5}), 422, "invalid_request", "priority")
    assert_problem(api.post(run, {"priority": 99}), 422, "invalid_input", "1 (first) … 10 (last)")
    assert_problem(api.post(run, {"delay": "soon"}), 422, "invalid_input", "delay: 'soon' is no duration")
    assert_problem(
        api.post(run, {"triggerData": {"x": "y"}}), 422, "invalid_input", 'input.x: "y" is not of type "integer"'
    )
    assert_problem(api.post(run, raw='{"triggerData": {"y": NaN}}'), 422, "invalid_output", "NaN")
    assert_problem(api.post(run, {"triggerData": {"y": "z" * 600_000}}), 413, "payload_too_large", "524,288")
    assert_problem(api.post(run, raw='{"triggerData": "' + "z" * 9_000_000 + '"}'), 413, "payload_too_large", "8 MiB")
    assert_problem(api.post(run, {"triggerData": {"y": "\0"}}), 422, "invalid_output", "NUL")
    assert_problem(api.get(f"/runs/{uuid.uuid4()}"), 404, "run_not_found", "no such run")
    assert_problem(api.get(f"/jobs/{uuid.uuid4()}"), 404, "run_not_found", "no such run")
    assert_problem(api.get("/runs", status="done"), 422, "invalid_input", "'done' is unknown")
    assert_problem(api.get("/runs", cursor="x"), 422, "invalid_input", "cursor")
    assert_problem(api.get("/runs", limit=10_000), 422, "invalid_input", "limit")
    assert_problem(api.get("/runs", since="yesterday"), 422, "invalid_request", "since")
    assert not Run.objects.filter(org_id=org.id).exists()


def test_the_job_of_an_event_waits_until_its_run_is_made(api: Api, org: Organization) -> None:
    event = Event.objects.create(org_id=org.id, name="job/asked", ts=timezone.now())
    job = {"jobId": str(event.id), "runId": None, "state": "waiting", "progress": 0, "result": None, "error": None}
    assert api.get(f"/jobs/{event.id}").json() == job
    Event.objects.filter(id=event.id).update(matched_at=timezone.now())
    assert_problem(api.get(f"/jobs/{event.id}"), 404, "run_not_found", "no such run")


def test_organizations_do_not_see_each_other(api: Api, org: Organization) -> None:
    other = Organization.objects.create(slug=f"o-{uuid.uuid4().hex[:8]}", name="Other")
    slug = publish(other, [{"id": "a", "type": "noop"}], slug="theirs")
    run_id = services.trigger(other, slug).run_ids[0]
    assert api.get(f"/runs/{run_id}").status_code == 404
    assert api.post(f"/runs/{run_id}/cancel").status_code == 404
    assert api.post("/workflows/theirs/run").status_code == 404
    assert api.get("/runs").json()["runs"] == []
    assert api.get("/workflows").json()["workflows"] == []


def test_workflows_are_listed_with_steps_and_triggers(api: Api, org: Organization) -> None:
    publish(org, [{"id": "a", "type": "noop"}], slug="one", name="One", on=[{"event": "x/y"}, {"cron": "0 3 * * *"}])
    assert api.get("/workflows").json() == {"workflows": [{
        "slug": "one", "name": "One", "description": "", "version": 1, "triggers": ["event x/y", "cron 0 3 * * *"],
        "steps": [{"id": "a", "type": "noop"}], "liveRuns": 0, "archivedAt": None,
    }]}  # fmt: skip


def test_step_types_come_with_the_schema_of_their_configuration(api: Api) -> None:
    found = {each["type"]: each for each in api.get("/step-types").json()}
    assert {
        "http_request",
        "oauth_api_call",
        "sandbox_sync",
        "sandbox_async",
        "code_execution",
        "data_transform",
        "conditional",
        "publish_event",
        "delay",
        "noop",
    } <= set(found)
    assert found["http_request"]["configSchema"]["required"] == ["url"]


def test_queue_stats_have_two_shapes(
    api: Api, org: Organization, monkeypatch: pytest.MonkeyPatch, workers: WorkerPool
) -> None:
    slug = publish(org, [{"id": "a", "type": "noop"}], on=[{"cron": "*/5 * * * *"}])
    services.trigger(org, slug, delay="1h")
    services.trigger(org, slug)
    await_that(lambda: Run.objects.filter(org_id=org.id, status="completed").exists())
    with shipped_policies():
        stats = api.get("/workflows/queue/stats").json()
    assert stats == {
        "queue": {
            "available": True, "redis": True,
            "stats": {"waiting": 0, "active": 0, "completed": 1, "failed": 0, "delayed": 1, "total": 1},
        },
        "scheduler": {"initialized": True, "scheduledWorkflows": 1},
        "capacity": {"message": "Running up to 10 workflows concurrently. 0 active, 0 queued."},
    }  # fmt: skip
    monkeypatch.setattr("django.conf.settings.HEADRACE", {"REDIS_URL": "redis://127.0.0.1:1/0"}, raising=False)
    with shipped_policies():
        stats = api.get("/workflows/queue/stats").json()
    assert stats == {
        "queue": {"available": False, "redis": False, "stats": None},
        "capacity": {"recommendation": "Set REDIS_URL to enable queued execution"},
    }


def test_runs_are_filtered_and_paged(api: Api, org: Organization) -> None:
    slug = noop_flow(org)
    ids = [
        api.post(f"/workflows/{slug}/run", {"delay": 3_600_000, "userId": "u" if n == 2 else ""}).json()["runId"]
        for n in range(5)
    ]
    first = api.get("/runs", limit=2).json()
    second = api.get("/runs", limit=2, cursor=first["nextCursor"]).json()
    assert [run["id"] for run in first["runs"] + second["runs"]] == ids[:0:-1]
    assert [run["id"] for run in api.get("/runs", userId="u").json()["runs"]] == [ids[2]]
    assert len(api.get("/runs", status="waiting").json()["runs"]) == 5
    assert api.get("/runs", workflow="other").json()["runs"] == []
    assert api.get("/runs", until="2020-01-01T00:00:00Z").json() == {"runs": [], "nextCursor": None, "searchedTo": None}


def test_a_run_can_be_cancelled(api: Api, org: Organization) -> None:
    slug = noop_flow(org)
    run_id = api.post(f"/workflows/{slug}/run", {"delay": "1h"}).json()["runId"]
    answer = api.post(f"/runs/{run_id}/cancel", {"reason": "mistake"})
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert api.get(f"/jobs/{run_id}").json()["state"] == "failed"


def test_health_and_documents_need_no_key(live_db: None) -> None:
    client = Client()
    assert client.get("/healthz").json() == {"status": "ok"}
    assert set(client.get("/readyz").json()["checks"]) == {
        "database",
        "connections",
        "store",
        "broker",
        "workers",
    }
    schema = client.get("/api/openapi.json").json()
    assert {"/api/workflows/{slug}/run", "/api/runs", "/api/runs/{run_id}", "/api/workflows/queue/stats"} <= set(
        schema["paths"]
    )
    assert client.get("/api/docs").status_code == 200


def test_an_unexpected_error_is_a_problem_document_without_details(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def boom(*_: Any) -> None:
        raise RuntimeError("internal detail")

    monkeypatch.setattr(selectors, "flows", boom)
    answer = api.get("/workflows")
    assert_problem(answer, 500, "internal_error", "log")
    assert b"internal detail" not in answer.content
