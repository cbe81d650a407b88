"""The test kit runs flows in this process, as workers would."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from tests.support.python_flows import basic
from tests.support.python_flows.basic import told
from workflows.errors import InvalidInput
from workflows.functions.testing import FlowKit, FlowTestError


def test_steps_run_one_after_the_other(flow_kit: FlowKit) -> None:
    run = flow_kit.start(basic.chain, {"steps": 5})
    assert run.status == "completed"
    assert run.output["total"] == 15
    run.assert_journal([(f"add-{number}", "completed", 1, number + 1) for number in range(5)])


def test_a_step_is_tried_again_on_the_clock_of_the_kit(flow_kit: FlowKit, tmp_path: Path) -> None:
    run = flow_kit.start(basic.retries, {"dir": str(tmp_path), "fail": 2})
    assert run.status == "waiting"
    assert told(tmp_path, "flaky") == 1
    run.advance("49ms")
    assert told(tmp_path, "flaky") == 1
    run.advance("1ms")
    assert told(tmp_path, "flaky") == 2
    assert run.finish().output == "ok"
    run.assert_journal([("before", "completed", 1), ("flaky", "completed", 3), ("after", "completed", 1)])


def test_a_failed_step_is_caught(flow_kit: FlowKit, tmp_path: Path) -> None:
    run = flow_kit.start(basic.retries, {"dir": str(tmp_path), "fail": 99}).finish()
    assert run.output == {"caught": "flaky", "error": "RuntimeError", "attempts": 3}
    assert run.entry("flaky").status == "failed"


def test_a_failure_that_is_not_caught_fails_the_run(flow_kit: FlowKit) -> None:
    run = flow_kit.start(basic.uncaught)
    assert run.status == "failed"
    assert "never" in run.error["message"]
    with pytest.raises(FlowTestError, match="failed: StepFailed"):
        run.output  # noqa: B018


def test_the_code_outside_of_its_steps_is_tried_again(flow_kit: FlowKit, tmp_path: Path) -> None:
    run = flow_kit.start(basic.body, {"dir": str(tmp_path)})
    assert (run.status, run.attempts) == ("waiting", 2)
    assert run.finish().output == 2
    assert told(tmp_path, "once") == 1


def test_sleeps_events_children_and_timeouts(flow_kit: FlowKit) -> None:
    run = flow_kit.start(basic.waits, {"order": "o-1"})
    assert run.waiting_for == [f"nap: sleeps until {(flow_kit.now + dt.timedelta(milliseconds=200)).isoformat()}"]
    run.advance("200ms")
    run.send("code/paid", {"order": "o-2", "cents": 1})
    assert run.entry("paid").status == "waiting"
    run.send("code/paid", {"order": "o-1", "cents": 700})
    assert run.entry("child").output["total"] == 3
    assert [event.name for event in flow_kit.sent][-1] == "code/told"
    run.advance("100ms")
    assert {name: run.output[name] for name in ("paid", "child", "missed")} == {"paid": 700, "child": 3, "missed": None}


def test_branches_and_maps(flow_kit: FlowKit, tmp_path: Path) -> None:
    run = flow_kit.start(basic.parallel, {"dir": str(tmp_path), "items": 20})
    assert run.output["both"] == ["left-1+left-2", "right-1+right-2"]
    assert run.output["squares"] == [number * number for number in range(20)]
    assert run.output["some"] == [1, 2, 3, 4, 5, 6]
    assert all(told(tmp_path, what) == 1 for what in ("left-1", "left-2", "right-1", "right-2"))


def test_an_async_flow(flow_kit: FlowKit, tmp_path: Path) -> None:
    run = flow_kit.start(basic.async_flow, {"dir": str(tmp_path)}).advance("100ms")
    assert run.output["two"] == 3
    assert run.output["three"] == "three"
    assert "async never" in run.output["caught"]
    assert run.output["squares"] == [1, 4, 9]


def test_models(flow_kit: FlowKit) -> None:
    assert flow_kit.start(basic.typed, basic.Order(sku="a", quantity=3)).output == {"id": "a", "cents": 300}
    with pytest.raises(InvalidInput, match="quantity"):
        flow_kit.start(basic.typed, {"sku": "a", "quantity": "many"})


def test_stubs(flow_kit: FlowKit) -> None:
    flow_kit.stub("add-1", TimeoutError("busy"), TimeoutError, 40)
    flow_kit.stub("add-2", lambda *_: 5)
    run = flow_kit.start(basic.chain, {"steps": 3}).finish()
    assert run.output["total"] == 1 + 40 + 5
    run.assert_journal(["add-0", ("add-1", "completed", 3, 40), ("add-2", "completed", 1, 5)])
    assert [call.attempt for call in flow_kit.calls("add-1")] == [1, 2, 3]
