"""Flow-level controls: what each makes of events, over time and together; pause, drain and resume.

The tests own the clock: `pass_time` moves what is stored into the past. There are no workers but where a test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx
import pytest
from django.db import connection, connections

from tests.support.workers import publish
from workflows import services
from workflows.engine.events import receive
from workflows.engine.events.receive import NewEvent
from workflows.engine.state.transitions import steps as step_transitions
from workflows.errors import RunRateLimited
from workflows.models import Event, Organization, Run, StepRun, TriggerOutcome

STEPS = [{"id": "a", "type": "noop"}]
HEARS = [{"event": "x/y"}]


def flow(org: Organization, **controls: Any) -> str:
    return publish(org, STEPS, on=HEARS, **controls)


def send(org: Organization, *data: dict[str, Any], **more: Any) -> list[UUID]:
    """Events, in one call."""
    return receive.receive(org.id, [NewEvent(name="x/y", data=each, **more) for each in data])


def by_many_senders(work: Callable[[int], object], number: int) -> None:
    """Eight at once."""

    def one(index: int) -> None:
        try:
            work(index)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(number)))


def pass_time(org: Organization, seconds: float) -> None:
    """Everything of the organization's runs happened so much earlier."""
    with connection.cursor() as cursor:
        shift = f"- make_interval(secs => {seconds})"
        cursor.execute(f"UPDATE headrace_workflows_run SET created_at = created_at {shift} WHERE org_id = %s", [org.id])
        cursor.execute(f"UPDATE headrace_workflows_steprun SET wake_at = wake_at {shift} WHERE org_id = %s", [org.id])
        cursor.execute(
            f"UPDATE headrace_workflows_runstart SET at = at {shift} WHERE run_id IN (SELECT id FROM headrace_workflows_run WHERE org_id = %s)",
            [org.id],
        )


def runs(org: Organization) -> list[Run]:
    return list(Run.objects.filter(org_id=org.id).order_by("id"))


def live(org: Organization) -> list[Any]:
    """What the live runs were given, in the order in which they were made."""
    return [run.input.get("n") for run in runs(org) if run.is_live and not run.cancel_requested_at]


def outcomes(org: Organization) -> list[tuple[Any, str]]:
    """(the event's n, what became of it), in the order of the events."""
    found = TriggerOutcome.objects.filter(org_id=org.id)
    numbers = {event.id: event.data.get("n") for event in Event.objects.filter(org_id=org.id)}
    return sorted((numbers[each.event_id], each.code) for each in found if each.event_id)


