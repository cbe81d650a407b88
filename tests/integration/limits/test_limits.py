"""Limits as people meet them: declared in a flow, overridden live, explained, reported, simulated."""

from __future__ import annotations

import itertools
import json
import re
import uuid
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.support import probes
from tests.support.workers import WorkerPool, await_end, await_that, by_key, publish, run_to_end, statuses
from throttling.models import ThrottleChange, ThrottleOverride
from workflows import services
from workflows.engine.maintenance import gate_sync
from workflows.engine.pipeline import admit
from workflows.errors import FlowNotFound, InvalidInput
from workflows.models import AccessKey, Organization, Run, StepRun
from workflows.selectors import limits as limit_selectors
from workflows.services import limits as flow_control


class Api:
    def __init__(self, key: str) -> None:
        self.client, self.headers = Client(), {"authorization": f"Bearer {key}"}

    def get(self, path: str) -> Any:
        return self.client.get(f"/api{path}", headers=self.headers)

    def put(self, body: dict[str, Any]) -> Any:
        return self.client.put("/api/limits", json.dumps(body), content_type="application/json", headers=self.headers)

    def delete(self, path: str) -> Any:
        return self.client.delete(f"/api/limits{path}", headers=self.headers)


@pytest.fixture
def api(api_key: str) -> Api:
    return Api(api_key)


@pytest.fixture
def operator(org: Organization) -> Api:
    return Api(AccessKey.issue(org, "api", "operator", operator=True)[1])


def step(type_: str = "probe", **more: Any) -> dict[str, Any]:
    return {"id": "a", "type": type_, **more}


# --- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["event.data.missing", "event.data.list", "event.data.none", "event.data.object"])
def test_a_key_that_can_not_be_used_fails_the_step_and_admits_nothing(
    org: Organization, workers: WorkerPool, key: str
) -> None:
    detail = run_to_end(
        org,
        [step(throttling={"concurrency": 1, "key": key})],
        {"list": [1], "none": None, "object": {"a": 1}},
    )
    error = by_key(detail)["a"].attempts[0].error
    assert statuses(detail) == {"a": "failed"}
    assert (error["category"], len(by_key(detail)["a"].attempts)) == ("configuration", 1)
    assert key in error["message"]
    assert probes.spans({str(detail.run.id)}) == []


def test_an_unknown_shared_limit_fails_the_step(org: Organization, workers: WorkerPool) -> None:
    detail = run_to_end(org, [step(throttling={"limit": "nobody-made-it"})])
    error = by_key(detail)["a"].attempts[0].error
    assert error["category"] == "configuration"
    assert "limits set --limit nobody-made-it" in error["message"]


def test_each_value_of_a_key_has_a_limit_of_its_own_and_idle_ones_leave_nothing(
    org: Organization, workers: WorkerPool
) -> None:
    slug = publish(org, [step(throttling={"concurrency": 1, "key": "event.data.user"}, config={"hold_ms": 30})])
    users = [f"{org.slug}-{number % 20}" for number in range(100)]
    runs = services.trigger_many(org, slug, [{"user": user} for user in users]).run_ids
    await_that(lambda: Run.objects.filter(org_id=org.id, status="completed").count() == 100, 30)
    found = probes.spans({str(run) for run in runs})
    by_user = {str(run): user for run, user in zip(runs, users, strict=True)}
    for user in set(users):
        assert probes.most_at_once([span for span in found if by_user[span.run] == user], {}) == 1
    pattern = f"*{org.slug}-*"
    await_that(lambda: not list(admit.gate().client.scan_iter(match=pattern, count=1000)), 10, "no key is left")


# --- live changes -----------------------------------------------------------------------------------------------------


