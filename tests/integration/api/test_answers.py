"""The answers of an organization that has some of everything: each is as the OpenAPI document says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from dlq.models import Alert, AlertRule, DeadLetter
from tests.support.openapi import JSON, OPERATIONS, assert_documented
from tests.support.workers import WorkerPool, await_end, await_that, publish, run_to_end
from throttling.models import ThrottleOverride
from workflows import services
from workflows.api import routes
from workflows.engine.events import receive
from workflows.engine.events.receive import NewEvent
from workflows.models import AccessKey, CronFire, Flow, ObservedTask, Organization, StepRun, Wait
from workflows.services import limits as flow_control
from workflows.services.flows import archiving

Call = tuple[str, str, dict[str, str], Any]
"""Method, path of the document, what stands in path and query, and the body."""
A, FAILS = {"id": "a", "type": "noop"}, {"id": "b", "type": "raises", "config": {"how": "final", "logs": 1}}


class Caller:
    """Calls operations with an operator's key, and keeps which answers it has had."""

    def __init__(self, org: Organization) -> None:
        key = AccessKey.issue(org, "api", "answers", operator=True)[1]
        self.client = Client(headers={"authorization": f"Bearer {key}"})
        self.operations = {(method, path): operation for method, path, operation in OPERATIONS}
        self.seen: set[tuple[str, str, str]] = set()

    def __call__(self, method: str, path: str, body: Any = None, **values: Any) -> Any:
        """The answer's JSON, once it was held against the document. Paths are the document's; values fill them."""
        address = f"/api{path}"
        query = {name: value for name, value in values.items() if f"{{{name}}}" not in path}
        answer = self.client.generic(
            method.upper(),
            address.format_map({name: str(value) for name, value in values.items()}),
            b"" if body is None else json.dumps(body).encode(),
            content_type=JSON,
            query_params=query,
        )
        assert answer.status_code < 300, answer.content
        assert_documented(self.operations[method, address], answer)
        self.seen.add((method, address, str(answer.status_code)))
        return answer.json()

    def missing(self) -> set[tuple[str, str, str]]:
        """The successful answers of the document that it has not had."""
        named = {
            (method, path, status)
            for method, path, operation in OPERATIONS
            for status in operation["responses"]
            if status < "300"
        }
        return named - self.seen


@pytest.fixture
def call(org: Organization, workers: WorkerPool) -> Caller:
    return Caller(org)


