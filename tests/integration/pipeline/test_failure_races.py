"""Races of stopping, of events and of idempotency keys. The tests are the workers themselves."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from django.db import connections, transaction
from django.utils import timezone

from dlq.models import DeadLetter
from tests.support.by_hand import NO, claim, end, fail, start, steps_of
from tests.support.workers import publish
from workflows import services
from workflows.engine.events import matching
from workflows.engine.events import receive as events
from workflows.engine.events.receive import NewEvent
from workflows.engine.maintenance import leader
from workflows.engine.run_controls import stopping
from workflows.engine.state import database
from workflows.engine.state.transitions import runs as run_transitions
from workflows.errors import ParentCancelled, RunNotFound
from workflows.models import Event, Organization, Run, StepRun

SLEEP = {"id": "a", "type": "delay", "config": {"for": "1h"}}
NOOP = {"id": "a", "type": "noop"}
pytestmark = pytest.mark.usefixtures("published")


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
    run_transitions.request_cancel(org.id, ids, reason="")
    leader._end_stopped_runs(deep=False)
    assert StepRun.objects.filter(run_id__in=ids, is_compensation=True, status="ready").count() == 60
    database.counter().by_name.clear()
    leader._end_stopped_runs(deep=False)
    assert "run_progress" not in database.counter().by_name  # they settle themselves


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
    database.counter().by_name.clear()
    receive(org, NewEvent(name="x/y", data={"k": 1}))
    assert database.counter().by_name["load_contexts"] == 1
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
