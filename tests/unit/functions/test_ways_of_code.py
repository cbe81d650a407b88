"""Code of flows may be written in the ways in which Python is."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import redis.exceptions
from django.db import OperationalError

from tests.support.python_flows import orders, ways
from workflows.engine.state.transitions.calls import NewCall
from workflows.functions import visits
from workflows.functions.calls import Call
from workflows.functions.flows import FunctionFlow
from workflows.functions.journal import Place
from workflows.functions.testing import FlowKit


@pytest.fixture(autouse=True)
def did() -> list[str]:
    """What the steps have done, in order."""
    orders.did.clear()
    return orders.did


def by_slug(value: Any) -> str:
    return value.slug if isinstance(value, FunctionFlow) else ""


@pytest.mark.parametrize(
    ("flow", "output", "done"),
    [
        (ways.task_group, ["one", "two"], ["one", "two"]),
        (ways.task_group_caught, "end", ["bad", "mend", "end"]),
        (ways.loser, True, ["after"]),
        (
            ways.queue,
            ["used-made-0", "used-made-1", "used-made-2", "used-made-3"],
            ["made-0", "made-1", "made-2", "made-3", "used-made-0", "used-made-1", "used-made-2", "used-made-3"],
        ),
        (ways.generator, ["0", "1", "2"], ["0", "put-0", "1", "put-1", "2", "put-2"]),
        (ways.async_generator, ["0", "1", "2"], ["0", "put-0", "1", "put-1", "2", "put-2"]),
        (ways.loop, "gave up", ["try", "try", "try"]),
        (ways.nested, [[None, ["1", "2", "3"]], ["first", ["last", None]]], ["1", "first", "2", "3", "last"]),
    ],
    ids=by_slug,
)
def test_each_step_is_done_once(
    flow_kit: FlowKit, did: list[str], flow: FunctionFlow, output: Any, done: list[str]
) -> None:
    run = flow_kit.start(flow, {})
    for _ in range(12):
        run.advance("1h")
    assert run.output == output, run.error
    assert sorted(did) == sorted(done)


def test_what_was_done_is_undone_once_and_last_first(flow_kit: FlowKit, did: list[str]) -> None:
    run = flow_kit.start(ways.stack, {})
    assert did == []
    run.advance("1h")
    assert did == []
    run.advance("1h")
    assert (run.status, did) == ("failed", ["bad", "undo-2", "undo-1"])


def test_a_task_group_that_fails_fails_with_its_step(flow_kit: FlowKit, did: list[str]) -> None:
    run = flow_kit.start(ways.task_group_fails, {})
    assert (run.status, run.error["name"]) == ("failed", "StepFailed")
    assert "'bad' was tried once" in run.error["message"]
    assert (run.attempts, did) == (1, ["bad"])


@pytest.mark.parametrize(
    ("flow", "said"),
    [(ways.threads, "in another thread than its flow"), (ways.main, "'main' is the name of the flow's function")],
    ids=by_slug,
)
def test_what_cannot_be_kept_is_refused_with_a_way_out(flow_kit: FlowKit, flow: FunctionFlow, said: str) -> None:
    run = flow_kit.start(flow, {})
    assert (run.status, run.error["name"]) == ("failed", "StepCallRefused")
    assert said in run.error["message"]


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (ways.listed, "takes branches one by one: step.parallel(*branches)"),
        (ways.called, "is no branch; give a function, lambda: step.run"),
        (ways.listed_async, "takes branches one by one"),
        (ways.coroutine, "Give the async function itself and its arguments"),
    ],
    ids=by_slug,
)
def test_a_slip_is_named_with_what_to_write(flow_kit: FlowKit, flow: FunctionFlow, said: str) -> None:
    run = flow_kit.start(flow, {})
    assert run.status == "failed"
    assert said in run.error["message"]


def test_the_logger_has_what_that_of_the_library_has(flow_kit: FlowKit) -> None:
    run = flow_kit.start(ways.logs, {})
    assert run.output == "logged", run.error
    said = [(line["level"], line["message"].split(" exc_info=")[0]) for line in run.logs]
    assert said == [
        ("info", "order 7 of 'eu'"), ("critical", "hot"), ("warning", "%d is wrong 'text'"), ("error", "it has failed"),
    ]  # fmt: skip
    assert "ValueError: no" in run.logs[-1]["message"]


def test_a_line_of_the_log_never_fails_for_its_arguments(flow_kit: FlowKit) -> None:
    run = flow_kit.start(ways.odd_logs, {})
    assert run.output == "logged", run.error
    first, second, third = (line["message"] for line in run.logs)
    assert (first, third) == ("part of a dict", "%s and %s 1")
    assert "_Unprintable" in second


@pytest.mark.parametrize("flow", [ways.catching, ways.catching_async], ids=by_slug)
@pytest.mark.parametrize("error", [psycopg.OperationalError, OperationalError, redis.exceptions.ConnectionError])
def test_what_is_no_failure_of_a_step_is_none_for_the_code(
    flow_kit: FlowKit, did: list[str], monkeypatch: pytest.MonkeyPatch, flow: FunctionFlow, error: type[Exception]
) -> None:
    """A database or a store that is away for a moment: the visit fails as a whole, and the next one goes through."""
    make_new, left = visits.FunctionRun.make_new, [error("it is away")]

    def breaks_once(run: visits.FunctionRun, call: Call, place: Place) -> NewCall:
        if left:
            raise left.pop()
        return make_new(run, call, place)

    monkeypatch.setattr(visits.FunctionRun, "make_new", breaks_once)
    run = flow_kit.start(flow, {})
    assert did == []
    run.advance("1m")
    assert (run.output, did, run.attempts) == ("one", ["one"], 2), run.error
