"""What a hostile reviewer found: races, poison, and mappings that went wrong. The tests are the workers themselves."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections, transaction
from django.test import Client
from django.utils import timezone

from dlq import alerts, channels
from dlq import services as dlq
from dlq.models import Alert, AlertNotification, DeadLetter
from tests.integration.test_api import Api, assert_problem
from tests.workers import WorkerPool, leave_nothing, open_queues, publish
from workflows import bulk, services
from workflows.engine import (
    catalog,
    dispatch,
    events,
    follow_up,
    fork,
    maintenance,
    matching,
    recording,
    stopping,
    store,
    transitions,
)
from workflows.engine.events import NewEvent
from workflows.engine.failure import describe
from workflows.engine.fork import Past
from workflows.engine.outcome import Completed, Failed
from workflows.engine.rows import Claim, Verdict
from workflows.errors import NonRetriable, ParentCancelled, RetryAfter, RunNotFound
from workflows.models import BulkOperation, Event, Organization, Run, StepRun
from workflows.steps.registry import REGISTRY

SLEEP = {"id": "a", "type": "delay", "config": {"for": "1h"}}
NOOP = {"id": "a", "type": "noop"}
NO = describe(NonRetriable("no"))


@pytest.fixture(autouse=True)
def alone(org: Organization, own_workers: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No worker is about, and nothing is published."""
    monkeypatch.setattr(dispatch, "publish", lambda steps: None)
    monkeypatch.setattr(dispatch.DISPATCHER, "submit", dispatch.dispatch)
    open_queues()
    yield
    leave_nothing(org)


@pytest.fixture
def other(live_db: None) -> Organization:
    return Organization.objects.create(slug=f"o-{uuid.uuid4().hex[:12]}", name="Other")


def start(org: Organization, steps: list[dict[str, Any]], data: Any = None, **more: Any) -> UUID:
    return services.trigger(org, publish(org, steps, **more), data).run_ids[0]


def claim(run_id: UUID, key: str) -> Claim:
    row = StepRun.objects.get(run_id=run_id, key=key)
    (claimed,) = transitions.claim([(str(row.id), row.attempt)], worker=uuid.uuid4()).claims
    return claimed


def end(*claims: Claim, error: Any = None) -> None:
    outcome = Failed(error=error) if error else Completed()
    recording.record([Verdict(claim=each, outcome=outcome) for each in claims])


def fail(run_id: UUID, key: str = "a") -> None:
    end(claim(run_id, key), error=NO)


def steps_of(run_id: UUID) -> dict[str, str]:
    return dict(StepRun.objects.filter(run_id=run_id).values_list("key", "status"))


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """`work` begins within the block's transaction, and waits for its end."""

    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    with transaction.atomic():
        yield
        thread.start()
        time.sleep(0.7)
    thread.join()


# --- stopping ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("undo", [False, True])
def test_a_claim_that_commits_during_a_cancel_is_waited_for(org: Organization, undo: bool) -> None:
    steps = [
        NOOP,
        {"id": "b", "type": "noop", **({"on_cancel": "u"} if undo else {})},
        *([{"id": "u", "type": "noop"}] * undo),
    ]
    run_id = start(org, steps)
    end(claim(run_id, "a"))
    with meanwhile(lambda: services.cancel_run(org, run_id)):
        taken = claim(run_id, "b")
    assert Run.objects.get(id=run_id).is_live
    assert steps_of(run_id) == {"a": "completed", "b": "running"}
    end(taken)
    if undo:
        end(claim(run_id, "u"))
    assert Run.objects.get(id=run_id).status == "cancelled"
    assert steps_of(run_id)["b"] == "cancelled"


def test_a_claim_that_commits_during_a_failure_is_waited_for(org: Organization) -> None:
    run_id = start(org, [{**NOOP, "needs": []}, {"id": "b", "type": "noop", "needs": []}])
    failing = claim(run_id, "a")
    with meanwhile(lambda: end(failing, error=NO)):
        taken = claim(run_id, "b")
    assert Run.objects.get(id=run_id).is_live
    end(taken)
    assert (Run.objects.get(id=run_id).status, steps_of(run_id)["b"]) == ("failed", "completed")


def test_children_end_with_a_parent_that_is_too_late(org: Organization) -> None:
    parent = start(org, [SLEEP], timeouts={"start": "1s"})
    (child,) = services.trigger(org, publish(org, [SLEEP], slug="kid"), parent=parent).run_ids
    time.sleep(1.05)
    stopping.expire(batch=100)
    assert {Run.objects.get(id=run_id).status for run_id in (parent, child)} == {"cancelled"}


