"""Controls of one flow together, and those that contradict each other."""

from __future__ import annotations

import datetime as dt
from typing import Any

import httpx
import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.integration.run_controls.test_flow_controls import (
    DEBOUNCE,
    STEPS,
    flow,
    live,
    n,
    outcomes,
    pass_time,
    runs,
    send,
    starts_in_s,
)
from tests.support.workers import publish
from workflows import services
from workflows.definitions.validate import REFUSED_PAIRS, DefinitionProblems, parse
from workflows.engine.state import database
from workflows.errors import InvalidInput
from workflows.models import Organization, StepRun, TriggerOutcome
from workflows.services import repair

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


def test_the_form_of_keys_is_asked_for_once_in_a_transaction_and_waits_of_others_are_as_before(
    org: Organization, published: list[Any]
) -> None:
    flow(org, **KEYED, rate_limit={"limit": 1, "period": "1h"})
    send(org, n(1, id="x"))
    database.counter().by_name.clear()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '7s'")
        send(org, n(2, id="y"))  # its key is given back
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("7s",)
    assert outcomes(org) == [(2, "rate_limited")]
    asked = database.counter().by_name
    assert (asked["lock_key_form"], asked["hashes_keys"], asked["forget_keys"]) == (1, 1, 1)


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
