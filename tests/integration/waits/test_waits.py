"""Waits: an event and a wait never miss each other, each wait ends once, and waiting costs nothing."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from django.db import connections

from tests.support.by_hand import claim, start, steps_of
from tests.support.volume import volume
from tests.support.workers import WorkerPool, await_end, await_that, by_key, publish, run_to_end, scalar
from workflows import services
from workflows.engine.events import receive
from workflows.engine.events.receive import NewEvent
from workflows.engine.pipeline import record
from workflows.engine.state import database
from workflows.engine.state.records import Claim, StepResult
from workflows.engine.waits import resolve, waits
from workflows.expressions.equality import NO_TERM, Term, hash_of, term_of
from workflows.models import Organization, Run, StepRun, Wait
from workflows.steps.outcome import WaitFor

WAIT: dict[str, Any] = {"id": "wait", "type": "wait_for_event", "config": {"event": "order/paid", "match": "data.id"}}
AFTER = {"id": "after", "type": "noop"}
THREADS = 8


def send(org: Organization, name: str = "order/paid", **data: Any) -> UUID:
    return receive.receive(org.id, [NewEvent(name=name, data=data)])[0]


# --- equality terms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("async.data.id == event.data.id", Term("data.id", hash_of(7))),
        ("event.data.id == async.data.id", Term("data.id", hash_of(7))),
        ("async.data['id'] == 7 && async.data.paid", Term("data.id", hash_of(7))),
        ("async.data.paid && (async.data.id == event.data.id)", Term("data.id", hash_of(7))),
        ("async.data.name == 'a && b'", Term("data.name", hash_of("a && b"))),
        ("async.data.id == 7 || async.data.id == 8", NO_TERM),
        ("async.data.id == async.data.other", NO_TERM),
        ("async.data.id != 7", NO_TERM),
        ("async.data.id >= 7", NO_TERM),
        ("!(async.data.id == 7)", NO_TERM),
        ("async.data.paid ? async.data.id == 7 : true", NO_TERM),
        ("async.data.items.exists(i, i == 1)", NO_TERM),
    ],
)
def test_an_equality_that_must_hold_is_found_in_a_condition(condition: str, expected: Term) -> None:
    assert term_of(condition, {"event": {"data": {"id": 7}}}) == expected


def test_values_that_are_equal_in_cel_have_the_same_hash() -> None:
    assert hash_of(1) == hash_of(1.0) != hash_of("1")
    assert hash_of({"a": [1.0], "b": None}) == hash_of({"b": None, "a": [1]})


# --- no gap between event and wait ----------------------------------------------------------------------------------


def _claims(org: Organization, number: int) -> list[Claim]:
    """Claimed steps that are about to wait, each of a run of its own with an id of its own."""
    from workflows.engine.state.transitions import steps as step_transitions

    slug = publish(org, [{**WAIT, "config": {**WAIT["config"], "timeout": "1h"}}])
    runs = services.trigger_many(org, slug, [{"id": index} for index in range(number)]).run_ids
    rows = StepRun.objects.filter(run_id__in=runs).order_by("run_id").values_list("id", "attempt")
    claims = step_transitions.claim(
        [(str(id_), attempt) for id_, attempt in rows], worker=uuid.uuid4(), lease_s=600
    ).claims
    order = {run_id: position for position, run_id in enumerate(runs)}
    return sorted(claims, key=lambda each: order[each.run_id])


def _register(claimed: Claim, key: int, *, lookback_s: float = 0.0) -> None:
    outcome = WaitFor(
        kind="event", timeout_s=3600, event_name="order/paid", match_path="data.id", value_hash=hash_of(key),
        lookback_s=lookback_s,
    )  # fmt: skip
    record.record([StepResult(claim=claimed, outcome=outcome)])


@pytest.mark.parametrize("order", ["wait first", "together", "event first"])
def test_a_wait_and_an_event_never_miss_each_other(order: str, org: Organization, published: list[Any]) -> None:
    """So many times each, by eight threads: the event comes 1 ms after, at the time of, or 1 ms before the wait."""
    number = volume(1_000)
    claims = _claims(org, number)

    def register(index: int) -> None:
        _register(claims[index], index, lookback_s=60)  # it became ready when its run was made, before the event

    def all_of(first: int) -> None:
        database.adopt()
        with ThreadPoolExecutor(1) as sender:
            for index in range(first, number, THREADS):
                if order == "together":
                    barrier = threading.Barrier(2)
                    sent = sender.submit(_at, barrier, lambda index: send(org, id=index), index)
                    _at(barrier, register, index)
                    sent.result()
                elif order == "wait first":
                    register(index)
                    time.sleep(0.001)
                    sender.submit(send, org, id=index).result()
                else:
                    sender.submit(send, org, id=index).result()
                    time.sleep(0.001)
                    register(index)
            sender.submit(connections.close_all).result()
        database.close()
        connections.close_all()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(all_of, range(THREADS)))
    assert scalar("SELECT count(*) FROM headrace_workflows_wait WHERE org_id = %s", org.id) == 0
    found = dict(StepRun.objects.filter(org_id=org.id).values_list("run_id", "output"))
    assert [found[each.run_id]["data"]["id"] for each in claims] == list(range(number))
    assert Run.objects.filter(org_id=org.id, status="completed").count() == number


def _at(barrier: threading.Barrier, work: Callable[[int], object], index: int) -> None:
    barrier.wait()
    work(index)


def test_an_event_from_before_the_step_was_ready_does_not_count_without_lookback(
    org: Organization, published: list[Any]
) -> None:
    send(org, id=1)
    run_id = start(org, [WAIT, AFTER], {"id": 1})
    record.record([StepResult(claim=claim(run_id, "wait"), outcome=_outcome())])
    assert steps_of(run_id)["wait"] == "waiting"
    send(org, id=1)
    assert steps_of(run_id) == {"wait": "completed", "after": "ready"}


def _outcome(**more: Any) -> WaitFor:
    return WaitFor(kind="event", event_name="order/paid", match_path="data.id", value_hash=hash_of(1), **more)


def test_a_process_that_dies_right_after_storing_a_wait_or_taking_it_loses_nothing(
    org: Organization, published: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (start(org, [WAIT, AFTER], {"id": 1}) for _ in range(2))
    with monkeypatch.context() as dying:
        dying.setattr(waits, "over_already", lambda *_: [])
        send(org, id=1)
        record.record([StepResult(claim=claim(first, "wait"), outcome=_outcome())])
    record.record([StepResult(claim=claim(second, "wait"), outcome=_outcome())])
    assert steps_of(first)["wait"] == "waiting"
    Wait.objects.filter(run_id=second).update(taken_at=None, taken_by="")
    with monkeypatch.context() as dying:
        dying.setattr(resolve, "resolve", lambda *_, **__: None)
        send(org, id=1)
    monkeypatch.setattr(waits, "GRACE_S", 0.0)
    resolve.rescue()
    assert steps_of(first)["wait"] == steps_of(second)["wait"] == "completed"
    assert not Wait.objects.filter(org_id=org.id).exists()


def test_one_event_resumes_many_runs_and_is_not_taken_twice_by_one(org: Organization, published: list[Any]) -> None:
    again = {"id": "again", "type": "wait_for_event", "config": {"event": "order/*", "match": "data.id"}}
    runs = [start(org, [WAIT, again], {"id": 1}) for _ in range(5)]
    for run_id in runs:
        record.record([StepResult(claim=claim(run_id, "wait"), outcome=_outcome())])
    event = send(org, id=1)
    assert {steps_of(run_id)["wait"] for run_id in runs} == {"completed"}
    record.record([StepResult(claim=claim(runs[0], "again"), outcome=_outcome(lookback_s=60))])
    assert steps_of(runs[0])["again"] == "waiting", f"the event {event} has resumed this run already"


# --- how a wait ends ------------------------------------------------------------------------------------------------


def test_waits_by_worker_event_timeout_and_condition(org: Organization, workers: WorkerPool) -> None:
    conditional = {
        "id": "big",
        "type": "wait_for_event",
        "config": {"event": "order/*", "if": "async.data.id == event.data.id && async.data.total > 100"},
    }
    slug = publish(org, [WAIT, conditional, {**AFTER, "config": {"output": "${ steps.big.output.data.total }"}}])
    run_id = services.trigger(org, slug, {"id": "a"}).run_ids[0]
    await_that(lambda: Wait.objects.filter(run_id=run_id), what="the first wait")
    send(org, id="other")
    send(org, id="a")
    await_that(lambda: Wait.objects.filter(run_id=run_id, event_name="order/*"), what="the second wait")
    send(org, "order/changed", id="a", total=5)
    send(org, "order/changed", id="a", total=500)
    detail = await_end(org, run_id)
    assert by_key(detail)["after"].step_run.output == 500
    assert by_key(detail)["wait"].step_run.output["data"] == {"id": "a"}
    assert [attempt.status for attempt in by_key(detail)["wait"].attempts] == ["completed"]

    quick = {**WAIT, "config": {**WAIT["config"], "timeout": "200ms"}}
    assert by_key(run_to_end(org, [quick, AFTER], {"id": 1}))["wait"].step_run.output is None
    failing = {**WAIT, "config": {**quick["config"], "on_timeout": "fail"}}
    detail = run_to_end(org, [failing, AFTER], {"id": 1})
    assert detail.run.status == "failed"
    assert detail.run.error["name"] == "WaitTimedOut"


def test_a_cancelled_run_waits_no_more(org: Organization, published: list[Any]) -> None:
    run_id = start(org, [WAIT, AFTER], {"id": 1})
    record.record([StepResult(claim=claim(run_id, "wait"), outcome=_outcome())])
    services.cancel_run(org, run_id)
    assert not Wait.objects.filter(run_id=run_id).exists()
    send(org, id=1)
    assert steps_of(run_id) == {"wait": "cancelled", "after": "cancelled"}


def test_a_match_on_a_field_that_the_event_lacks_fails_the_step(org: Organization, workers: WorkerPool) -> None:
    detail = run_to_end(org, [WAIT], {"other": 1})
    assert detail.run.error["category"] == "configuration"
    assert "data.id" in detail.run.error["message"]


def test_an_event_among_many_waits_is_looked_up_and_not_compared_with_each(
    org: Organization, published: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 open waits, half of them with a condition beside the equality: one evaluation."""
    run_id = start(org, [WAIT, AFTER], {"id": 1})
    record.record([StepResult(claim=claim(run_id, "wait"), outcome=_outcome())])
    with connections["default"].cursor() as cursor:
        cursor.execute(
            """INSERT INTO headrace_workflows_wait (step_run_id, org_id, run_id, kind, event_name, match_path, value_hash, condition,
                   since, looked_back, options, created_at, taken_by)
               SELECT gen_random_uuid(), %s, %s, 'event', 'order/paid', 'data.id', md5(n::text),
                      CASE WHEN n %% 2 = 0 THEN 'async.data.id == 1' ELSE '' END, now(), true, '{}', now(), ''
                 FROM generate_series(1, 100000) n""",
            [org.id, run_id],
        )
        cursor.execute("ANALYZE headrace_workflows_wait")
    evaluated: list[Any] = []
    holds = waits._holds
    monkeypatch.setattr(waits, "_holds", lambda *given: evaluated.append(given) or holds(*given))
    fetched: list[int] = []
    fetch = database.fetch

    def counting(name: str, *given: Any, **more: Any) -> list[Any]:
        rows = fetch(name, *given, **more)
        fetched.append(len(rows))
        return rows

    monkeypatch.setattr(database, "fetch", counting)
    send(org, id=1)
    assert steps_of(run_id)["wait"] == "completed"
    assert not evaluated
    assert max(fetched) < 10
    Wait.objects.filter(org_id=org.id).delete()