def test_a_cancelled_run_gets_no_children(org: Organization, other: Organization) -> None:
    parent = start(org, [SLEEP])
    services.cancel_run(org, parent)
    with pytest.raises(ParentCancelled):
        services.trigger(org, "flow", parent=parent)
    publish(other, [SLEEP])
    with pytest.raises(RunNotFound):
        services.trigger(other, "flow", parent=parent)


def test_runs_that_are_being_undone_do_not_hide_others_from_rescue(org: Organization) -> None:
    slug = publish(
        org,
        [
            {**NOOP, "on_cancel": "u"},
            {"id": "b", "type": "delay", "config": {"for": "1h"}},
            {"id": "u", "type": "noop"},
        ],
    )
    ids = services.trigger_many(org, slug, [{}] * 60).run_ids
    for run_id in ids:
        end(claim(run_id, "a"))
    transitions.request_cancel(org.id, ids, reason="")
    maintenance._settle_runs(deep=False)
    assert StepRun.objects.filter(run_id__in=ids, is_hook=True, status="ready").count() == 60
    store.counter.by_name.clear()
    maintenance._settle_runs(deep=False)
    assert "run_progress" not in store.counter.by_name  # they settle themselves


def test_the_output_is_rendered_where_an_undoing_step_ends_last(org: Organization) -> None:
    steps = [{**NOOP, "critical": False, "on_failure": "u"}, {"id": "u", "type": "noop"}]
    good = start(org, steps, {"n": 5}, output={"x": "${ input.n }"})
    bad = start(org, steps, {"n": 5}, output={"x": "${ input.absent }"}, slug="bad")
    for run_id in (good, bad):
        fail(run_id)
        end(claim(run_id, "u"))
    assert (Run.objects.get(id=good).output, Run.objects.get(id=bad).status) == ({"x": 5}, "failed")
    assert DeadLetter.objects.filter(run_id=bad, step_type="output").count() == 1


# --- events --------------------------------------------------------------------------------------------------------


def receive(org: Organization, *made: NewEvent) -> None:
    events.receive(org.id, list(made))


def test_a_bad_event_does_not_keep_others_from_their_runs(org: Organization, other: Organization) -> None:
    picky = {"type": "object", "required": ["x"]}
    publish(org, [SLEEP], slug="picky", on={"event": "o/bad"}, input_schema=picky)
    publish(org, [SLEEP], slug="filtered", on={"event": "o/bad", "if": "event.data.total > 0"})
    for each in (org, other):
        publish(each, [SLEEP], slug="good", on={"event": "o/good"})
    left = Event.objects.create(org_id=other.id, name="o/good", ts=timezone.now())
    receive(org, NewEvent(name="o/bad", data={"total": "abc"}), NewEvent(name="o/good"))
    matching.match([left.id])
    assert [Run.objects.filter(org_id=each.id).count() for each in (org, other)] == [1, 1]
    assert not Event.objects.filter(org_id=org.id, matched_at=None).exists()


def test_an_event_that_meets_a_held_key_is_matched_later(org: Organization) -> None:
    slug = publish(org, [SLEEP], on={"event": "u/x"}, idempotency="input.id")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                services.trigger(org, slug, {"id": 1})
                held.set()
                done.wait(20)
                transaction.set_rollback(True)
        finally:
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    receive(org, NewEvent(name="u/x", data={"id": 1}))
    done.set()
    thread.join()
    event = Event.objects.get(org_id=org.id)
    assert event.matched_at is None
    matching.match([event.id])
    assert Run.objects.filter(org_id=org.id).count() == 1


def test_a_cancel_by_event_evaluates_each_run_once(org: Organization) -> None:
    slug = publish(org, [SLEEP], cancel_on={"event": "x/y", "if": "async.data.k == event.data.k"})
    services.trigger_many(org, slug, [{"k": 1}] * 50)
    store.counter.by_name.clear()
    receive(org, NewEvent(name="x/y", data={"k": 1}))
    assert store.counter.by_name["load_contexts"] == 1
    assert Run.objects.filter(org_id=org.id, status="cancelled").count() == 50


def test_a_start_and_its_cancel_in_one_request(org: Organization) -> None:
    publish(org, [SLEEP], on={"event": "o/made"}, cancel_on={"event": "o/gone", "match": "data.id"})
    receive(org, NewEvent(name="o/made", data={"id": 1}), NewEvent(name="o/gone", data={"id": 1}))
    assert Run.objects.get(org_id=org.id).status == "cancelled"
    receive(org, NewEvent(name="o/gone", data={"id": 2}), NewEvent(name="o/made", data={"id": 2}))
    assert Run.objects.get(org_id=org.id, ended_at=None).cancel_requested_at is None


