"""Repair under hostile conditions: letters of one run, poison, alerts that are slow or dead, and the edges."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test import Client
from django.utils import timezone

from dlq import services as dlq
from dlq.alerting import channels, evaluation
from dlq.models import Alert, AlertNotification, DeadLetter
from tests.integration.api.test_api import Api, assert_problem
from tests.support.by_hand import NO, claim, end, fail, start
from tests.support.workers import publish
from workflows import services
from workflows.engine.pipeline.retry_decision import describe
from workflows.engine.repair import on_failure
from workflows.engine.repair.plan import Past, plan
from workflows.engine.state import flow_cache
from workflows.errors import RetryAfter
from workflows.models import BulkOperation, Organization, Run
from workflows.services import bulk
from workflows.steps.registry import REGISTRY

SLEEP = {"id": "a", "type": "delay", "config": {"for": "1h"}}
NOOP = {"id": "a", "type": "noop"}
pytestmark = pytest.mark.usefixtures("published")


# --- repair --------------------------------------------------------------------------------------------------------

TWO = [
    {**NOOP, "critical": False, "needs": []},
    {"id": "b", "type": "noop", "needs": []},
    {"id": "c", "type": "noop", "needs": ["b"]},
]


def two_failures(org: Organization, error: Any = NO) -> UUID:
    """`b` fails the run, then `a` fails too."""
    run_id = start(org, TWO)
    slower = claim(run_id, "a")
    fail(run_id, "b")
    end(slower, error=error)
    return run_id


def pump(operation: BulkOperation) -> BulkOperation:
    for _ in range(20):
        bulk.pump()
        time.sleep(0.02)
    operation.refresh_from_db()
    return operation


def test_two_letters_of_one_run_make_one_resume(org: Organization) -> None:
    run_id = two_failures(org)
    operation = pump(bulk.start(org, "replay_dead_letters", {}, by="me", options={"mode": "resume"}))
    assert (operation.status, operation.done, operation.passed_over) == ("completed", 1, 0)
    assert Run.objects.filter(origin_id=run_id).count() == 1


def test_a_later_resume_goes_on_from_the_earlier_one(org: Organization) -> None:
    run_id = two_failures(org)
    one, two = DeadLetter.objects.filter(run_id=run_id).order_by("step_key")
    dlq.ignore(org, one.id, by="me", reason="not now")
    second = dlq.replay(org, two.id, by="me", mode="resume").run_id
    assert second is not None
    for key in ("b", "c"):
        end(claim(second, key))
    dlq.reopen(org, one.id, by="me")
    repeat = dlq.replay(org, one.id, by="me", mode="resume")
    assert (repeat.origin_id, repeat.runs, sorted(repeat.kept)) == (second, ["a"], ["b", "c"])


def test_an_automatic_replay_leaves_a_person_s_failures_alone(org: Organization) -> None:
    run_id = two_failures(org, describe(RetryAfter(1, "429")))
    letters = DeadLetter.objects.filter(run_id=run_id)
    letters.filter(step_key="a").update(auto_replay_at=timezone.now())
    dlq.replay_due()
    assert set(letters.values_list("status", flat=True)) == {"failed"}
    assert letters.get(step_key="a").auto_replay_at is None
    assert letters.get(step_key="a").changes.get().what == "not replayed"


def test_an_automatic_replay_waits_for_the_end_of_the_run(org: Organization) -> None:
    run_id = start(org, [{**NOOP, "critical": False, "needs": []}, {**SLEEP, "id": "b", "needs": []}])
    fail(run_id)
    DeadLetter.objects.filter(run_id=run_id).update(auto_replay_at=timezone.now())
    dlq.replay_due()
    later = DeadLetter.objects.get(run_id=run_id).auto_replay_at
    assert later is not None
    assert later > timezone.now()


def test_what_a_replay_adds_to_the_input_does_not_hold_up_the_next(org: Organization) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
    fail(start(org, [NOOP], {"n": 1}, input_schema=schema))
    for _ in range(3):
        letter = DeadLetter.objects.get(org_id=org.id, status="failed")
        repeat = dlq.replay(org, letter.id, by="me")
        assert repeat.run_id is not None
        assert (repeat.changes, Run.objects.get(id=repeat.run_id).input["_dlqItemId"]) == ([], str(letter.id))
        fail(repeat.run_id)


def test_an_input_of_the_largest_size_is_replayed(org: Organization) -> None:
    publish(org, [NOOP], slug="handler")
    fail(start(org, [NOOP], {"x": "a" * (512 * 1024 - 20)}, on_failure="handler"))
    for mode in ("start", "resume"):
        letter = DeadLetter.objects.get(org_id=org.id, status="failed")
        fail(dlq.replay(org, letter.id, by="me", mode=mode).run_id)
    on_failure.follow_up()
    handler = Run.objects.filter(org_id=org.id, origin_kind="on_failure").first()
    fail(handler.id)
    dlq.replay(org, DeadLetter.objects.get(run_id=handler.id).id, by="me")


def test_a_plan_of_a_thousand_steps_looks_at_each_once(org: Organization) -> None:
    flow = services.published(org, publish(org, [{"id": f"s{n}", "type": "noop"} for n in range(1_000)]))
    past = {
        key: Past(id=uuid.uuid4(), type="noop", status="completed" if key != "s700" else "failed") for key in flow.steps
    }
    planned = plan(flow, past)
    assert sum(step.source is not None for step in planned) == 700
    assert [step.status for step in planned[698:703]] == ["completed", "completed", "ready", "pending", "pending"]


# --- poison: a step type that this process does not have -----------------------------------------------------------


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a rolling deployment."""
    flow_cache.forget()
    monkeypatch.delitem(REGISTRY, "probe")