def test_an_override_is_put_read_and_removed(api: Api, org: Organization) -> None:
    body = {"scope": "type", "type": "noop", "concurrency": 3, "rate": {"limit": 5, "period": "10s"}, "note": "calm"}
    made = api.put(body)
    assert made.status_code == 200, made.content
    assert made.json()["rate"] == {"limit": 5, "periodMs": 10_000, "algorithm": "window", "burst": 1}
    assert any(o["type"] == "noop" and o["concurrency"] == 3 for o in api.get("/limits").json()["overrides"])
    publish(org, [step("data_transform", config={"expression": "1"})])
    gate_sync.GateSync().rebuild()  # a limit came, so an epoch begins; there is no leader here
    shown = {line["limit"]: line["max"] for line in api.get("/limits").json()["limits"]}
    assert shown[f"c:type:data_transform:{org.id}:concurrency"] == 100_000  # nobody has asked for it yet
    again = api.put({**body, "concurrency": 4})
    assert again.json()["concurrency"] == 4
    history = [c for c in api.get("/limits/history").json() if c["what"].startswith("type noop")]
    assert [c["after"]["concurrency"] for c in history[:2]] == [4, 3]
    assert "API key" in history[0]["by"]
    assert api.delete("?scope=type&type=noop").status_code == 200
    assert api.delete("?scope=type&type=noop").status_code == 404
    assert api.get("/limits/history").json()[0]["after"] is None


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"scope": "type", "type": "noop", "concurrency": 0}, 422, "out of range"),
        ({"scope": "type", "type": "noop", "concurrency": -1}, 422, "out of range"),
        ({"scope": "type", "type": "noop", "concurrency": 1.5}, 422, "integer"),
        ({"scope": "type", "type": "noop", "concurrency": 10**7}, 422, "out of range"),
        ({"scope": "galaxy", "concurrency": 1}, 422, "scope 'galaxy' is unknown"),
        ({"scope": "type", "type": "nope", "concurrency": 1}, 422, "no step type"),
        ({"scope": "type", "concurrency": 1}, 422, "no step type"),
        ({"scope": "flow", "flow": "missing", "concurrency": 1}, 404, "There is no flow 'missing'"),
        ({"scope": "limit", "concurrency": 1}, 422, "needs name"),
        ({"scope": "limit", "name": "x"}, 422, "changes something"),
        ({"scope": "limit", "name": "x", "rate": {"limit": 5, "period": "soon"}}, 422, "rate.period"),
        ({"scope": "limit", "name": "x", "concurrency": 1, "key": "event.("}, 422, "event.("),
        ({"scope": "org", "weight": 0}, 422, "weight"),
        ({"scope": "org", "weight": 2}, 403, "No API key sets a weight"),
        ({"scope": "global", "concurrency": 5}, 403, "operator"),
        ({"scope": "type", "type": "noop", "concurrency": 5, "organization": "all"}, 403, "operator"),
        ({"scope": "type", "type": "noop", "concurrency": 5, "surprise": 1}, 422, "surprise"),
    ],
)
def test_bad_overrides_are_refused_and_nothing_is_stored(
    api: Api, body: dict[str, Any], status: int, reason: str
) -> None:
    before = ThrottleChange.objects.count()
    answer = api.put(body)
    assert (answer.status_code, answer["content-type"]) == (status, "application/problem+json")
    assert reason in answer.json()["detail"]
    assert ThrottleChange.objects.count() == before


def test_an_override_of_a_missing_flow_is_refused(org: Organization) -> None:
    with pytest.raises(FlowNotFound):
        flow_control.put_limit(ThrottleOverride(scope="flow", flow_id=uuid.uuid4(), concurrency=1), by="test")
    with pytest.raises(InvalidInput):
        flow_control.put_limit(ThrottleOverride(scope="limit", name="x", concurrency=None), by="test")


def test_a_waiting_step_says_why_and_starts_when_the_limit_is_raised(
    api: Api, org: Organization, workers: WorkerPool
) -> None:
    name = f"busy-{org.slug}"
    assert api.put({"scope": "limit", "name": name, "concurrency": 1}).status_code == 200
    slug = publish(org, [step("probe_async", config={"hold_ms": 2_000}, throttling={"limit": name})])
    runs = services.trigger_many(org, slug, [{}] * 4).run_ids
    await_that(lambda: len(probes.spans({str(run) for run in runs})) == 1)
    waiting = await_that(lambda: StepRun.objects.filter(org_id=org.id, status="ready").order_by("id").last())
    reason = api.get(f"/limits/explain?stepRun={waiting.id}").json()
    assert reason["sentence"].startswith(
        f"Waits for the concurrency of the shared limit '{name}': 1 of 1 at once in use"
    )
    assert (reason["used"], reason["max"], reason["waiting"]) == (1, 1, 3)
    shown = api.get(f"/runs/{waiting.run_id}").json()["steps"][0]
    assert (shown["waitingFor"], shown["waitingReason"][:40]) == ("limit", reason["sentence"][:40])
    out = StringIO()
    call_command("limits", "--org", org.slug, "explain", str(waiting.run_id), stdout=out)
    assert name in out.getvalue()
    line = next(each for each in api.get("/limits").json()["limits"] if name in each["limit"])
    assert (line["inUse"], line["waiting"], line["refused"]) == (1, 3, 3)
    assert api.put({"scope": "limit", "name": name, "concurrency": 4}).status_code == 200
    await_that(lambda: len(probes.spans({str(run) for run in runs})) == 4, 1.5, "all have started")
    for run in runs:
        assert await_end(org, run).run.status == "completed"


