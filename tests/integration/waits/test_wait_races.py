"""Waits, callbacks and gathering runs where somebody tries to break them: what a hostile review has found."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, transaction

from tests.support.by_hand import claim, end, start, steps_of
from tests.support.workers import WorkerPool, await_end, await_that, by_key, publish, run_to_end
from workflows import services
from workflows.definitions.validate import DefinitionProblems, parse
from workflows.engine.events import matching, receive
from workflows.engine.events.receive import NewEvent
from workflows.engine.maintenance import leader
from workflows.engine.pipeline import record
from workflows.engine.state.records import Claim, StepResult
from workflows.engine.state.transitions import steps as step_transitions
from workflows.engine.waits import resolve
from workflows.errors import NonRetriable
from workflows.models import Event, Organization, Run, StepRun, Wait
from workflows.services import approvals, callbacks, invoke, repair
from workflows.services.approvals import Decider
from workflows.services.callbacks import CallbackUsed
from workflows.steps import callback_urls
from workflows.steps.outcome import WaitFor

WAIT: dict[str, Any] = {"id": "w", "type": "wait_for_event", "config": {"event": "x/y"}}
HEARS = [{"event": "x/y"}]


def send(org: Organization, **data: Any) -> UUID:
    return receive.receive(org.id, [NewEvent(name="x/y", data=data)])[0]


def wait(claimed: Claim, **more: Any) -> None:
    outcome = WaitFor(kind="event", event_name="x/y", **{"timeout_s": 3600, **more})
    record.record([StepResult(claim=claimed, outcome=outcome)])


@pytest.mark.parametrize("kind", ["wait", "map", "approval", "invoke"])
def test_what_undoes_a_step_that_waited_runs(kind: str, org: Organization, workers: WorkerPool) -> None:
    failing = {"id": "x", "type": "raises", "config": {"how": "final"}}
    publish(org, [failing], slug="child")
    waiting: dict[str, Any] = {
        "wait": {"type": "wait_for_event", "config": {"event": "x/y", "timeout": "200ms", "on_timeout": "fail"}},
        "map": {"type": "map", "config": {"items": [1]}, "steps": [failing]},
        "approval": {"type": "wait_for_approval", "config": {"on_reject": "fail"}},
        "invoke": {"type": "invoke_flow", "config": {"flow": "child"}},
    }[kind]
    steps = [
        {"id": "w", "critical": False, "on_failure": "undo", **waiting},
        {"id": "undo", "type": "noop"},
        {"id": "b", "type": "noop", "needs": ["w"]},
    ]
    run_id = services.trigger(org, publish(org, steps)).run_ids[0]
    if kind == "approval":
        (found,) = await_that(lambda: approvals.waiting(org), what="the approval")
        approvals.decide(org, found.id, approve=False, by=Decider(name="me", roles=frozenset()))
    await_end(org, run_id)
    assert {key: status for key, status in steps_of(run_id).items() if key != "x"} == {
        "w": "failed", "undo": "completed", "b": "completed",
    }  # fmt: skip


def test_an_end_that_can_not_be_recorded_harms_no_other(
    org: Organization, other: Organization, published: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that is small as it comes and large as it is stored."""
    first, second = start(org, [WAIT]), start(other, [WAIT])
    wait(claim(first, "w"))
    wait(claim(second, "w"), timeout_s=0.01)
    with monkeypatch.context() as dying:
        dying.setattr(resolve, "resolve", lambda *_, **__: None)
        send(org, n=[1e300] * 60_000)
        time.sleep(0.05)
        resolve.expire()
    monkeypatch.setattr("workflows.engine.waits.waits.GRACE_S", 0.0)
    resolve.rescue()
    assert (steps_of(first)["w"], steps_of(second)["w"]) == ("failed", "completed")


