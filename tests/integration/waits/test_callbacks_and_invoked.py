"""Approvals, callbacks and invoked flows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx
import pytest
from django.db import connections
from django.utils import timezone

from tests.integration.waits.test_waits import AFTER
from tests.support.by_hand import start
from tests.support.workers import WorkerPool, await_end, await_that, by_key, publish, run_to_end
from workflows import services
from workflows.models import Event, Organization, Run, StepRun, Wait
from workflows.services import approvals
from workflows.services.approvals import ApprovalNotFound, Decider


def _decider(**more: Any) -> Decider:
    return Decider(name="anna", roles=frozenset({"user:anna", "group:finance"}), **more)


def _approval(org: Organization, **config: Any) -> tuple[UUID, Wait]:
    run_id = start(org, [{"id": "ok", "type": "wait_for_approval", "config": config}, AFTER])
    waiting = await_that(lambda: Wait.objects.filter(run_id=run_id).first(), what="the approval")
    return run_id, waiting


def test_an_approval_is_decided_once_by_who_may_and_is_announced(
    org: Organization, workers: WorkerPool, api_key: str, address: str
) -> None:
    run_id, wait = _approval(org, title="Pay?", details={"total": 5}, approvers=["group:finance"], remind="1m")
    headers = {"Authorization": f"Bearer {api_key}"}
    listed = httpx.get(f"{address}/api/approvals", headers=headers).json()["approvals"]
    assert [(each["title"], each["details"], each["workflow"]) for each in listed] == [("Pay?", {"total": 5}, "flow")]
    url = f"{address}/api/approvals/{wait.step_run_id}"
    refused = httpx.post(url, headers=headers, json={"decision": "approve"})
    assert (refused.status_code, "group:finance" in refused.json()["detail"]) == (403, True)
    assert httpx.post(url, headers=headers, json={"decision": "maybe"}).status_code == 422
    await_that(lambda: Event.objects.filter(org_id=org.id, name="headrace/approval.requested"), what="the request")
    Wait.objects.filter(step_run_id=wait.step_run_id).update(remind_at=timezone.now())
    await_that(lambda: Event.objects.filter(org_id=org.id, name="headrace/approval.reminder"), what="the reminder")
    answer = approvals.decide(org, wait.step_run_id, approve=True, comment="fine", by=_decider())
    output = by_key(await_end(org, run_id))["ok"].step_run.output
    assert output == answer
    assert (output["approved"], output["by"], output["comment"]) == (True, "anna", "fine")
    with pytest.raises(ApprovalNotFound):
        approvals.decide(org, wait.step_run_id, approve=False, by=_decider())
    assert httpx.post(url, headers=headers, json={"decision": "reject"}).status_code == 404


@pytest.mark.parametrize(("policy", "status"), [("fail", "failed"), ("continue", "completed")])
def test_what_a_rejection_means_is_the_steps_to_say(
    policy: str, status: str, org: Organization, workers: WorkerPool, api_key: str, address: str
) -> None:
    run_id, wait = _approval(org, on_reject=policy)
    url, headers = f"{address}/api/approvals/{wait.step_run_id}", {"Authorization": f"Bearer {api_key}"}
    assert httpx.post(url, headers=headers, json={"decision": "reject", "comment": "no"}).status_code == 200
    assert await_end(org, run_id).run.status == status


def test_many_decide_at_once_and_one_decision_counts(org: Organization, workers: WorkerPool) -> None:
    run_id, wait = _approval(org)

    def decide(number: int) -> bool:
        try:
            approvals.decide(org, wait.step_run_id, approve=bool(number % 2), comment=str(number), by=_decider())
        except ApprovalNotFound:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(8) as pool:
        decided = list(pool.map(decide, range(8)))
    assert decided.count(True) == 1
    output = by_key(await_end(org, run_id))["ok"].step_run.output
    assert output["comment"] == str(decided.index(True))


CALL = {"id": "call", "type": "wait_for_callback", "config": {"timeout": "1h"}}
HAND_OUT = {"id": "hand-out", "type": "noop", "config": {"output": "${ callbacks['call'] }"}}


@pytest.mark.parametrize("early", [True, False])
def test_a_callback_counts_once_whether_it_comes_before_or_after_its_step(
    early: bool, org: Organization, workers: WorkerPool, address: str
) -> None:
    pause = [{"id": "pause", "type": "delay", "config": {"for": "1s"}}] if early else []
    run_id = start(org, [HAND_OUT, *pause, CALL])
    handed = await_that(lambda: StepRun.objects.get(run_id=run_id, key="hand-out").output, what="the address")
    path = handed.removeprefix("http://localhost:8288")
    if not early:
        await_that(lambda: Wait.objects.filter(run_id=run_id), what="the wait")
    assert httpx.post(address + path, json={"paid": True}).status_code == 202
    assert httpx.post(address + path, json={"paid": False}).status_code == 410
    assert by_key(await_end(org, run_id))["call"].step_run.output == {"paid": True}
    assert httpx.post(address + path, json={}).status_code == 410


@pytest.mark.parametrize(
    ("token", "body", "status"),
    [("nonsense", b"{}", 404), ("WyJhIl0:forged", b"{}", 404), ("nonsense", b"{", 400)],
)
def test_a_bad_callback_is_refused(token: str, body: bytes, status: int, live_db: None, address: str) -> None:
    assert httpx.post(f"{address}/callbacks/{token}", content=body).status_code == status


# --- invoking flows -------------------------------------------------------------------------------------------------


def _parent(org: Organization, child: list[dict[str, Any]], *, given: Any = None, **config: Any) -> UUID:
    publish(org, child, slug="child", **config.pop("child", {}))
    step = {"id": "call", "type": "invoke_flow", "config": {"flow": "child", **config}}
    return start(org, [step, {"id": "after", "type": "noop", "config": {"output": "${ steps.call.output }"}}], given)


def _child_of(run_id: UUID) -> Run:
    return await_that(lambda: Run.objects.filter(parent_id=run_id).first(), what="the child")  # type: ignore[no-any-return]


def test_an_invoked_flow_gives_its_result(org: Organization, workers: WorkerPool) -> None:
    child = [{"id": "double", "type": "data_transform", "config": {"expression": "input.n * 2"}}]
    run_id = _parent(org, child, given={"n": 21}, data={"n": "${ input.n }"})
    assert by_key(await_end(org, run_id))["after"].step_run.output == 42
    run = _child_of(run_id)
    assert (run.trigger, run.status) == ("invoke", "completed")
    assert not Wait.objects.filter(org_id=org.id).exists()


def test_a_failure_of_an_invoked_flow_is_the_steps_or_passed_over(org: Organization, workers: WorkerPool) -> None:
    child = [{"id": "a", "type": "raises", "config": {"how": "final"}}]
    failed = await_end(org, _parent(org, child))
    assert failed.run.status == "failed"
    assert failed.run.error["name"] == "ChildFailed"
    assert "no use" in failed.run.error["message"]
    passed = await_end(org, _parent(org, child, on_failure="continue"))
    assert (passed.run.status, by_key(passed)["after"].step_run.output) == ("completed", None)


@pytest.mark.parametrize(("policy", "status"), [("cancel", "cancelled"), ("abandon", "running")])
def test_what_becomes_of_an_invoked_run_when_its_parent_is_cancelled(
    policy: str, status: str, org: Organization, workers: WorkerPool
) -> None:
    child = [{"id": "long", "type": "delay", "config": {"for": "1h"}}]
    run_id = _parent(org, child, on_cancel=policy)
    run = _child_of(run_id)
    await_that(lambda: Wait.objects.filter(run_id=run_id), what="the wait")
    await_that(lambda: StepRun.objects.get(run_id=run.id).status == "waiting", what="the child's sleep")
    services.cancel_run(org, run_id)
    await_that(lambda: Run.objects.get(id=run_id).status == "cancelled", what="the parent's end")
    await_that(lambda: Run.objects.get(id=run.id).status == status, what="the child's fate")
    services.cancel_run(org, run.id)


def test_an_invoked_run_that_is_cancelled_fails_the_step(org: Organization, workers: WorkerPool) -> None:
    run_id = _parent(org, [{"id": "long", "type": "delay", "config": {"for": "1h"}}])
    run = _child_of(run_id)
    services.cancel_run(org, run.id)
    assert await_end(org, run_id).run.error["name"] == "ChildFailed"


def test_an_invoked_run_goes_its_own_way_without_wait(org: Organization, workers: WorkerPool) -> None:
    run_id = _parent(org, [{"id": "long", "type": "delay", "config": {"for": "1h"}}], wait=False)
    output = by_key(await_end(org, run_id))["after"].step_run.output
    run = _child_of(run_id)
    assert output == {"runId": str(run.id)}
    services.cancel_run(org, run.id)


def test_a_wait_for_a_run_has_its_own_timeout(org: Organization, workers: WorkerPool) -> None:
    run_id = _parent(org, [{"id": "long", "type": "delay", "config": {"for": "1h"}}], timeout="300ms")
    assert await_end(org, run_id).run.error["name"] == "WaitTimedOut"
    services.cancel_run(org, _child_of(run_id).id)


def test_flows_that_invoke_themselves_end(org: Organization, workers: WorkerPool) -> None:
    run_id = start(org, [{"id": "again", "type": "invoke_flow", "config": {"flow": "flow"}}])
    error = await_end(org, run_id).run.error
    assert "levels deep" in error["message"]
    assert Run.objects.filter(org_id=org.id).count() == 21


def test_an_unknown_flow_fails_the_step(org: Organization, workers: WorkerPool) -> None:
    error = run_to_end(org, [{"id": "call", "type": "invoke_flow", "config": {"flow": "nowhere"}}]).run.error
    assert "nowhere" in error["message"]