def test_every_answer_is_as_documented(call: Caller, org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    flows(call, org, monkeypatch)
    runs(call, org)
    events_of(call, org)
    approvals(call, org)
    limits(call, org)
    letters(call, org)
    observed(call, org)
    access(call)
    of_the_organization(call)
    assert not call.missing()


def test_the_counts_of_the_queue_are_as_documented_without_the_store(
    call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "store_answers", lambda: False)
    assert call("get", "/workflows/queue/stats")["queue"]["available"] is False


def flows(call: Caller, org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    slug = publish(org, [A], slug="nightly", on=[{"cron": "0 3 * * *"}, {"event": "answers/heard"}])
    CronFire.objects.create(
        org_id=org.id,
        flow_id=Flow.objects.get(organization=org, slug=slug).id,
        schedule="0 3 * * * UTC",
        fire_at=timezone.now(),
        outcome="missed",
    )
    assert call("get", "/workflows")["workflows"]
    assert call("get", "/schedules")[0]["latest"]
    call("get", "/step-types")
    call("get", "/workflows/queue/stats")
    call("post", "/scheduler/refresh")
    call("post", "/workflows/{slug}/pause", {"mode": "drain", "reason": "r"}, slug=slug)
    call("post", "/organization/pause", {"arrivals": "skip"})
    call("post", "/queues/{name}/pause", name="compute")
    try:
        assert len(call("get", "/pauses")) >= 3
    finally:
        call("post", "/queues/{name}/resume", name="compute")
        call("post", "/organization/resume")
        call("post", "/workflows/{slug}/resume", slug=slug)
    call("post", "/workflows/{slug}/archive", slug=slug)
    assert call("get", "/workflows", archived="true")["workflows"][0]["archivedAt"]
    call("post", "/workflows/{slug}/unarchive", slug=slug)
    for budget_s in (archiving.AT_ONCE_S, 0.0):
        run_to_end(org, [A], slug="old")
        monkeypatch.setattr(archiving, "AT_ONCE_S", budget_s)
        call("delete", "/workflows/{slug}", slug="old", history="delete")


def access(call: Caller) -> None:
    made = call("post", "/keys", {"name": "n", "scopes": ["run_flows"], "expiresAt": "2030-01-01T00:00:00Z"})
    call("post", "/keys/{key_id}/rotate", {"overlap": "1h"}, key_id=made["id"])
    call("post", "/keys/{key_id}/rename", {"name": "m"}, key_id=made["id"])
    call("post", "/keys/{key_id}/revoke", key_id=made["id"])
    assert len(call("get", "/keys", ended="true")) >= 3
    call("put", "/secrets/{name}", {"value": "a-long-value"}, name="ANSWERED")
    assert [each["updatedBy"] for each in call("get", "/secrets")["secrets"]]
    call("delete", "/secrets/{name}", name="ANSWERED")
    call("put", "/redaction", {"rules": ["password"]})
    call("get", "/redaction")
    assert call("get", "/audit", limit=2)["nextCursor"]


def of_the_organization(call: Caller) -> None:
    call("get", "/organization")
    call("get", "/organization/members")
    assert call("get", "/organization/quotas")
    assert call("get", "/organization/retention")
    call("put", "/organization/retention/{subject}", {"days": 90}, subject="completed")
    call("delete", "/organization/retention/{subject}", subject="completed")


def runs(call: Caller, org: Organization) -> None:
    publish(org, [A, {"id": "long", "type": "delay", "config": {"for": "1h"}}], slug="sleeper")
    sleeper = call("post", "/workflows/{slug}/run", {"triggerData": {}, "userId": "u"}, slug="sleeper")["runId"]
    await_that(lambda: call("get", "/runs/{run_id}", run_id=sleeper)["status"] == "waiting")
    call("get", "/jobs/{reference}", reference=sleeper)
    call("post", "/runs/{run_id}/cancel", {"reason": "r"}, run_id=sleeper)
    recovers = {"id": "b", "type": "raises", "retry": {"attempts": 2, "delay": 1}, "config": {"how": "once:unknown"}}
    reports = {"id": "c", "type": "probe_progress"}
    ended = run_to_end(org, [A, recovers, reports], {"n": 1}, slug="recovers").run.id
    shown = call("get", "/runs/{run_id}", run_id=ended)
    assert [len(step["attempts"]) for step in shown["steps"]] == [1, 2, 1]
    call("post", "/runs/{run_id}/replay", {"dryRun": True, "input": {"n": 2}}, run_id=ended)
    call("post", "/runs/{run_id}/replay", run_id=ended)
    call("post", "/runs/{run_id}/fork", {"fromSteps": ["b"]}, run_id=ended)
    body = {"id": "in", "type": "raises", "config": {"how": "final"}}
    loop = {"id": "m", "type": "map", "config": {"items": "${ [1, 2] }", "on_failure": "continue"}, "steps": [body]}
    container = run_to_end(org, [loop], slug="maps").run.id
    row = StepRun.objects.get(run_id=container, key="m")
    items = call("get", "/steps/{step_run_id}/items", step_run_id=row.id, limit=1)
    assert items["items"][0]["error"]
    assert items["nextCursor"]
    call("get", "/runs/{run_id}", run_id=container)
    call("get", "/jobs/{reference}", reference=container)
    assert call("get", "/runs", limit=1)["nextCursor"]
    bulk(call)


def bulk(call: Caller) -> None:
    call("post", "/runs/bulk/cancel", {"filter": {"flow": "sleeper"}, "dryRun": True})
    started = call("post", "/runs/bulk/cancel", {"filter": {"flow": "sleeper"}, "reason": "r"})
    call("post", "/runs/bulk/replay", {"filter": {"flow": "recovers"}, "mode": "resume"})
    assert len(call("get", "/operations")) == 2
    call("get", "/operations/{operation_id}", operation_id=started["id"])
    slow = {"filter": {"flow": "recovers"}, "mode": "resume", "force": True, "perSecond": 0.01}
    under_way = call("post", "/runs/bulk/replay", slow)["id"]
    call("post", "/operations/{operation_id}/stop", operation_id=under_way)
    assert call("post", "/operations/{operation_id}/resume", operation_id=under_way)["changes"]
    call("post", "/operations/{operation_id}/stop", operation_id=under_way)


def events_of(call: Caller, org: Organization) -> None:
    call("put", "/events/schemas/{name}", {"schema": {"type": "object", "required": ["n"]}}, name="answers/checked")
    assert call("get", "/events/schemas")
    publish(org, [A], slug="hears", on=[{"event": "answers/heard"}], idempotency="event.data.n")
    heard = [NewEvent(name="answers/heard", data={"n": 1}, user={"id": "u"}, external_id="x") for _ in range(2)]
    heard.append(NewEvent(name="answers/unheard", data={}))
    ids = receive.receive(org.id, heard)
    await_that(lambda: all(call("get", "/events/{event_id}", event_id=each)["matchedAt"] for each in ids))
    details = [call("get", "/events/{event_id}", event_id=each) for each in ids]
    assert [bool(each["runs"]) for each in details] == [True, False, False] or details[1]["outcomes"]
    assert details[2]["outcome"]
    assert call("get", "/events", limit=1)["nextCursor"]
    call("delete", "/events/schemas/{name}", name="answers/checked")


def approvals(call: Caller, org: Organization) -> None:
    config = {"title": "Refund?", "details": {"amount": 1}, "approvers": ["group:nobody"], "timeout": "1d"}
    publish(org, [{"id": "ok", "type": "wait_for_approval", "config": config}], slug="asks")
    run_id = services.trigger(org, "asks").run_ids[0]
    await_that(lambda: Wait.objects.filter(run_id=run_id).exists())
    (listed,) = call("get", "/approvals")["approvals"]
    call("get", "/limits/explain", stepRun=listed["id"])
    decided = call(
        "post", "/approvals/{step_run_id}", {"decision": "approve", "asOperator": True}, step_run_id=listed["id"]
    )
    assert decided["asOperator"] is True
    await_end(org, run_id)


def limits(call: Caller, org: Organization) -> None:
    rate = {"limit": 5, "period": "60s", "algorithm": "gcra"}
    body = {"scope": "limit", "name": "shared", "rate": rate, "concurrency": 2}
    call("put", "/limits", body)
    call(
        "put", "/limits", {"scope": "flow", "flow": "asks", "retry": {"attempts": 2, "backoff": "fixed", "delay": "1s"}}
    )
    row = ThrottleOverride(scope="org", org_id=org.id, weight=2.0, concurrency=50)
    flow_control.put_limit(row, by="tests")
    limited = {**A, "throttling": {"limit": "shared"}}
    run_to_end(org, [limited], slug="limited")
    listed = call("get", "/limits")
    assert listed["limits"]
    assert {each["weight"] for each in listed["overrides"] if each["scope"] == "org"} >= {2.0}
    step = StepRun.objects.filter(org_id=org.id, status="completed")[0]
    call("get", "/limits/explain", stepRun=step.id)
    assert isinstance(call("get", "/limits/report")[0]["averageDuration"], float)
    call("delete", "/limits", scope="limit", name="shared")
    assert call("get", "/limits/history")[0]["after"] is None


def observed(call: Caller, org: Organization) -> None:
    now = timezone.now()
    for id_, state in (("seen-1", "failed"), ("seen-2", "sent")):
        ObservedTask.objects.create(
            id=id_, org_id=org.id, name="a.b", state=state, root_id="seen-1", error="ValueError", started_at=now,
            seen_at=now,
        )  # fmt: skip
    assert len(call("get", "/observed")["tasks"]) == 2
    assert len(call("get", "/observed/{task_id}", task_id="seen-1")["family"]) == 1


def letters(call: Caller, org: Organization) -> None:
    publish(org, [A, FAILS], slug="fails")
    ids = services.trigger_many(org, "fails", [{"n": number} for number in range(3)]).run_ids
    for run_id in ids:
        await_end(org, run_id)
    first, second, _ = DeadLetter.objects.filter(org_id=org.id, run_id__in=ids).order_by("id")
    group = str(first.group_id)
    assert call("get", "/dlq", limit=1)["nextCursor"]
    call("get", "/dlq/stats")
    assert call("get", "/dlq/groups")
    call("get", "/dlq/groups/{group}", group=group)
    call("post", "/dlq/groups/{group}/assign", {"assignee": "ada"}, group=group)
    assert call("post", "/dlq/groups/{group}/comments", {"text": "found"}, group=group)["comments"]
    call("post", "/dlq/groups/{group}/snooze", {"for": "8h"}, group=group)
    call("post", "/dlq/groups/{group}/auto-replay", {"after": "1h"}, group=group)
    call("post", "/dlq/{letter_id}/ignore", {"reason": "r"}, letter_id=first.id)
    call("post", "/dlq/{letter_id}/reopen", letter_id=first.id)
    call("post", "/dlq/{letter_id}/replay", {"mode": "resume", "dryRun": True}, letter_id=second.id)
    call("post", "/dlq/{letter_id}/replay", {"input": {"n": 9}}, letter_id=second.id)
    history = call("get", "/dlq/{letter_id}", letter_id=second.id)["changes"]  # its repair may have failed by now
    assert any(change["patch"] for change in history)
    call("post", "/dlq/replay", {"filter": {"flow": "fails"}, "dryRun": True})
    call("post", "/dlq/ignore", {"filter": {"flow": "fails"}, "reason": "r"})
    rule = AlertRule.objects.first()
    now = timezone.now()
    for value, run_id in ((3.5, ids[0]), (None, None)):
        Alert.objects.create(
            org_id=org.id, rule=rule if value else None, severity="warning", title="t", message="m", value=value,
            execution=run_id, fired_at=now, seen_at=now, recovered_at=now,
        )  # fmt: skip
    assert len(call("get", "/alerts")) == 2