PROBE = {"id": "a", "type": "probe"}


def test_a_version_that_can_t_be_loaded_holds_nobody_up(
    org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (org, other):
        publish(each, [NOOP], slug="handler")
    bad, good = start(org, [PROBE], on_failure="handler"), start(other, [NOOP], on_failure="handler")
    lost = start(org, [PROBE], slug="lost")
    for run_id in (bad, good):
        fail(run_id)
    taken = claim(lost, "a"), claim(start(other, [NOOP], slug="neighbour"), "a")
    DeadLetter.objects.filter(run_id=bad).update(auto_replay_at=timezone.now() - dt.timedelta(seconds=5))
    DeadLetter.objects.filter(run_id=good).update(auto_replay_at=timezone.now())
    one = bulk.start(org, "replay_runs", {}, by="me", options={"mode": "resume"})
    two = bulk.start(other, "replay_runs", {}, by="you")
    try:
        forget(monkeypatch)
        end(*taken, error=NO)  # three losses, say
        assert Run.objects.get(id=taken[1].run_id).status == "failed"
        assert Run.objects.get(id=lost).status == "running", "a newer release may have the type: its step goes back"
        assert not DeadLetter.objects.filter(run_id=lost).exists()
        dlq.replay_due()
        assert DeadLetter.objects.get(run_id=good).status == "reprocessed"
        on_failure.follow_up()
        assert Run.objects.filter(origin_id=good, origin_kind="on_failure").count() == 1
        assert Run.objects.get(id=bad).follow_up
        assert (pump(two).done, two.repaired_before) == (1, 1)
        assert (pump(one).done, pump(one).passed_over) == (0, 0), "it is left to a newer release"
    finally:
        Run.objects.filter(follow_up=True, org_id=org.id).update(follow_up=False)
        BulkOperation.objects.filter(id__in=[one.id, two.id]).update(status="completed")


# --- alerts --------------------------------------------------------------------------------------------------------


def notification(org: Organization, channel: str, kind: str = "fired", **more: Any) -> AlertNotification:
    now = timezone.now()
    fields = {"title": "t", "message": "", "fired_at": now, "seen_at": now, "recovered_at": now}
    alert = more.pop("alert", None) or Alert.objects.create(org_id=org.id, severity="info", **fields)
    return AlertNotification.objects.create(**{"alert": alert, "channel": channel, "kind": kind, "due_at": now, **more})


def test_what_is_sent_slowly_is_not_sent_twice(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    AlertNotification.objects.filter(status="pending").delete()
    sent: list[int] = []

    def send(each: AlertNotification) -> None:
        time.sleep(0.2)
        sent.append(each.id)

    monkeypatch.setattr(evaluation, "CLAIMED_FOR_S", 1)
    monkeypatch.setattr(channels, "send", send)
    expected = {notification(org, "c").id for _ in range(8)}

    def deliver() -> None:
        time.sleep(1.1)
        try:
            evaluation.deliver()
        finally:
            connections.close_all()

    thread = threading.Thread(target=deliver)
    thread.start()
    evaluation.deliver()
    thread.join()
    assert (len(sent), set(sent)) == (8, expected)


def test_a_dead_channel_does_not_hold_up_the_others(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    AlertNotification.objects.filter(status="pending").delete()
    told: list[str] = []
    monkeypatch.setattr(channels, "send", lambda each: told.append(each.channel))
    for _ in range(evaluation.BATCH):
        waiting = notification(org, "dead", due_at=timezone.now() + dt.timedelta(minutes=20), tries=7)
        notification(org, "dead", "recovered", alert=waiting.alert)
    notification(org, "good")
    assert (evaluation.deliver(), told) == (1, ["good"])
    AlertNotification.objects.filter(status="pending").delete()


# --- edges ---------------------------------------------------------------------------------------------------------


def test_bad_texts_are_refused_at_the_edge(org: Organization, api_key: str) -> None:
    api = Api(api_key)
    slug = publish(org, [SLEEP])
    (run_id,) = services.trigger(org, slug).run_ids
    longest = api.post(f"/workflows/{slug}/run", {"idempotencyKey": "k" * 200})
    assert longest.status_code == 202
    assert api.post(f"/workflows/{slug}/run", {"idempotencyKey": "k" * 200}).json()["runId"] == longest.json()["runId"]
    for answer in (
        api.post(f"/runs/{run_id}/cancel", {"reason": "a\0b"}),
        api.post(f"/workflows/{slug}/run", {"userId": "\0"}),
        api.post("/runs/bulk/cancel", {"filter": {"event": "\0"}}),
        api.post("/dlq/ignore", {"filter": {"category": "auth"}, "reason": "\0"}),
    ):
        assert_problem(answer, 422, "invalid_request", "NUL")
    for answer in (api.get("/dlq", search="\0"), api.get("/runs", event="\0"), api.get("/runs", userId="\0")):
        assert_problem(answer, 422, "invalid_input", "NUL")
    for body in ({}, {"filter": {"workflow": ""}}):
        assert_problem(api.post("/runs/bulk/cancel", body), 422, "invalid_input", "all: true")
        assert_problem(api.post("/dlq/replay", body), 422, "invalid_input", "all: true")
    assert api.post("/runs/bulk/cancel", {"all": True, "dryRun": True}).json()["matched"] == 2


def test_the_group_form_refuses_what_the_api_refuses(org: Organization) -> None:
    fail(start(org, [NOOP]))
    group = DeadLetter.objects.get(org_id=org.id).group_id
    client = Client()
    client.force_login(User.objects.create_superuser(f"root-{uuid.uuid4().hex[:8]}"))
    form = {"assigned_to": "", "comments-TOTAL_FORMS": "0", "comments-INITIAL_FORMS": "0"}
    for more, says in (
        ({"snoozed_until_0": "2020-01-01", "snoozed_until_1": "00:00:00", "auto_replay_s": ""}, "lies ahead"),
        ({"snoozed_until_0": "", "snoozed_until_1": "", "auto_replay_s": "9999999"}, "to a week"),
    ):
        answer = client.post(f"/admin/headrace_dlq/deadlettergroup/{group}/change/", {**form, **more})
        assert (answer.status_code, says in answer.content.decode()) == (200, True)
    assert connection.is_usable()
