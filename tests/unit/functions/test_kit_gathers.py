"""Small gathers in the kit, whose visits perform as many members in place as a test says."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from tests.support.python_flows import gathers
from workflows.engine.pipeline import batch_size
from workflows.engine.state.records import Claim
from workflows.engine.state.transitions.calls import NewCall
from workflows.functions.testing import FlowKit, surroundings
from workflows.functions.testing.execution import Execution
from workflows.functions.testing.rows import Row


@pytest.fixture(params=[1, 2, 10], ids=lambda count: f"{count} in place")
def in_place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """All steps are known to be quick, and a visit performs at most so many itself."""
    count: int = request.param

    class Quick(surroundings.Performer):
        def __init__(self, execution: Any) -> None:
            super().__init__(execution)
            self._left = count

    monkeypatch.setattr(batch_size, "mean_s", lambda version_id, key: 0.0)
    monkeypatch.setattr("workflows.functions.testing.execution.Performer", Quick)
    return count


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """The steps whose failures were noted as handled: (number of the visit, key)."""
    noted: list[tuple[int, str]] = []

    def note(self: Any, step_run_ids: list[UUID]) -> None:
        execution = self._execution
        noted.extend((execution.visits, execution.row_of(each).key) for each in step_run_ids)

    monkeypatch.setattr(surroundings.Surroundings, "note_handled", note)
    return noted


@pytest.mark.parametrize("flow", [gathers.failing, gathers.failing_async], ids=lambda flow: flow.slug)
def test_all_members_have_begun_before_a_failure_is_raised(flow_kit: FlowKit, in_place: int, flow: Any) -> None:
    run = flow_kit.start(flow, {"rounds": 3}).finish()
    assert run.status == "failed"
    beside = {"limited", "plain"} if flow is gathers.failing else {"plain", "other"}
    keys = {f"{name}:{turn}" if turn else name for name in ("bad", *beside) for turn in range(3)}
    assert {entry.name for entry in run.journal} == keys


@pytest.mark.parametrize("flow", [gathers.after_failure, gathers.after_failure_async], ids=lambda flow: flow.slug)
def test_what_was_caught_before_a_gather_is_handled_once_and_what_the_gather_raises_is_not(
    flow_kit: FlowKit, in_place: int, handled: list[tuple[int, str]], flow: Any
) -> None:
    run = flow_kit.start(flow).finish()
    assert run.status == "failed"
    assert [(entry.name, entry.status) for entry in run.journal] == [
        ("caught", "failed"), ("first", "failed"), ("second", "completed")
    ]  # fmt: skip
    assert {key for _, key in handled} == {"caught"}
    assert len(handled) == len(set(handled)), "twice in one visit"


@pytest.mark.parametrize("flow", [gathers.late, gathers.late_async], ids=lambda flow: flow.slug)
def test_a_failure_is_not_handled_while_its_gather_goes_on(
    flow_kit: FlowKit, in_place: int, handled: list[tuple[int, str]], flow: Any
) -> None:
    run = flow_kit.start(flow).finish()
    assert run.status == "failed"
    assert run.entry("two").status == "completed"
    assert handled == []


@pytest.mark.parametrize(
    "flow", [gathers.nested, gathers.row_async, gathers.branches_async], ids=lambda flow: flow.slug
)
def test_a_failure_is_handled_before_the_code_waits_for_what_comes_after_it(
    flow_kit: FlowKit, in_place: int, handled: list[tuple[int, str]], flow: Any
) -> None:
    meanwhile: list[str] = []
    flow_kit.stub("long", lambda: meanwhile.extend(key for _, key in handled))
    run = flow_kit.start(flow).finish()
    assert run.entry("long").status == "completed"
    assert set(meanwhile) == {"bad"}


def test_a_gather_within_a_gather_raises_what_failed_in_place(flow_kit: FlowKit, in_place: int) -> None:
    run = flow_kit.start(gathers.raised_again).finish()
    assert run.output == [None, "limited", "mended"]


@pytest.mark.parametrize("flow", [gathers.cancelled, gathers.cancelled_meanwhile], ids=lambda flow: flow.slug)
def test_code_may_cancel_a_member(flow_kit: FlowKit, in_place: int, flow: Any) -> None:
    run = flow_kit.start(flow).finish()
    assert run.status == "completed", run.error
    assert run.output[1] == ("after" if flow is gathers.cancelled else "second")


def test_a_member_is_not_performed_alone_while_another_is_still_on_its_way(
    flow_kit: FlowKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[set[str]] = []
    open_steps = surroundings.Surroundings.open_steps

    async def off_loop(self: Any, work: Any, *args: Any) -> Any:
        if args and getattr(args[0], "name", "") == "second":
            await asyncio.sleep(0.05)  # its options are stored
        return work(*args)

    def opens(self: Any, function: Claim, new: Sequence[NewCall], calls: Any) -> list[UUID]:
        opened.append({each.key for each in new})
        return open_steps(self, function, new, calls)

    monkeypatch.setattr(surroundings.Surroundings, "off_loop", off_loop)
    monkeypatch.setattr(surroundings.Surroundings, "open_steps", opens)
    assert flow_kit.start(gathers.new_names).output == ["first", "second"]
    assert opened == [{"first", "second"}]


def test_what_the_code_raises_while_one_of_its_steps_is_performed_is_no_error_of_the_loop(
    flow_kit: FlowKit, caplog: pytest.LogCaptureFixture
) -> None:
    flow_kit.start(gathers.failing_async, {"rounds": 3}).finish()
    gc.collect()
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("flow", [gathers.parallelism, gathers.parallelism_async], ids=lambda flow: flow.slug)
def test_a_map_never_has_more_members_at_a_time_than_its_parallelism(
    flow_kit: FlowKit, in_place: int, monkeypatch: pytest.MonkeyPatch, flow: Any, limit: int, nested: bool
) -> None:
    open_members: list[int] = []
    add = Execution.add

    def counted(self: Execution, call: NewCall) -> Row:
        row = add(self, call)
        open_members.append(sum(each.is_open for each in self.rows.values() if each.key.startswith("member")))
        return row

    monkeypatch.setattr(Execution, "add", counted)
    run = flow_kit.start(flow, {"limit": limit, "nested": nested}).finish()
    assert run.output == [str(number) for number in range(5)]
    assert max(open_members) <= limit
