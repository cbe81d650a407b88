"""Branches of a flow's code do the same in every visit: their errors, their ids, their clocks, their tasks."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.support.python_flows import branches, orders
from workflows.functions.flows import FunctionFlow
from workflows.functions.testing import FlowKit


@pytest.fixture(autouse=True)
def did() -> list[str]:
    """What the steps have done, in order."""
    orders.did.clear()
    return orders.did


def test_a_task_that_the_code_has_left_to_itself_begins_in_every_visit(flow_kit: FlowKit, did: list[str]) -> None:
    run = flow_kit.start(branches.reminder, {})
    run.advance("3h")
    assert run.output == ["end", ["reminder"]], run.error
    assert did == ["first", "end"]


@pytest.mark.parametrize(
    ("data", "status", "done"),
    [
        ({}, "completed", ["beside", "check", "end", "late", "mend"]),
        ({"returns": True}, "completed", ["beside", "check", "late"]),
        ({"uncaught": True}, "failed", ["beside", "check"]),
    ],
    ids=["caught", "returned", "uncaught"],
)
def test_an_error_of_a_branch_is_that_of_its_gather_and_of_no_other_branch(
    flow_kit: FlowKit, did: list[str], data: dict[str, Any], status: str, done: list[str]
) -> None:
    run = flow_kit.start(branches.own_error, data)
    for _ in range(8):
        run.advance("1h")
    assert run.status == status, run.error
    assert sorted(did) == done
    assert {row.name: row.status for row in run.journal}["beside"] == "completed"
    if data.get("returns"):
        assert run.output == ["bad quote", "beside", "None"]
    if status == "failed":
        assert (run.error["name"], run.error["message"]) == ("ValueError", "bad quote")


def test_each_branch_has_ids_of_its_own(flow_kit: FlowKit, did: list[str]) -> None:
    run = flow_kit.start(branches.draws, {})
    run.advance("4h")
    of_branches, last = run.output
    assert [key for key, _ in of_branches] == [charged for _, charged in of_branches], "what was used is what is said"
    assert len({*did, last}) == 4


@pytest.mark.parametrize(
    ("flow", "output"),
    [(branches.clock, [[5, 3, 2], 6.0]), (branches.clock_async, ["0", "1", "2"])],
    ids=["sync", "async"],
)
def test_each_branch_has_a_clock_of_its_own(flow_kit: FlowKit, flow: FunctionFlow, output: Any) -> None:
    run = flow_kit.start(flow, {})
    for _ in range(8):
        run.advance("1h")
    assert run.output == output, run.error


def test_a_new_run_takes_the_new_way_in_every_branch(flow_kit: FlowKit, did: list[str]) -> None:
    run = flow_kit.start(branches.patched, {})
    run.advance("5h")
    assert run.output == ["new-0", "new-1", "new-2"], run.error


@pytest.mark.parametrize(
    ("most", "failing"), [*itertools.product((1, 2, 3, 4), ([0], [1], [2], [0, 1], [5], [2, 4]))], ids=str
)
def test_a_map_of_a_few_at_a_time_raises_the_failure_of_its_item(
    flow_kit: FlowKit, did: list[str], most: int, failing: list[int]
) -> None:
    run = flow_kit.start(branches.limited, {"most": most, "failing": failing})
    run.advance("1h")
    first = next(number for number in map(int, did) if number in failing)
    key = "item" if first == 0 else f"item:{first}"
    assert run.status == "completed", run.error
    assert run.output in ("mend item", f"mend {key}")
    assert len(did) == len(set(did))


def test_tasks_that_the_code_does_not_wait_for_are_done(flow_kit: FlowKit, did: list[str]) -> None:
    run = flow_kit.start(branches.background, {})
    run.finish("1d")
    assert run.output == "early with 2", run.error
    assert sorted(did) == ["audit", "audit", "audit", "main-step", "one", "two"]
