"""Cancelling: one run, many, by event, with children; what runs sees it, and nothing late is recorded."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.workers import WorkerPool, await_end, await_that, publish, statuses
from workflows import services
from workflows.engine.events import receive
from workflows.engine.events.receive import NewEvent
from workflows.engine.state.transitions import runs as run_transitions
from workflows.engine.worker.heartbeat import HEARTBEAT_S, RENEW_AFTER_S
from workflows.errors import InvalidInput
from workflows.models import Attempt, BulkOperation, Organization, Run, StepRun, Worker
from workflows.services import bulk

pytestmark = pytest.mark.usefixtures("workers")
SLEEP = {"id": "a", "type": "delay", "config": {"for": "1h"}}


def live(org: Organization) -> int:
    return Run.objects.filter(org_id=org.id, ended_at=None).count()


@pytest.mark.parametrize("kind", ["probe_async", "ignores", "cooperates"])
def test_a_cancel_of_fifty_running_steps_takes_effect_within_two_heartbeats(
    org: Organization, own_workers: WorkerPool, kind: str
) -> None:
    """Asynchronous handlers, and blocking ones that do and do not look whether they are to stop."""
    own_workers.start("io", HEADRACE_IO_THREADS="60")
    own_workers.await_ready(1)
    config: dict[str, Any] = {"hold_ms": 15_000} if kind == "probe_async" else {"how": kind, "seconds": 15}
    type_ = kind if kind == "probe_async" else "raises"
    steps = [{"id": f"s{n}", "type": type_, "needs": [], "config": config, "retry": {"attempts": 1}} for n in range(50)]
    (run_id,) = services.trigger(org, publish(org, [*steps])).run_ids
    running = StepRun.objects.filter(run_id=run_id, status="running")
    await_that(lambda: running.count() == 50, 20, "50 running steps")
    time.sleep(RENEW_AFTER_S + 0.5 if kind == "probe_async" else 0.5)  # its lease was renewed, or not yet
    began = time.monotonic()
    services.cancel_run(org, run_id, reason="enough")
    detail = await_end(org, run_id, 15)
    took_s = time.monotonic() - began
    assert took_s <= 2 * HEARTBEAT_S + 1.0, took_s  # (a second for a busy machine; two heartbeats are 4 s)
    assert (detail.run.status, set(statuses(detail).values())) == ("cancelled", {"cancelled"})
    time.sleep(max(0.0, 16 - (time.monotonic() - began)))  # the handlers that did not look have ended now
    assert set(StepRun.objects.filter(run_id=run_id).values_list("status", flat=True)) == {"cancelled"}
    tried = Attempt.objects.filter(run_id=run_id)
    assert {(each.status, each.number) for each in tried} == {("cancelled", 1)}
    assert tried.count() == 50


def test_a_long_lease_delays_no_cancel_and_no_word_of_the_worker(org: Organization, own_workers: WorkerPool) -> None:
    own_workers.start("io", HEADRACE_LEASE_S="300", HEADRACE_GATE_LEASE_S="300")
    own_workers.await_ready(1)
    step = {"id": "a", "type": "raises", "config": {"how": "cooperates", "seconds": 60}, "retry": {"attempts": 1}}
    (run_id,) = services.trigger(org, publish(org, [step])).run_ids
    await_that(lambda: StepRun.objects.filter(run_id=run_id, status="running").exists())
    seen_at = Worker.objects.latest("seen_at").seen_at
    services.cancel_run(org, run_id)
    assert statuses(await_end(org, run_id, 20)) == {"a": "cancelled"}
    await_that(lambda: Worker.objects.latest("seen_at").seen_at > seen_at, 20, "another word of the worker")


def test_an_outcome_that_comes_after_the_cancel_does_not_count(org: Organization) -> None:
    step = {"id": "a", "type": "raises", "config": {"how": "ignores", "seconds": 1.0}}
    (run_id,) = services.trigger(org, publish(org, [step, {"id": "b", "type": "noop"}])).run_ids
    await_that(lambda: StepRun.objects.filter(run_id=run_id, status="running").exists())
    services.cancel_run(org, run_id)
    detail = await_end(org, run_id)
    assert statuses(detail) == {"a": "cancelled", "b": "cancelled"}
    row = StepRun.objects.get(run_id=run_id, key="a")
    assert (row.output, row.reason) in [(None, "came after the cancel: completed"), (None, "")]


def test_a_sandbox_is_killed(org: Organization) -> None:
    code = "n = 0\nwhile True:\n    n += 1"
    step = {"id": "a", "type": "sandbox_sync", "config": {"code": code, "timeout": "60s"}}
    (run_id,) = services.trigger(org, publish(org, [step])).run_ids
    await_that(lambda: StepRun.objects.filter(run_id=run_id, status="running").exists())
    began = time.monotonic()
    services.cancel_run(org, run_id)
    assert statuses(await_end(org, run_id, 20)) == {"a": "cancelled"}
    assert time.monotonic() - began < 10


def test_children_are_cancelled_with_their_parent_unless_they_are_abandoned(org: Organization) -> None:
    slug = publish(org, [SLEEP])
    (parent,) = services.trigger(org, slug).run_ids
    (child,) = services.trigger(org, slug, parent=parent).run_ids
    (grandchild,) = services.trigger(org, slug, parent=child).run_ids
    (other,) = services.trigger(org, slug, parent=parent, on_parent_cancel="abandon").run_ids
    services.cancel_run(org, parent, reason="all of it")
    for run_id in (parent, child, grandchild):
        run = await_end(org, run_id).run
        assert (run.status, run.cancel_reason) == ("cancelled", "all of it")
    assert Run.objects.get(id=other).is_live
    services.cancel_run(org, other)


# --- by event ------------------------------------------------------------------------------------------------------


def send(org: Organization, name: str, **data: Any) -> None:
    receive.receive(org.id, [NewEvent(name=name, data=data)])


def test_an_event_cancels_the_runs_that_match(org: Organization) -> None:
    rule = {"event": "order/cancelled", "match": "data.order.id"}
    slug = publish(org, [SLEEP], cancel_on=rule)
    mine, other = (services.trigger(org, slug, {"order": {"id": n}}).run_ids[0] for n in (1, 2))
    send(org, "order/cancelled", order={"id": 1})
    send(org, "order/cancelled", nothing=True)
    send(org, "order/else", order={"id": 2})
    cancelled = await_end(org, mine).run
    assert cancelled.status == "cancelled"
    assert cancelled.cancel_reason.startswith("by the event order/cancelled ")
    assert Run.objects.get(id=other).is_live
    services.cancel_run(org, other)


def test_an_expression_decides_over_both_events(org: Organization) -> None:
    rule = {"event": "orders/*", "if": "async.data.below > event.data.total && async.data.reason != 'test'"}
    slug = publish(org, [SLEEP], cancel_on=[rule])
    small, large, none = (services.trigger(org, slug, data).run_ids[0] for data in ({"total": 5}, {"total": 50}, {}))
    send(org, "orders/limit", below=10, reason="budget")
    assert await_end(org, small).run.status == "cancelled"
    assert all(Run.objects.get(id=run_id).is_live for run_id in (large, none))
    for run_id in (large, none):
        services.cancel_run(org, run_id)


def test_an_event_cancels_only_what_was_there_before_it_and_within_the_timeout(org: Organization) -> None:
    slug = publish(org, [SLEEP], on={"event": "job/asked"}, cancel_on={"event": "job/asked", "timeout": "1s"})
    send(org, "job/asked")
    first = await_that(lambda: Run.objects.filter(org_id=org.id, flow__slug=slug).first())
    assert first.is_live  # its own event does not cancel it
    send(org, "job/asked")
    assert await_end(org, first.id).run.status == "cancelled"
    second = await_that(lambda: Run.objects.filter(org_id=org.id, ended_at=None).first())
    time.sleep(1.1)
    send(org, "job/asked")
    await_that(lambda: live(org) == 2)
    assert Run.objects.get(id=second.id).is_live
    for run in Run.objects.filter(org_id=org.id, ended_at=None):
        services.cancel_run(org, run.id)


# --- in bulk -------------------------------------------------------------------------------------------------------


def test_runs_are_cancelled_in_bulk_by_a_filter(org: Organization) -> None:
    slug = publish(org, [SLEEP])
    services.trigger_many(org, slug, [{}] * 30, user_id="u1")
    services.trigger_many(org, slug, [{}] * 5, user_id="u2")
    assert bulk.draft(org, "cancel_runs", {"userId": "u1"}).matched == 30
    operation = bulk.start(org, "cancel_runs", {"userId": "u1"}, by="me", options={"reason": "gone"})
    await_that(lambda: BulkOperation.objects.get(id=operation.id).status == "completed")
    operation.refresh_from_db()
    assert (operation.done, operation.passed_over) == (30, 0)
    await_that(lambda: Run.objects.filter(org_id=org.id, status="cancelled").count() == 30)
    assert set(Run.objects.filter(status="cancelled", org_id=org.id).values_list("cancel_reason", flat=True)) == {
        "gone"
    }
    assert live(org) == 5
    bulk.start(org, "cancel_runs", {}, by="me")
    await_that(lambda: live(org) == 0)


@pytest.mark.parametrize(
    ("action", "where", "pace", "says"),
    [("eat_runs", {}, None, "unknown"), ("cancel_runs", {"colour": "red"}, None, "'colour' is unknown"),
     ("cancel_runs", {"since": "yesterday"}, None, "no time"), ("cancel_runs", {}, 0, "out of range"),
     ("cancel_runs", {}, float("nan"), "out of range"), ("cancel_runs", {"status": "gone"}, None, "status")],
)  # fmt: skip
def test_a_bad_bulk_operation_is_refused_whole(
    org: Organization, action: str, where: dict[str, str], pace: float | None, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        bulk.start(org, action, where, by="me", per_second=pace)
    assert not BulkOperation.objects.filter(org_id=org.id).exists()


def test_a_bulk_operation_keeps_its_pace_and_can_be_stopped_and_resumed(org: Organization) -> None:
    services.trigger_many(org, publish(org, [SLEEP]), [{}] * 40)
    operation = bulk.start(org, "cancel_runs", {}, by="me", per_second=10)
    await_that(lambda: BulkOperation.objects.get(id=operation.id).done >= 5)
    stopped = bulk.stop(org, operation.id, by="you")
    time.sleep(1.0)
    operation.refresh_from_db()
    assert operation.done == stopped.done < 40
    assert operation.status == "stopped"
    bulk.resume(org, operation.id, by="me")
    await_that(lambda: BulkOperation.objects.get(id=operation.id).status == "completed")
    operation.refresh_from_db()
    assert operation.ended_at is not None
    took_s = (operation.ended_at - operation.created_at).total_seconds()
    assert (operation.done, operation.passed_over) == (40, 0)
    assert took_s >= 3.5  # 40 at 10 a second
    whats = [(change.what, change.by) for change in operation.changes.all()]
    assert whats == [("started", "me"), ("stopped", "you"), ("resumed", "me"), ("completed", "the leader")]


def test_a_second_cancel_changes_nothing(org: Organization) -> None:
    (run_id,) = services.trigger(org, publish(org, [SLEEP])).run_ids
    services.cancel_run(org, run_id, reason="first")
    services.cancel_run(org, run_id, reason="second")
    assert await_end(org, run_id).run.cancel_reason == "first"
    assert run_transitions.request_cancel(org.id, [run_id], reason="third") == []
