"""Expressions that cost without end, and schemas that lead out, at every place that takes one.

They end at their budget with a word, memory stays bounded, and another organization's runs go on meanwhile.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from dlq.models import DeadLetter
from tests.support.workers import WorkerPool, await_end, await_that, publish
from workflows import services
from workflows.errors import InvalidInput, WorkflowsError
from workflows.models import AccessKey, Event, EventSchema, Organization, Run, Trigger, TriggerOutcome
from workflows.services import events as ingest

COMPARE = "event.data.l.map(a, event.data.l.map(b, event.data.l.filter(c, c == a + b).size())).size()"
GROWTH = "event.data.l.map(x, 'aaaaaaaaaa')" + f".map(x, {'+'.join(['x'] * 20)})" * 7 + ".size()"
BOMBS = {"comparisons": COMPARE, "growth": GROWTH}
DATA = {"l": list(range(2_000))}
NOOP = [{"id": "a", "type": "noop"}]
ENDS = "too many steps|builds too much|MiB"


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


@pytest.fixture(params=list(BOMBS.values()), ids=list(BOMBS))
def bomb(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def send(org: Organization, name: str, data: Any = None) -> None:
    ingest.send(org, [{"name": name, "data": DATA if data is None else data}])


def test_as_a_filter_it_is_false(org: Organization, workers: WorkerPool, bomb: str) -> None:
    publish(org, NOOP, slug="bombed", on={"event": "bomb/go", "if": f"{bomb} > 0"})
    publish(org, NOOP, slug="beside", on={"event": "bomb/go"})
    send(org, "bomb/go")
    run = await_that(lambda: Run.objects.filter(org_id=org.id).first(), what="the other flow's run")
    assert await_end(org, run.id).run.status == "completed"
    assert Run.objects.filter(org_id=org.id).count() == 1
    assert Event.objects.get(org_id=org.id).matched_at is not None


@pytest.mark.parametrize("control", ["idempotency", "singleton", "rate_limit", "debounce"])
def test_as_a_key_of_a_control_it_is_refused(org: Organization, workers: WorkerPool, control: str, bomb: str) -> None:
    more: dict[str, Any] = {"rate_limit": {"limit": 5, "period": "1m"}, "debounce": {"period": "1s"}}.get(control, {})
    publish(org, NOOP, slug="bombed", on={"event": "bomb/key"}, **{control: {"key": f"string({bomb})", **more}})
    with pytest.raises(InvalidInput, match=ENDS):
        services.trigger(org, "bombed", DATA)
    send(org, "bomb/key")
    refused = await_that(
        lambda: TriggerOutcome.objects.filter(org_id=org.id, code="invalid").first(), what="the refusal"
    )
    assert refused.reason


def test_as_a_key_of_a_limit_it_fails_the_run(org: Organization, workers: WorkerPool, bomb: str) -> None:
    publish(org, NOOP, slug="bombed", concurrency=[{"limit": 1, "key": f"string({bomb})"}])
    detail = await_end(org, services.trigger(org, "bombed", DATA).run_ids[0])
    assert detail.run.status == "failed"
    letter = DeadLetter.objects.get(org_id=org.id)
    assert letter.category == "configuration"


def test_as_a_priority_it_counts_as_zero(org: Organization, workers: WorkerPool, bomb: str) -> None:
    publish(org, NOOP, slug="bombed", priority=f"{bomb}")
    detail = await_end(org, services.trigger(org, "bombed", DATA).run_ids[0])
    assert (detail.run.status, detail.run.priority) == ("completed", 0)


@pytest.mark.parametrize(
    "step",
    [
        {"type": "noop", "if": "BOMB > 0"},
        {"type": "noop", "config": {"output": "${ BOMB }"}},
        {"type": "data_transform", "config": {"expression": "BOMB"}},
        {"type": "conditional", "config": {"branches": [{"if": "BOMB > 0", "then": ["b"]}]}},
        {"type": "loop", "config": {"while": "BOMB > 0", "max_iterations": 2}, "steps": [{"id": "c", "type": "noop"}]},
    ],
    ids=["if", "template", "expression", "branch", "while"],
)
def test_in_a_step_it_fails_the_step(org: Organization, workers: WorkerPool, step: dict[str, Any], bomb: str) -> None:
    written = json.loads(json.dumps(step).replace("BOMB", bomb))
    publish(org, [{"id": "a", **written}, {"id": "b", "type": "noop"}], slug="bombed")
    detail = await_end(org, services.trigger(org, "bombed", DATA).run_ids[0])
    assert detail.run.status == "failed"
    letter = DeadLetter.objects.get(org_id=org.id)
    assert letter.category == "configuration"
    assert any(word in letter.error_message for word in ("too many steps", "builds too much", "MiB"))


def test_in_a_wait_it_does_not_hold(org: Organization, workers: WorkerPool, bomb: str) -> None:
    condition = f"async.data.id == 'x' && {bomb.replace('event.', 'async.')} > 0"
    wait = {"id": "w", "type": "wait_for_event", "config": {"event": "bomb/wait", "if": condition, "timeout": "3s"}}
    publish(org, [wait], slug="bombed")
    run_id = services.trigger(org, "bombed", {}).run_ids[0]
    await_that(lambda: Run.objects.get(id=run_id).status == "running", what="the wait")
    send(org, "bomb/wait", {**DATA, "id": "x"})
    assert await_end(org, run_id).run.status == "completed"  # by its timeout, which gives null
    assert Event.objects.get(org_id=org.id).matched_at is not None


def test_as_a_transform_of_a_webhook_it_answers_422(org: Organization, bomb: str) -> None:
    transform = f"{{'n': {bomb.replace('event.data', 'body')}}}"
    publish(org, NOOP, slug="bombed", on={"webhook": "none", "name": "bomb/hook", "transform": transform})
    token = Trigger.objects.get(organization=org).token
    answer = Client().post(f"/hooks/{token}", json.dumps(DATA), content_type="application/json")
    assert answer.status_code == 422
    assert "transform" in answer.json()["detail"]


def test_another_organization_goes_on_and_memory_stays(
    org: Organization, other: Organization, workers: WorkerPool
) -> None:
    pids = [os.getpid(), *(process.pid for process in workers.processes)]
    publish(other, NOOP, slug="plain")
    await_end(other, services.trigger(other, "plain", {}).run_ids[0])
    before = {pid: resident_mib(pid) for pid in pids}
    for name, source in BOMBS.items():
        steps = [
            {"id": f"s{n}", "type": "data_transform", "needs": [], "config": {"expression": source}} for n in range(5)
        ]
        publish(org, steps, slug=name, on={"event": "bomb/all", "if": f"{source} > 0"})
    bombed = [services.trigger(org, name, DATA).run_ids[0] for name in BOMBS for _ in range(5)]
    for _ in range(5):
        send(org, "bomb/all")
        assert await_end(other, services.trigger(other, "plain", {}).run_ids[0]).run.status == "completed"
    assert {await_end(org, run_id, 60).run.status for run_id in bombed} == {"failed"}
    assert all(resident_mib(pid) - size < 200 for pid, size in before.items())


OVERSIZED = {
    "operators": "1" + "+1" * 20_000,
    "columns": " " * 70_000 + "1 +",
    "depth": "(" * 5_000 + "1" + ")" * 5_000,
}


@pytest.mark.parametrize("source", OVERSIZED.values(), ids=OVERSIZED)
def test_an_oversized_text_is_refused_at_every_door(org: Organization, api_key: str, source: str) -> None:
    condition = f"{source} > 0"
    for definition in (
        {"on": {"event": "x/y", "if": condition}},
        {"on": {"webhook": "none", "transform": f"{{'a': {source}}}"}},
        {"on": {"event": "x/y", "run_at": source}},
        {"cancel_on": {"event": "x/y", "if": condition}},
        {"idempotency": {"key": source}},
        {"priority": source},
        {"concurrency": {"limit": 1, "key": source}},
        {"throttle": {"limit": 1, "period": "1s", "key": source}},
        {"output": f"${{ {source} }}"},
    ):
        with pytest.raises(WorkflowsError, match="characters|parts|levels|nested|too early"):
            publish(org, NOOP, slug="refused", **definition)
    body = {"scope": "key", "key": source, "concurrency": 3}
    answer = Client(raise_request_exception=False).put(
        "/api/limits", json.dumps(body), content_type="application/json", headers={"Authorization": f"Bearer {api_key}"}
    )
    assert answer.status_code == 422


def test_a_schema_that_leads_out_is_refused_and_nothing_is_called(
    org: Organization, api_key: str, httpserver: Any
) -> None:
    httpserver.expect_request("/schema").respond_with_json({"type": "object"})
    address = httpserver.url_for("/schema")
    client = Client(raise_request_exception=False, headers={"Authorization": f"Bearer {api_key}"})
    for schema in ({"$ref": address}, {"$ref": "file:///etc/hostname"}, {"properties": {"a": {"$ref": "#/nowhere"}}}):
        answer = client.put(
            "/api/events/schemas/b07/put", json.dumps({"schema": schema}), content_type="application/json"
        )
        assert answer.status_code == 422
        assert "$ref" in answer.json()["detail"]
        with pytest.raises(WorkflowsError, match=r"input_schema.*\$ref"):
            publish(org, NOOP, slug="refused", input_schema=schema)
    assert httpserver.log == []


def test_stored_schemas_that_lead_out_stop_no_event(org: Organization, workers: WorkerPool, httpserver: Any) -> None:
    httpserver.expect_request("/schema").respond_with_json({"type": "object"})
    EventSchema.objects.create(organization=org, name="b07/put", schema={"$ref": httpserver.url_for("/schema")})
    EventSchema.objects.create(organization=org, name="b07/file", schema={"$ref": "file:///etc/hostname"})
    EventSchema.objects.create(
        organization=org,
        name="b07/typo",
        schema={"properties": {"item": {"$ref": "#/definitions/Item"}}, "required": ["id"]},
    )
    publish(org, NOOP, slug="all", on={"event": "b07/*"})
    key = AccessKey.issue(org, AccessKey.Kind.EVENT, "test")[1]
    client = Client(raise_request_exception=False)
    events = [{"name": name, "data": {"id": 1, "item": {}}} for name in ("b07/put", "b07/file", "b07/typo")]
    assert client.post(f"/e/{key}", json.dumps(events), content_type="application/json").status_code == 200
    await_that(lambda: Run.objects.filter(org_id=org.id, status="completed").count() == 3, what="three runs")
    misfit = client.post(f"/e/{key}", json.dumps({"name": "b07/typo", "data": {}}), content_type="application/json")
    assert misfit.status_code >= 400
    assert httpserver.log == []
