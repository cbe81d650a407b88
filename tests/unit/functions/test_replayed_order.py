"""Code that is gone through anew after each wait takes the same way: its blocks of `finally` begin nothing early, what
was first stays first, and branches that are still open move nothing."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.python_flows import gathers, orders
from workflows.functions.flows import FunctionFlow
from workflows.functions.replay import check
from workflows.functions.replay.check import Replayer, Verdict
from workflows.functions.replay.recorded import RecordedRun, StepRecord
from workflows.functions.testing import FlowKit
from workflows.functions.testing.kit import FlowRun
from workflows.functions.visits import FunctionRun
from workflows.steps.outcome import Outcome


@pytest.fixture(autouse=True)
def did() -> list[str]:
    """What the steps have done, in order."""
    orders.did.clear()
    return orders.did


def by_slug(flow: FunctionFlow) -> str:
    return flow.slug


def names(run: FlowRun) -> list[str]:
    return [row.name for row in run.journal]


@pytest.mark.parametrize("flow", [orders.in_finally, orders.in_finally_async], ids=by_slug)
@pytest.mark.parametrize("fails", [False, True])
def test_a_finally_begins_its_steps_when_the_code_gets_there(
    flow_kit: FlowKit, did: list[str], flow: FunctionFlow, fails: bool
) -> None:
    run = flow_kit.start(flow, {"fails": fails})
    assert (names(run), did) == (["nap"], [])
    assert not run.logs, "the code is only left, it has not got to its end"
    run.advance("1h")
    assert run.status == ("failed" if fails else "completed")
    assert did == ["work", "cleanup"]
    assert [line["message"] for line in run.logs] == ["cleaning up"]


@pytest.mark.parametrize("flow", [orders.in_finally_branches, orders.in_finally_branches_async], ids=by_slug)
def test_so_does_that_of_a_branch(flow_kit: FlowKit, did: list[str], flow: FunctionFlow) -> None:
    run = flow_kit.start(flow, {})
    assert did == ["beside"]
    run.advance("1h")
    assert did == ["beside", "work"]
    run.advance("5m")
    assert did == ["beside", "work", "cleanup"]
    assert run.advance("5m").status == "completed", run.error
    assert sorted(names(run)) == ["beside", "cleanup", "end", "nap", "pause", "work"]


@pytest.mark.parametrize(("flow", "hours"), [(orders.hiding, 4), (orders.hiding_async, 4)], ids=["sync", "async"])
def test_code_that_hides_that_it_is_left_is_left_all_the_same(
    flow_kit: FlowKit, did: list[str], flow: FunctionFlow, hours: int
) -> None:
    run = flow_kit.start(flow, {})
    for _ in range(hours):
        assert run.status == "waiting", run.error
        run.advance("1h")
    assert (run.status, run.output) == ("completed", "connect"), run.error
    assert did.count("connect") == 1


@pytest.mark.parametrize("flow", [orders.open_branch, orders.open_branch_async], ids=by_slug)
def test_a_branch_that_stays_open_moves_nothing_of_the_code_after_it(
    flow_kit: FlowKit, did: list[str], flow: FunctionFlow
) -> None:
    run = flow_kit.start(flow, {})
    assert did == ["bad", "mend"]
    run.advance("90m")
    assert did == ["bad", "mend", "late"], run.error
    run.advance("1h")
    assert did == ["bad", "mend", "late", "later"], run.error
    assert run.advance("5h").output == "end", run.error
    assert names(run) == ["bad", "nap", "mend", "long", "late", "second nap", "later", "end"]


@pytest.mark.parametrize("flow", [orders.limited, orders.limited_async], ids=by_slug)
def test_of_a_few_at_a_time_none_begins_after_one_has_failed(
    flow_kit: FlowKit, did: list[str], flow: FunctionFlow
) -> None:
    run = flow_kit.start(flow, {})
    items = [what for what in did if what.startswith("item")]
    assert sorted(items) in (["item-0"], ["item-0", "item-1"])
    assert run.advance("6h").output == "again", run.error
    assert did == [*items, "mend", "again"]


@pytest.mark.parametrize(
    ("play", "first"),
    [
        (lambda kit: kit.send("order/paid", {}), "paid"),
        (lambda kit: kit.advance("2h"), "deadline"),
    ],
    ids=["paid", "deadline"],
)
def test_which_of_two_was_first_is_the_same_in_every_visit(
    flow_kit: FlowKit, did: list[str], play: Callable[[FlowKit], Any], first: str
) -> None:
    run = flow_kit.start(orders.race, {})
    play(flow_kit)
    flow_kit.advance("3h")
    flow_kit.send("order/paid", {})
    flow_kit.advance("3h")
    assert run.status == "completed", run.error
    assert run.output == [first, True, True]
    assert did == [first]


def test_values_come_in_the_order_in_which_steps_have_ended(flow_kit: FlowKit, did: list[str]) -> None:
    run = flow_kit.start(orders.as_completed, {})
    run.advance("20h")
    assert run.output == ["1", "2", "3"], run.error
    assert did == ["1", "2", "3"]


@pytest.mark.parametrize("flow", [orders.two_failures, orders.two_failures_async], ids=by_slug)
def test_the_failure_that_was_first_is_raised_in_every_visit(
    flow_kit: FlowKit, did: list[str], flow: FunctionFlow
) -> None:
    run = flow_kit.start(flow, {})
    assert run.advance("8h").output == "quick", run.error
    assert did.count("mend") == 1


def crashed(flow: FunctionFlow, *steps: tuple[str, str, float]) -> Verdict:
    """A visit after a worker has died that had recorded these steps: (name, status, seconds at which it ended)."""
    began = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    records = [
        StepRecord(
            id=uuid.uuid4(), key=key, type="python", position=position, status=status, attempt=1, output=key,
            error={"name": "Error", "message": key} if status == "failed" else None,
            ended_at=began + dt.timedelta(seconds=at) if status in {"failed", "completed"} else None,
        )
        for position, (key, status, at) in enumerate(steps)
    ]  # fmt: skip
    facts = {"id": str(uuid.uuid4()), "name": "e", "data": {"rounds": 1}, "user": {}, "ts": 0}
    scope = {"event": facts, "run": {"createdAt": began.isoformat()}, "org": {}}
    return Replayer().check(
        flow,
        RecordedRun(
            id=uuid.uuid4(), flow=flow.slug, version=1, digest="", status="running", attempt=1, created_at=began,
            scope=scope, steps=tuple(records),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("flow", [gathers.failing, gathers.failing_async], ids=by_slug)
def test_the_siblings_of_a_failure_begin_before_it_is_raised(flow_kit: FlowKit, flow: FunctionFlow) -> None:
    verdict = crashed(flow, ("bad", "failed", 1))
    assert verdict.fits
    assert len(verdict.asks_for) == 2, verdict.asks_for
    siblings = [("limited", "running", 0.0), ("plain", "completed", 2.0)]
    if flow is gathers.failing_async:
        siblings = [("plain", "running", 0.0), ("other", "completed", 2.0)]
    verdict = crashed(flow, ("bad", "failed", 1), *siblings)
    assert (verdict.fits, verdict.asks_for) == (True, ()), "it is raised"


@pytest.mark.parametrize("flow", [orders.rows, orders.rows_async], ids=by_slug)
def test_so_does_the_next_step_of_a_branch_that_was_ready_for_it(flow_kit: FlowKit, flow: FunctionFlow) -> None:
    assert crashed(flow, ("one", "completed", 1), ("bad", "failed", 2)).asks_for == ("two",)
    late = crashed(flow, ("bad", "failed", 1), ("one", "completed", 2))
    assert (late.fits, late.asks_for) == (True, ()), "its failure does not wait for what became ready after it"


def test_a_failure_that_has_waited_for_the_begin_of_a_sibling_does_not_wait_for_its_end(
    flow_kit: FlowKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[FunctionRun] = []
    drive = check.drive

    def watched(run: FunctionRun) -> Outcome:
        seen.append(run)
        return drive(run)

    monkeypatch.setattr(check, "drive", watched)
    crashed(orders.rows_async, ("one", "completed", 1), ("bad", "failed", 2))
    assert seen[0].goes_on, "the next visit follows at once"