def test_explain_of_what_does_not_wait(api: Api, org: Organization, workers: WorkerPool) -> None:
    detail = run_to_end(org, [step()])
    row = by_key(detail)["a"].step_run
    sentence = api.get(f"/limits/explain?stepRun={row.id}").json()["sentence"]
    assert re.fullmatch(
        r"Does not wait: it is completed\. Before its last start it waited \d+(\.\d+)? (ms|s)\.", sentence
    ), sentence
    assert api.get(f"/limits/explain?stepRun={uuid.uuid4()}").status_code == 404


def test_a_step_without_a_worker_says_so(org: Organization, own_workers: WorkerPool) -> None:
    slug = publish(org, [step()])
    admit.gate().wake({"queue:headrace.io": f"0|{10**15}||0"})
    run = services.trigger(org, slug).run_ids[0]
    row = StepRun.objects.get(run_id=run)
    try:
        await_that(lambda: "none serves the queue" in limit_selectors.reason_of(row).sentence, 10)
    finally:
        admit.gate().begin_epoch(anew=True)
        own_workers.start("io")
    assert await_end(org, run).run.status == "completed"


# --- providers --------------------------------------------------------------------------------------------------------


def test_retry_after_pauses_the_provider_for_all_steps(
    org: Organization, workers: WorkerPool, httpserver: HTTPServer
) -> None:
    """One call is refused; the others wait for the time that it was told instead of being refused as well."""
    calls: list[str] = []

    def answer(request: Request) -> Response:
        calls.append(request.path)
        return Response("slow down", 429, {"retry-after": "2"}) if len(calls) == 1 else Response("ok")

    httpserver.expect_request("/first").respond_with_handler(answer)
    httpserver.expect_request("/other").respond_with_handler(answer)
    first = publish(org, [step("http_request", config={"url": httpserver.url_for("/first")})], slug="first")
    other = publish(org, [step("http_request", config={"url": httpserver.url_for("/other")})], slug="other")
    begun = services.trigger(org, first).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id=begun, status="waiting").exists())
    runs = services.trigger_many(org, other, [{}] * 5).run_ids
    row = StepRun.objects.get(run_id=runs[0])
    await_that(lambda: f"the pause that {httpserver.host} asked for" in limit_selectors.reason_of(row).sentence, 5)
    assert calls == ["/first"]
    for run in (begun, *runs):
        detail = await_end(org, run)
        assert detail.run.status == "completed"
        assert by_key(detail)["a"].step_run.attempt == 1
    assert len(calls) == 7
    assert Run.objects.filter(org_id=org.id).count() == 6


def test_an_exhausted_quota_pauses_before_anything_is_refused(
    org: Organization, workers: WorkerPool, httpserver: HTTPServer
) -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}
    httpserver.expect_request("/quota").respond_with_data("ok", headers=headers)
    slug = publish(
        org, [step("http_request", config={"url": httpserver.url_for("/quota")}, throttling={"concurrency": 1})]
    )
    runs = services.trigger_many(org, slug, [{}] * 3).run_ids
    for run in runs:
        assert await_end(org, run).run.status == "completed"
    starts = StepRun.objects.filter(org_id=org.id).order_by("started_at").values_list("started_at", flat=True)
    seconds = [start.timestamp() for start in starts if start]
    assert all(after - before > 0.9 for before, after in itertools.pairwise(seconds))
