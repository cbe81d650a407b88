"""Limits, priorities, payments, webhooks, and runs made of steps and of other runs."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import time

import pytest
from django.test import Client
from django.utils import timezone

from examples import server
from examples.python import composition, first_steps, limits, priorities, webhooks
from examples.python.outside import Outside
from tests.integration.examples import jobs
from tests.integration.examples.conftest import store_secret
from tests.support.workers import await_end, await_that
from workflows import services
from workflows.errors import InvalidInput
from workflows.models import Attempt, Organization, Run
from workflows.services import events

pytestmark = pytest.mark.usefixtures("workers")


def test_a_run_sleeps_until_the_headers_allow_more(org: Organization, outside: Outside) -> None:
    data = {"apiProvider": "p-1", "path": "/limited?remaining=0&reset_s=1.2"}
    detail = jobs.run(org, limits.rate_limited_api, data)
    assert [key for key, _ in jobs.journal(detail.run.id)] == ["api-call", "rate-limit-wait"], detail.run.error
    assert detail.run.ended_at is not None
    assert detail.run.ended_at >= dt.datetime.fromisoformat(detail.run.output["resetAt"])
    free = jobs.run(org, limits.rate_limited_api, {"apiProvider": "p-1", "path": "/limited?remaining=3"})
    assert [key for key, _ in jobs.journal(free.run.id)] == ["api-call"]


def test_a_bucket_gives_its_tokens(org: Organization, outside: Outside) -> None:
    jobs.publish(org, limits.token_bucket)
    runs = services.trigger_many(org, "token-bucket", [{"n": n} for n in range(20)]).run_ids
    for run_id in runs:
        assert await_end(org, run_id).run.status == "completed"
    assert len(outside.find("tokens_used")) == 20


def test_batches_have_a_pause_between(org: Organization, outside: Outside) -> None:
    detail = jobs.run(org, limits.batch_rate_limited, {"items": [{"id": f"b-{n}"} for n in range(150)]})
    assert detail.run.output == {"processed": 150}, detail.run.error
    assert [key for key, _ in jobs.journal(detail.run.id)] == ["process-batch", "batch-delay", "process-batch:1"]


def test_five_jobs_of_a_user_at_a_time(org: Organization, outside: Outside) -> None:
    jobs.publish(org, limits.rate_limited_job)
    inputs = [{"userId": "busy", "path": "/work?slow=0.1"}] * 8 + [{"userId": "other", "path": "/work"}]
    for run_id in services.trigger_many(org, "rate-limited-job", inputs).run_ids:
        assert await_end(org, run_id).run.output["answer"] == {"ok": True}
    tries = Attempt.objects.filter(org_id=org.id, step_run__key="work", run__input__userId="busy")
    times = [(one.started_at or one.ended_at, one.ended_at) for one in tries]
    assert len(times) == 8
    assert max(sum(begun <= at < ended for begun, ended in times) for at, _ in times) <= 5
    assert jobs.output(org, limits.throttled_job, {"userId": "u"}) == {"userId": "u"}


def test_three_steps_or_one_give_the_same(org: Organization, outside: Outside) -> None:
    three, one = jobs.run(org, limits.expensive_job), jobs.run(org, limits.optimized_job)
    assert three.run.output == one.run.output == {"a": True, "b": True, "c": True}
    assert (len(jobs.journal(three.run.id)), len(jobs.journal(one.run.id))) == (3, 1)


def test_jobs_of_a_level_go_to_its_flow(org: Organization, outside: Outside) -> None:
    jobs.publish(org, priorities.critical_priority_job, priorities.background_job)
    services.queue_job(org, "security.alert", {}, "CRITICAL")
    services.queue_job(org, "archive", {}, "background")
    critical = jobs.await_run_of(org, priorities.critical_priority_job)
    background = jobs.await_run_of(org, priorities.background_job)
    assert (critical.run.priority, background.run.priority) == (600, -600)
    assert {(row["type"], row["priority"]) for row in outside.find("jobs_done")} == {
        ("security.alert", "CRITICAL"), ("archive", "BACKGROUND"),
    }  # fmt: skip


def test_a_job_that_is_too_late_is_skipped(org: Organization, outside: Outside) -> None:
    late = (timezone.now() - dt.timedelta(seconds=1)).isoformat()
    assert jobs.output(org, priorities.time_sensitive, {"deadline": late})["reason"] == "deadline_passed"
    soon = (timezone.now() + dt.timedelta(minutes=1)).isoformat()
    assert jobs.output(org, priorities.time_sensitive, {"deadline": soon})["status"] == "done"


def test_a_payment_is_made_once(org: Organization, outside: Outside) -> None:
    data = {"orderId": "o-1", "amount": 1250, "idempotencyKey": "k-1"}
    first = jobs.output(org, webhooks.idempotent_payment, data)
    second = jobs.output(org, webhooks.idempotent_payment, data)
    assert (first["status"], second["status"]) == ("processed", "already_processed")
    assert first["paymentId"] == second["paymentId"]
    assert len(server.WORLD.charges) == 1


@pytest.mark.parametrize(
    ("kind", "thing", "handled"),
    [
        ("payment_intent.succeeded", {"metadata": {"orderId": "o-7"}}, True),
        ("customer.subscription.deleted", {"id": "sub-7"}, True),
        ("invoice.created", {}, False),
    ],
)
def test_a_signed_delivery_is_answered_at_once_and_handled(
    org: Organization, outside: Outside, kind: str, thing: dict[str, object], handled: bool
) -> None:
    store_secret(org, webhooks.STRIPE_SECRET, "whsec_tests")
    jobs.publish(org, webhooks.stripe_webhook)
    token = org.triggers.get(kind="webhook").token
    body = json.dumps({"id": "evt_1", "type": kind, "data": {"object": thing}}).encode()
    stamp = str(int(time.time()))
    signature = hmac.new(b"whsec_tests", stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {"stripe-signature": f"t={stamp},v1={signature}"}
    answer = Client().post(f"/hooks/{token}", body, content_type="application/json", headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"received": True})
    found = jobs.await_run_of(org, webhooks.stripe_webhook).run.output
    assert found == {"handled": handled, "eventType": kind}
    assert [row["status"] for row in outside.find("orders")] == ["paid"] * (kind == "payment_intent.succeeded")
    assert [row["id"] for row in outside.find("subscriptions")] == ["sub-7"] * ("subscription" in kind)
    forged = {"stripe-signature": f"t={stamp},v1={'0' * 64}"}
    assert Client().post(f"/hooks/{token}", body, content_type="application/json", headers=forged).status_code == 401


def test_steps_build_on_each_other_and_the_next_run_waits_for_a_person(org: Organization, outside: Outside) -> None:
    jobs.publish(org, composition.next_workflow)
    made = jobs.output(org, composition.create_workflow, {"name": "test"})
    nodes = {row["id"]: row["type"] for row in outside.find("nodes", workflowId=made["workflowId"])}
    assert (nodes[made["edge"]["sourceId"]], nodes[made["edge"]["targetId"]]) == ("trigger", "action")
    following = await_that(lambda: Run.objects.filter(org_id=org.id, flow__slug="next-workflow").first(), what="it")
    await_that(lambda: jobs.journal(following.id) == [("wait-for-approval", "waiting")], what="the wait")
    for workflow_id, by in (("another", "eve"), (made["workflowId"], "anna")):
        events.send(org, [{"name": "workflow/approved", "data": {"workflowId": workflow_id, "by": by}}])
    detail = await_end(org, following.id)
    assert (detail.run.output["state"], detail.run.output["approvedBy"]) == ("approved", "anna"), detail.run.error
    assert outside.first("workflows", id=made["workflowId"])["state"] == "approved"


def test_a_long_job_is_async(org: Organization, outside: Outside) -> None:
    assert jobs.output(org, composition.long_running_job, {"seconds": 0.2}) == {"answeredAfter": 0.2}


def test_the_template_and_the_function_with_a_schema(org: Organization, outside: Outside) -> None:
    assert jobs.output(org, first_steps.my_job, {"value": 21}) == {"success": True, "result": 42}
    assert [row["details"] for row in server.WORLD.tables["slack"].values()] == [{"result": 42}]
    jobs.publish(org, first_steps.my_job_failed)
    assert jobs.run(org, first_steps.my_job, {}).run.status == "failed"
    assert "value is missing" in jobs.await_run_of(org, first_steps.my_job_failed).run.output["error"]
    assert jobs.output(org, first_steps.my_function, {"eventId": "e-1"}) == {"eventId": "e-1"}
    with pytest.raises(InvalidInput, match="eventId"):
        jobs.start(org, first_steps.my_function, {"eventId": ""})


def test_the_demo_task_recovers_and_is_taken_once(org: Organization, outside: Outside) -> None:
    task = {"taskId": "t-1", "simulateFailure": True, "failAtStep": "step-2-process", "failTimes": 1, "delayMs": 50}
    detail = jobs.run(org, first_steps.demo_task, task)
    assert detail.run.output == {"taskId": "t-1", "success": True}, detail.run.error
    assert [jobs.tries(detail.run.id, key) for key in ("step-1-initialize", "step-2-process")] == [1, 2]
    assert jobs.start(org, first_steps.demo_task, task) == detail.run.id
    assert jobs.start(org, first_steps.demo_task, {**task, "force": True}) != detail.run.id


def test_an_order_is_good_without_its_mail(org: Organization, outside: Outside) -> None:
    placed = {"orderId": "o-1", "items": [{"sku": "WIDGET-001", "quantity": 2}]}
    found = jobs.output(org, first_steps.order, placed)
    assert (found["charged"], found["inventory"]) == (2500, {"WIDGET-001": 98})
    unknown = jobs.run(org, first_steps.order, {"orderId": "o-2", "items": [{"sku": "NONE", "quantity": 1}]})
    assert (unknown.run.status, len(server.WORLD.charges)) == ("failed", 1)