def starts_in_s(run: Run) -> float:
    """Seconds until the run's first step wakes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM wake_at - clock_timestamp()) FROM headrace_workflows_steprun WHERE run_id = %s",
            [run.id],
        )
        return float(cursor.fetchone()[0])


def n(number: int, **more: Any) -> dict[str, Any]:
    return {"n": number, **more}


# --- rate_limit ------------------------------------------------------------------------------------------------------

RATE = {"rate_limit": {"limit": 2, "period": "10s", "key": "event.data.k"}}


def test_a_rate_limit_drops_and_marks_what_is_too_much(org: Organization, published: list[Any]) -> None:
    flow(org, **RATE)
    send(org, n(1, k="a"), n(2, k="a"), n(3, k="a"), n(4, k="b"))
    assert (live(org), outcomes(org)) == ([1, 2, 4], [(3, "rate_limited")])
    pass_time(org, 9)
    send(org, n(5, k="a"))
    assert outcomes(org)[-1] == (5, "rate_limited")
    pass_time(org, 1.5)
    send(org, n(6, k="a"))
    send(org, n(7, k="a"))
    send(org, n(8, k="a"))
    assert live(org) == [1, 2, 4, 6, 7]
    assert outcomes(org) == [(3, "rate_limited"), (5, "rate_limited"), (8, "rate_limited")]


def test_a_rate_limit_is_exact_over_many_senders(org: Organization, published: list[Any]) -> None:
    flow(org, rate_limit={"limit": 7, "period": "1h"})

    by_many_senders(lambda number: send(org, n(number)), 40)
    assert len(live(org)) == 7
    assert len(outcomes(org)) == 33


def test_a_request_beyond_the_rate_limit_is_told_when(
    org: Organization, published: list[Any], api_key: str, address: str
) -> None:
    flow(org, rate_limit={"limit": 1, "period": "60s"})
    services.trigger(org, "flow", {})
    with pytest.raises(RunRateLimited):
        services.trigger(org, "flow", {})
    answer = httpx.post(f"{address}/api/workflows/flow/run", headers={"Authorization": f"Bearer {api_key}"}, json={})
    assert (answer.status_code, answer.json()["code"]) == (429, "run_rate_limited")
    assert 50 <= int(answer.headers["Retry-After"]) <= 60


# --- debounce --------------------------------------------------------------------------------------------------------

DEBOUNCE = {"debounce": {"period": "10s", "timeout": "25s", "key": "event.data.k"}}


def test_a_debounce_gives_one_run_with_the_last_event(org: Organization, published: list[Any]) -> None:
    flow(org, **DEBOUNCE)
    for number, (pause_s, starts_s) in enumerate([(0, 10), (5, 10), (7, 10), (8, 5)]):
        pass_time(org, pause_s)
        send(org, n(number, k="a"))
        (run,) = runs(org)
        assert run.input["n"] == number
        assert run.event_id == Event.objects.filter(org_id=org.id).order_by("-id")[0].id
        assert starts_s - 3 < starts_in_s(run) <= starts_s
    assert outcomes(org) == [(1, "debounced"), (2, "debounced"), (3, "debounced")]
    assert Run.objects.get(org_id=org.id).gathered == 4


def test_what_comes_after_a_debounced_run_has_started_gives_another(org: Organization, published: list[Any]) -> None:
    flow(org, **DEBOUNCE)
    send(org, n(1, k="a"), n(2, k="b"), n(3, k="a"))
    assert (live(org), outcomes(org)) == ([2, 3], [(1, "debounced")]) or live(org) == [3, 2]
    pass_time(org, 11)
    step_transitions.wake(batch=100)
    send(org, n(4, k="a"))
    assert sorted(live(org)) == [2, 3, 4]
    assert Run.objects.filter(org_id=org.id).exclude(gather_key="").count() == 2


def test_a_debounced_run_that_was_cancelled_gathers_no_more(org: Organization, published: list[Any]) -> None:
    flow(org, **DEBOUNCE)
    send(org, n(1, k="a"))
    services.cancel_run(org, runs(org)[0].id)
    send(org, n(2, k="a"))
    assert live(org) == [2]


@pytest.mark.parametrize("first", ["debounce", "batch"])
def test_a_flow_that_gathers_otherwise_now_leaves_what_was_gathered_alone(
    org: Organization, published: list[Any], first: str
) -> None:
    """Published anew while a run gathers, with the same key: the next event begins a run of its own."""
    kinds = {"debounce": DEBOUNCE, "batch": {"batch": {"max_size": 3, "timeout": "10s", "key": "event.data.k"}}}
    flow(org, **kinds.pop(first))
    send(org, n(1, k="a"))
    flow(org, **kinds.popitem()[1])
    send(org, n(2, k="a"))
    inputs = [run.input for run in Run.objects.filter(org_id=org.id).order_by("id")]
    assert len(inputs) == 2
    assert [given.get("n", [each["data"]["n"] for each in given.get("events", ())]) for given in inputs] in (
        [1, [2]], [[1], 2],
    )  # fmt: skip


def test_a_debounce_by_many_senders_makes_one_run(org: Organization, published: list[Any]) -> None:
    flow(org, **DEBOUNCE)

    by_many_senders(lambda number: send(org, n(number, k="a")), 24)
    (run,) = runs(org)
    assert run.gathered == 24
    assert len(outcomes(org)) == 23


# --- batch -----------------------------------------------------------------------------------------------------------

BATCH = {"batch": {"max_size": 3, "timeout": "10s", "key": "event.data.k"}}


def batches(org: Organization) -> list[list[int]]:
    return [[event["data"]["n"] for event in run.input["events"]] for run in runs(org)]


def ready(org: Organization) -> list[bool]:
    """Of each run: whether it has started, or may."""
    return [StepRun.objects.get(run_id=run.id).status != "waiting" for run in runs(org)]


def test_a_batch_starts_when_it_is_full_or_its_time_is_up(org: Organization, published: list[Any]) -> None:
    flow(org, **BATCH)
    send(org, n(1, k="a"))
    send(org, n(2, k="a"), n(3, k="b"))
    assert (batches(org), ready(org)) == ([[1, 2], [3]], [False, False])
    assert 9 < starts_in_s(runs(org)[0]) <= 10
    send(org, n(4, k="a"))
    step_transitions.wake(batch=100)
    assert (batches(org), ready(org)) == ([[1, 2, 4], [3]], [True, False])
    send(org, n(5, k="a"))
    assert batches(org) == [[1, 2, 4], [3], [5]]
    pass_time(org, 11)
    step_transitions.wake(batch=100)
    assert ready(org) == [True, True, True]
    send(org, n(6, k="a"))
    assert batches(org)[-1] == [6]


def test_many_events_at_once_fill_batches_in_their_order(org: Organization, published: list[Any]) -> None:
    flow(org, **BATCH)
    send(org, n(0, k="a"))
    send(org, *(n(number, k="a") for number in range(1, 9)))
    assert batches(org) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    step_transitions.wake(batch=100)
    assert ready(org) == [True, True, True]
    assert [code for _, code in outcomes(org)] == ["batched"] * 6


def test_a_batch_by_many_senders_loses_and_doubles_nothing(org: Organization, published: list[Any]) -> None:
    flow(org, **BATCH)

    by_many_senders(lambda number: send(org, n(number, k="a")), 31)
    found = batches(org)
    assert sorted(number for batch in found for number in batch) == list(range(31))
    assert sorted(len(batch) for batch in found) == [1] + [3] * 10


# --- singleton -------------------------------------------------------------------------------------------------------


def test_a_singleton_that_skips(org: Organization, published: list[Any]) -> None:
    flow(org, singleton={"key": "event.data.k"})
    send(org, n(1, k="a"), n(2, k="a"), n(3, k="b"))
    send(org, n(4, k="a"))
    assert (live(org), outcomes(org)) == ([1, 3], [(2, "singleton"), (4, "singleton")])
    assert {each.run_id for each in TriggerOutcome.objects.filter(org_id=org.id)} == {runs(org)[0].id}
    asked = services.trigger(org, "flow", {"k": "a"})
    assert (asked.run_ids, asked.existing) == ([runs(org)[0].id], True)
    services.cancel_run(org, runs(org)[0].id)
    send(org, n(5, k="a"))
    assert live(org) == [3, 5]


def test_a_singleton_that_cancels(org: Organization, published: list[Any]) -> None:
    flow(org, singleton={"key": "event.data.k", "mode": "cancel"})
    send(org, n(1, k="a"), n(2, k="a"), n(3, k="b"))
    assert (live(org), outcomes(org)) == ([2, 3], [(1, "singleton")])
    send(org, n(4, k="a"))
    assert live(org) == [3, 4]
    cancelled = Run.objects.get(org_id=org.id, status="cancelled")
    assert (cancelled.input["n"], cancelled.cancel_reason) == (2, "by a newer run (singleton)")


@pytest.mark.parametrize("mode", ["skip", "cancel"])
def test_a_singleton_by_many_senders(mode: str, org: Organization, published: list[Any]) -> None:
    flow(org, singleton=mode)

    by_many_senders(lambda number: send(org, n(number)), 16)
    assert len(live(org)) == 1
    assert len(runs(org)) == (1 if mode == "skip" else 16)