def test_a_start_that_is_matched_after_its_cancel(org: Organization) -> None:
    publish(org, [SLEEP], on={"event": "o/made"}, cancel_on={"event": "o/*", "match": "data.id"})
    late = Event.objects.create(org_id=org.id, name="o/made", data={"id": 1}, ts=timezone.now())  # its process died
    receive(org, NewEvent(name="o/gone", data={"id": 1}))
    matching.match([late.id])
    assert Run.objects.get(org_id=org.id).status == "cancelled"


# --- idempotency ---------------------------------------------------------------------------------------------------


def test_a_key_is_never_taken_from_a_run_that_was_made(org: Organization) -> None:
    slug = publish(org, [SLEEP], idempotency="input.id")

    def go(key: str, id_: int) -> UUID:
        return services.trigger(org, slug, {"id": id_}, idempotency_key=key).run_ids[0]

    one, two = go("a", 1), go("b", 2)
    assert (go("c", 2), go("a", 2), go("d", 2)) == (two, one, two)


def test_only_the_forced_run_of_a_batch_is_forced(org: Organization) -> None:
    slug = publish(org, [SLEEP], idempotency={"key": "input.id", "force": "input.again"})
    (first,) = services.trigger(org, slug, {"id": 1}).run_ids
    plain, forced = services.trigger_many(org, slug, [{"id": 1}, {"id": 1, "again": True}]).run_ids
    assert (plain, forced != first) == (first, True)
    assert services.trigger(org, slug, {"id": 1}).run_ids == [forced]


def test_a_key_and_a_priority_read_the_event_itself(org: Organization) -> None:
    publish(
        org, [SLEEP], on={"event": "u/x"}, idempotency="event.user.id + string(event.ts)", priority="event.user.level"
    )
    now = timezone.now()
    for days in (0, 0, 1):
        receive(org, NewEvent(name="u/x", user={"id": "7", "level": 120}, ts=now - dt.timedelta(days=days)))
    assert list(Run.objects.filter(org_id=org.id).values_list("priority", flat=True)) == [120, 120]


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
    follow_up.follow_up()
    handler = Run.objects.filter(org_id=org.id, origin_kind="on_failure").first()
    fail(handler.id)
    dlq.replay(org, DeadLetter.objects.get(run_id=handler.id).id, by="me")


def test_a_plan_of_a_thousand_steps_looks_at_each_once(org: Organization) -> None:
    flow = services.published(org, publish(org, [{"id": f"s{n}", "type": "noop"} for n in range(1_000)]))
    past = {
        key: Past(id=uuid.uuid4(), type="noop", status="completed" if key != "s700" else "failed") for key in flow.steps
    }
    planned = fork.plan(flow, past)
    assert sum(step.source is not None for step in planned) == 700
    assert [step.status for step in planned[698:703]] == ["completed", "completed", "ready", "pending", "pending"]


# --- poison: a step type that this process does not have -----------------------------------------------------------


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a rolling deployment."""
    catalog.forget()
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
        assert {Run.objects.get(id=each.run_id).status for each in taken} == {"failed"}
        assert DeadLetter.objects.filter(run_id=lost).count() == 1
        dlq.replay_due()
        assert DeadLetter.objects.get(run_id=good).status == "reprocessed"
        follow_up.follow_up()
        assert Run.objects.filter(origin_id=good, origin_kind="on_failure").count() == 1
        assert Run.objects.get(id=bad).follow_up
        assert (pump(two).done, pump(one).passed_over) == (2, 2)
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

    monkeypatch.setattr(alerts, "CLAIMED_FOR_S", 1)
    monkeypatch.setattr(channels, "send", send)
    expected = {notification(org, "c").id for _ in range(8)}

    def deliver() -> None:
        time.sleep(1.1)
        try:
            alerts.deliver()
        finally:
            connections.close_all()

    thread = threading.Thread(target=deliver)
    thread.start()
    alerts.deliver()
    thread.join()
    assert (len(sent), set(sent)) == (8, expected)


def test_a_dead_channel_does_not_hold_up_the_others(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    AlertNotification.objects.filter(status="pending").delete()
    told: list[str] = []
    monkeypatch.setattr(channels, "send", lambda each: told.append(each.channel))
    for _ in range(alerts.BATCH):
        waiting = notification(org, "dead", due_at=timezone.now() + dt.timedelta(minutes=20), tries=7)
        notification(org, "dead", "recovered", alert=waiting.alert)
    notification(org, "good")
    assert (alerts.deliver(), told) == (1, ["good"])
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
        answer = client.post(f"/admin/dlq/deadlettergroup/{group}/change/", {**form, **more})
        assert (answer.status_code, says in answer.content.decode()) == (200, True)
    assert connection.is_usable()