def test_two_waits_of_a_run_for_one_event_both_have_it(org: Organization, published: list[Any]) -> None:
    run_id = start(org, [{**WAIT, "id": key, "needs": []} for key in ("a", "b")])
    first, second = claim(run_id, "a"), claim(run_id, "b")
    wait(first)
    send(org, n=1)
    wait(second)
    assert steps_of(run_id) == {"a": "completed", "b": "completed"}


def test_an_event_counts_that_came_while_a_worker_was_being_lost(org: Organization, published: list[Any]) -> None:
    run_id = start(org, [WAIT])
    claim(run_id, "w")
    send(org, n=1)
    StepRun.objects.filter(run_id=run_id).update(lease_until="2020-01-01T00:00:00Z")
    leader._dead_leases(uuid.uuid4())
    wait(claim(run_id, "w"))
    assert steps_of(run_id) == {"w": "completed"}


def test_an_event_of_an_open_transaction_counts_when_that_commits(org: Organization, published: list[Any]) -> None:
    slug = publish(org, [WAIT])
    made: list[UUID] = []

    def trigger() -> None:
        made.extend(services.trigger(org, slug).run_ids)
        connections.close_all()

    with transaction.atomic():
        send(org, n=1)
        thread = threading.Thread(target=trigger)
        thread.start()
        thread.join()
    wait(claim(made[0], "w"))
    assert steps_of(made[0]) == {"w": "completed"}


def test_an_approval_with_too_much_to_say_keeps_no_other_from_being_told_of(
    org: Organization, other: Organization, published: list[Any]
) -> None:
    for owner, size in ((org, 700_000), (other, 10)):
        run_id = start(owner, [{"id": "w", "type": "wait_for_approval", "config": {}}])
        options = {"title": "t", "details": "x" * size}
        outcome = WaitFor(kind="approval", timeout_s=3600, remind_s=0.0, options=options)
        record.record([StepResult(claim=claim(run_id, "w"), outcome=outcome)])
    approvals.remind()
    assert Event.objects.filter(org_id=other.id, name="headrace/approval.requested").count() == 1
    with pytest.raises(DefinitionProblems, match="name where to find them"):
        parse({"flow": "f", "steps": [{"id": "w", "type": "wait_for_approval", "config": {"details": "x" * 70_000}}]})


def test_a_condition_sees_what_stood_in_for_a_step(org: Organization, workers: WorkerPool) -> None:
    config = {"event": "x/y", "if": "async.data.id == steps['p'].output.id", "timeout": "10s", "on_timeout": "fail"}
    steps = [
        {"id": "p", "type": "raises", "config": {"how": "final"}},
        {"id": "f", "type": "noop", "fallback_for": "p", "config": {"output": {"id": 7}}},
        {"id": "w", "type": "wait_for_event", "needs": ["p"], "config": config},
    ]
    run_id = start(org, steps)
    await_that(lambda: Wait.objects.filter(run_id=run_id).exists(), what="the wait")
    send(org, id=7)
    assert await_end(org, run_id).run.status == "completed"


def test_a_flow_that_gives_the_run_that_invokes_it_is_refused(org: Organization, published: list[Any]) -> None:
    run_id = start(org, [{"id": "w", "type": "invoke_flow", "config": {"flow": "flow"}}], singleton="skip")
    with pytest.raises(NonRetriable, match="waits for this one"):
        invoke.invoke(
            org.id, "flow", None, parent=run_id, on_parent_cancel="cancel", once="1", priority=None, awaited=True
        )


# --- gathering -------------------------------------------------------------------------------------------------------


