"""Flow-level controls: what each makes of events, over time and together; pause, drain and resume.

The tests own the clock: `pass_time` moves what is stored into the past. There are no workers but where a test says so.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx
import pytest
from django.db import connection, connections
from django.utils import timezone

from tests.support.workers import publish
from workflows import services
from workflows.definitions.validate import REFUSED_PAIRS, DefinitionProblems, parse
from workflows.engine.events import receive
from workflows.engine.events.receive import NewEvent
from workflows.engine.state.transitions import steps as step_transitions
from workflows.errors import InvalidInput, RunRateLimited
from workflows.models import Event, Organization, Run, StepRun, TriggerOutcome
from workflows.services import repair

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
        cursor.execute(f"UPDATE workflows_run SET created_at = created_at {shift} WHERE org_id = %s", [org.id])
        cursor.execute(f"UPDATE workflows_steprun SET wake_at = wake_at {shift} WHERE org_id = %s", [org.id])
        cursor.execute(
            f"UPDATE workflows_runstart SET at = at {shift} WHERE run_id IN (SELECT id FROM workflows_run WHERE org_id = %s)",
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
            "SELECT extract(epoch FROM wake_at - clock_timestamp()) FROM workflows_steprun WHERE run_id = %s", [run.id]
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


# --- together --------------------------------------------------------------------------------------------------------

KEYED = {"idempotency": "event.data.id"}


@pytest.mark.parametrize(
    ("controls", "sent", "alive", "marked"),
    [
        # What a singleton skips does not count for the rate.
        ({"singleton": "skip", "rate_limit": {"limit": 2, "period": "1h"}}, [[n(1)], [n(2)], [n(3)]], [1],
         [(2, "singleton"), (3, "singleton")]),
        # A run that cancels another one counts.
        ({"singleton": "cancel", "rate_limit": {"limit": 2, "period": "1h"}}, [[n(1)], [n(2)], [n(3)]], [],
         [(3, "rate_limited")]),
        # Moving a debounced run does not count, another run does.
        ({"debounce": {"period": "1h", "key": "event.data.k"}, "rate_limit": {"limit": 1, "period": "1h"}},
         [[n(1, k="a")], [n(2, k="a")], [n(3, k="b")]], [2], [(2, "debounced"), (3, "rate_limited")]),
        # A duplicate counts for nothing; what was dropped may come again with its id.
        ({**KEYED, "rate_limit": {"limit": 2, "period": "1h"}}, [[n(1, id="x")], [n(2, id="x")], [n(3, id="y")]], [1, 3],
         [(2, "duplicate")]),
        ({**KEYED, "singleton": "skip"}, [[n(1, id="x")], [n(2, id="y")], [n(3, id="x")]], [1],
         [(2, "singleton"), (3, "duplicate")]),
        # Throttle and run concurrency hold runs back that were made; rate_limit decides which are.
        ({"rate_limit": {"limit": 2, "period": "1h"}, "throttle": {"limit": 1, "period": "1h"},
          "concurrency": {"limit": 1, "scope": "run"}}, [[n(1), n(2), n(3)]], [1, 2], [(3, "rate_limited")]),
    ],
)  # fmt: skip
def test_controls_together(
    controls: dict[str, Any], sent: list[list[dict[str, Any]]], alive: list[int], marked: list[tuple[int, str]],
    org: Organization, published: list[Any],
) -> None:  # fmt: skip
    flow(org, **controls)
    for group in sent:
        send(org, *group)
    assert live(org) == alive or (not alive and len(live(org)) == 0)
    assert outcomes(org) == marked


def test_a_dropped_event_may_come_again_with_its_id(org: Organization, published: list[Any]) -> None:
    flow(org, rate_limit={"limit": 1, "period": "10s"})
    send(org, n(1), external_id="one")
    send(org, n(2), external_id="two")
    pass_time(org, 11)
    send(org, n(2), external_id="two")
    assert live(org) == [1, 2]
    assert [code for _, code in outcomes(org)] == ["rate_limited"]


def test_a_debounced_event_that_comes_again_has_its_run(org: Organization, published: list[Any]) -> None:
    flow(org, debounce={"period": "1h"})
    send(org, n(1), external_id="one")
    send(org, n(2), external_id="two")
    send(org, n(2), external_id="two")
    (run,) = runs(org)
    assert {each.run_id for each in TriggerOutcome.objects.filter(org_id=org.id)} == {run.id}
    assert [code for _, code in outcomes(org)] == ["debounced", "duplicate"]


def test_repeats_pass_the_controls_by(org: Organization, published: list[Any]) -> None:
    flow(org, rate_limit={"limit": 1, "period": "1h"}, singleton="skip")
    run_id = services.trigger(org, "flow", {}).run_ids[0]
    services.cancel_run(org, run_id)
    assert repair.replay(org, run_id, by="me").run_id is not None


def test_a_match_on_a_trigger_tells_duplicates(org: Organization, published: list[Any]) -> None:
    publish(org, STEPS, on=[{"event": "x/y", "match": "data.id"}])
    send(org, n(1, id="x"), n(2, id="x"), n(3, id="y"), n(4))
    assert (live(org), outcomes(org)) == ([1, 3, 4], [(2, "duplicate")])


def test_an_event_that_does_not_fit_is_marked(org: Organization, published: list[Any]) -> None:
    flow(org, input_schema={"type": "object", "properties": {"n": {"type": "integer"}}})
    send(org, {"n": "one"})
    assert TriggerOutcome.objects.get(org_id=org.id).code == "invalid"


def test_a_delay_and_a_flow_that_gathers_contradict_each_other(org: Organization, published: list[Any]) -> None:
    flow(org, **DEBOUNCE)
    with pytest.raises(InvalidInput, match="give no delay"):
        services.trigger(org, "flow", {"k": "a"}, delay="5m")


@pytest.mark.parametrize(
    ("trigger", "data", "expected_s"),
    [
        ({"delay": "90s"}, {}, 90),
        ({"run_at": "event.data.at"}, {"at": "in 1h"}, 3600),
        ({"run_at": "event.ts + 60000"}, {}, 60),
        ({"run_at": "event.data.at"}, {"at": "2001-01-01T00:00:00Z"}, None),
        ({"delay": "366d"}, {}, 366 * 86_400),
    ],
)
def test_an_event_may_start_its_run_later(
    trigger: dict[str, Any], data: dict[str, Any], expected_s: float | None, org: Organization, published: list[Any]
) -> None:
    publish(org, STEPS, on=[{"event": "x/y", **trigger}])
    if data.get("at") == "in 1h":
        data = {"at": (timezone.now() + dt.timedelta(hours=1)).isoformat()}
    send(org, data)
    (run,) = runs(org)
    if expected_s is None:
        assert StepRun.objects.get(run_id=run.id).status == "ready"
    else:
        assert abs(starts_in_s(run) - expected_s) < 2


@pytest.mark.parametrize("at", ["tomorrow", "2026-01-01T00:00:00", "2999-01-01T00:00:00Z"])
def test_a_start_that_is_no_time_is_marked(at: str, org: Organization, published: list[Any]) -> None:
    publish(org, STEPS, on=[{"event": "x/y", "run_at": "event.data.at"}])
    send(org, {"at": at})
    assert TriggerOutcome.objects.get(org_id=org.id).code == "invalid"


def test_a_request_may_say_when_its_run_starts(
    org: Organization, published: list[Any], api_key: str, address: str
) -> None:
    publish(org, STEPS)
    url, headers = f"{address}/api/workflows/flow/run", {"Authorization": f"Bearer {api_key}"}
    at = (timezone.now() + dt.timedelta(hours=2)).isoformat()
    assert httpx.post(url, headers=headers, json={"runAt": at}).status_code == 202
    assert abs(starts_in_s(runs(org)[0]) - 7200) < 2
    for bad in ({"runAt": at, "delay": "5m"}, {"runAt": "2999-01-01T00:00:00Z"}, {"runAt": "2026-01-01T00:00:00"}):
        assert httpx.post(url, headers=headers, json=bad).status_code == 422


def test_a_key_that_can_not_be_used_is_told(org: Organization, published: list[Any]) -> None:
    flow(org, singleton={"key": "event.data.k"})
    send(org, n(1))
    assert TriggerOutcome.objects.get(org_id=org.id).code == "invalid"
    with pytest.raises(InvalidInput, match="singleton"):
        services.trigger(org, "flow", {})


EXAMPLES: dict[str, Any] = {
    "batch": {"max_size": 2, "timeout": "1s"},
    "debounce": {"period": "1s"},
    "singleton": "skip",
    "rate_limit": {"limit": 1, "period": "1s"},
    "idempotency": "event.data.id",
    "cancel_on": {"event": "x/z"},
}


@pytest.mark.parametrize(("one", "other", "why"), REFUSED_PAIRS)
def test_controls_that_contradict_each_other_are_refused_with_the_reason(one: str, other: str, why: str) -> None:
    with pytest.raises(DefinitionProblems) as raised:
        parse({"flow": "flow", "steps": STEPS, one: EXAMPLES[one], other: EXAMPLES[other]})
    assert why in str(raised.value)


@pytest.mark.parametrize(
    ("controls", "problem"),
    [
        ({"batch": EXAMPLES["batch"], "priority": "event.data.p"}, "give priority as a number"),
        ({"debounce": {"period": "10s", "timeout": "5s"}}, "timeout is shorter than period"),
        ({"batch": {"max_size": 1, "timeout": "1s"}}, "batch.max_size"),
        ({"rate_limit": {"limit": 0, "period": "1s"}}, "rate_limit.limit"),
        ({"singleton": "queue"}, "singleton.mode"),
        ({"singleton": {"key": "steps.a.output"}}, "unknown name 'steps'"),
        ({"on": [{"cron": "0 3 * * *", "match": "data.id"}]}, "match belongs to an event trigger"),
        ({"on": [{"event": "x", "delay": "1s"}], "debounce": {"period": "1s"}}, "decide when it runs"),
        ({"on": [{"event": "x", "delay": "1s", "run_at": "event.ts"}]}, "either delay or run_at"),
        ({"on": [{"event": "x", "delay": "400d"}]}, "366d"),
    ],
)
def test_a_bad_control_is_refused_with_the_reason(controls: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionProblems, match=problem):
        parse({"flow": "flow", "steps": STEPS, **controls})