def test_a_debounce_keeps_the_last_event_whichever_is_matched_last(
    org: Organization, published: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(org, [{"id": "a", "type": "noop"}], on=HEARS, debounce={"period": "10s"})
    with monkeypatch.context() as later:
        later.setattr(matching, "match", lambda _: None)
        first = send(org, n=1)
        second = send(org, n=2)
    matching.match([second])
    matching.match([first])
    (run,) = Run.objects.filter(org_id=org.id)
    assert (run.input, run.event_id, run.gathered) == ({"n": 2}, second, 2)


@pytest.mark.parametrize("control", [{"debounce": {"period": "100ms"}}, {"batch": {"max_size": 5, "timeout": "100ms"}}])
def test_a_run_of_which_a_step_has_woken_gathers_no_more(
    control: dict[str, Any], org: Organization, published: list[Any]
) -> None:
    publish(org, [{"id": key, "type": "noop", "needs": []} for key in ("a", "b")], on=HEARS, **control)
    send(org, n=1)
    time.sleep(0.15)
    steps = StepRun.objects.filter(org_id=org.id)
    while not steps.filter(status="ready").exists():
        assert step_transitions.wake(batch=1), "none of its steps is due"  # those of other tests come first
    send(org, n=2)
    assert Run.objects.filter(org_id=org.id).count() == 2
    first = Run.objects.filter(org_id=org.id).order_by("id")[0].input
    assert first == {"n": 1} or [each["data"] for each in first["events"]] == [{"n": 1}]


@pytest.mark.parametrize("size", [1, 400_000])
def test_a_batch_can_be_repeated(size: int, org: Organization, published: list[Any]) -> None:
    publish(org, [{"id": "a", "type": "noop"}], on=HEARS, batch={"max_size": 5, "timeout": "1m"},
            input_schema={"type": "object", "required": ["n"]})  # fmt: skip
    for _ in range(5):
        send(org, n="x" * size)
    run = Run.objects.get(org_id=org.id)
    step_transitions.wake(batch=1_000)
    end(claim(run.id, "a"))
    again = repair.replay(org, run.id, by="me").run_id
    assert again is not None
    assert len(Run.objects.get(id=again).input["events"]) == 5


# --- callbacks -------------------------------------------------------------------------------------------------------


def test_of_many_calls_at_once_one_counts_and_the_others_are_told(org: Organization, published: list[Any]) -> None:
    token = callback_urls.token_of(start(org, [{"id": "cb", "type": "wait_for_callback", "config": {}}]), "cb")

    def call(number: int) -> bool:
        try:
            callbacks.receive_callback(token, {"n": number})
        except CallbackUsed:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(8) as pool:
        accepted = list(pool.map(call, range(8)))
    assert accepted.count(True) == 1
    stored = Event.objects.get(org_id=org.id, name__startswith="headrace/callback/")
    assert stored.data == {"n": accepted.index(True)}


def test_an_address_read_in_a_container_is_that_of_its_step(org: Organization, workers: WorkerPool) -> None:
    inside = [
        {"id": "mail", "type": "noop", "config": {"output": "${ [callbacks['cb'], callbacks['own']] }"}},
        {"id": "own", "type": "wait_for_callback", "config": {"timeout": "100ms"}},
        {"id": "result", "type": "noop", "config": {"output": "${ steps.mail.output }"}},
    ]
    steps = [
        {"id": "all", "type": "map", "config": {"items": [1]}, "steps": inside},
        {"id": "cb", "type": "wait_for_callback", "config": {"timeout": "100ms"}},
    ]
    detail = run_to_end(org, steps)
    run_id = detail.run.id
    found = by_key(detail)["all"].step_run.output["results"][0]
    assert found == [callback_urls.url_of(run_id, "cb"), callback_urls.url_of(run_id, "own", "all[0]")]


def test_a_resumed_run_hands_its_own_addresses_out(org: Organization, workers: WorkerPool) -> None:
    config = {"timeout": "300ms", "on_timeout": "fail"}
    steps = [
        {"id": "mail", "type": "noop", "config": {"output": "${ callbacks['cb'] }"}},
        {"id": "cb", "type": "wait_for_callback", "config": config},
    ]
    run = run_to_end(org, steps).run
    again = repair.replay(org, run.id, by="me", mode="resume")
    assert again.kept == []
    detail = await_end(org, again.run_id or run.id)
    assert by_key(detail)["mail"].step_run.output == callback_urls.url_of(detail.run.id, "cb")
