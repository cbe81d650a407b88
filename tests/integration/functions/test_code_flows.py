"""Flows in Python on real workers: every step tool, its failures, its retries, and what a crash leaves."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from dlq.models import DeadLetter
from tests.support.python_flows import basic as code_flows
from tests.support.python_flows import branches, orders
from tests.support.python_flows.basic import told
from tests.support.workers import WorkerPool, await_end, await_that
from workflows import selectors, services
from workflows.errors import InvalidInput
from workflows.functions import flows
from workflows.functions.flows import FunctionFlow
from workflows.models import Attempt, Organization, StepRun
from workflows.services import events

pytestmark = pytest.mark.usefixtures("workers")


def run(org: Organization, flow: FunctionFlow, data: Any = None, patience_s: float = 30) -> selectors.RunDetail:
    """Publish a flow of the code, trigger it, and wait."""
    return await_end(org, start(org, flow, data), patience_s)


def start(org: Organization, flow: FunctionFlow, data: Any = None) -> uuid.UUID:
    services.apply_definition(org, flow.spec())
    return services.trigger(org, flow.slug, data).run_ids[0]


def journal(run_id: uuid.UUID) -> list[tuple[str, str, int]]:
    rows = StepRun.objects.filter(run_id=run_id, path="main").order_by("position")
    return [(row.key, row.status, row.attempt) for row in rows]


def test_steps_run_one_after_the_other_and_each_has_its_row(org: Organization) -> None:
    detail = run(org, code_flows.chain)
    assert detail.run.status == "completed", detail.run.error
    assert detail.run.output["total"] == 15
    assert journal(detail.run.id) == [(f"add-{n}", "completed", 1) for n in range(5)]


def test_a_step_is_tried_again_and_the_others_are_not(org: Organization, tmp_path: Path) -> None:
    detail = run(org, code_flows.retries, {"dir": str(tmp_path), "fail": 2})
    assert detail.run.output == "ok"
    assert [told(tmp_path, what) for what in ("before", "flaky", "after")] == [1, 3, 1]
    assert journal(detail.run.id) == [("before", "completed", 1), ("flaky", "completed", 3), ("after", "completed", 1)]


def test_a_failed_step_can_be_caught_and_is_a_dead_letter(org: Organization, tmp_path: Path) -> None:
    detail = run(org, code_flows.retries, {"dir": str(tmp_path), "fail": 99})
    assert detail.run.output == {"caught": "flaky", "error": "RuntimeError", "attempts": 3}
    assert told(tmp_path, "flaky") == 3
    assert DeadLetter.objects.filter(run_id=detail.run.id).count() == 1


def test_a_failure_that_is_not_caught_fails_the_run_with_one_dead_letter(org: Organization) -> None:
    detail = run(org, code_flows.uncaught)
    assert detail.run.status == "failed"
    assert "never" in detail.run.error["message"]
    assert [letter.step_key for letter in DeadLetter.objects.filter(run_id=detail.run.id)] == ["bad"]


def test_code_that_fails_outside_of_its_steps_is_tried_again_without_them(org: Organization, tmp_path: Path) -> None:
    detail = run(org, code_flows.body, {"dir": str(tmp_path)})
    assert detail.run.output == 2
    assert [told(tmp_path, what) for what in ("once", "body")] == [1, 3]


def test_what_a_step_logs_is_its_own_and_so_is_its_try(org: Organization, tmp_path: Path) -> None:
    detail = run(org, code_flows.logs, {"dir": str(tmp_path)})
    assert detail.run.output == [0, 2], detail.run.error
    tries = Attempt.objects.filter(run_id=detail.run.id).order_by("id")
    lines = {(one.step_run.key, one.number): [line["message"] for line in one.logs or ()] for one in tries}
    assert lines["first", 1] == ["works attempt=0"]
    assert [lines["second", number] for number in (1, 2, 3)] == [[f"works attempt={n}"] for n in range(3)]
    assert lines["main", 1] == ["begins"]
    assert "works" not in str(lines["main", 1])


def test_a_flow_sleeps_waits_sends_and_invokes(org: Organization) -> None:
    services.apply_definition(org, code_flows.chain.spec())
    run_id = start(org, code_flows.waits, {"order": "o-1"})
    await_that(lambda: StepRun.objects.filter(run_id=run_id, key="paid", status="waiting").exists(), 20, "the wait")
    events.send(org, [{"name": "code/paid", "data": {"order": "o-2", "cents": 1}}])
    events.send(org, [{"name": "code/paid", "data": {"order": "o-1", "cents": 700}}])
    detail = await_end(org, run_id)
    assert detail.run.status == "completed", detail.run.error
    assert detail.run.output["paid"] == 700
    assert detail.run.output["child"] == 3
    assert detail.run.output["missed"] is None


def test_branches_run_at_the_same_time_and_each_step_once(org: Organization, tmp_path: Path) -> None:
    detail = run(org, code_flows.parallel, {"dir": str(tmp_path), "items": 20})
    assert detail.run.status == "completed", detail.run.error
    assert detail.run.output["both"] == ["left-1+left-2", "right-1+right-2"]
    assert detail.run.output["squares"] == [n * n for n in range(20)]
    assert detail.run.output["some"] == [1, 2, 3, 4, 5, 6]
    assert all(told(tmp_path, what) == 1 for what in ("left-1", "left-2", "right-1", "right-2"))


def test_an_async_flow_does_the_same(org: Organization, tmp_path: Path) -> None:
    detail = run(org, code_flows.async_flow, {"dir": str(tmp_path)})
    assert detail.run.status == "completed", detail.run.error
    assert detail.run.output["two"] == 3
    assert detail.run.output["three"] == "three"
    assert "async never" in detail.run.output["caught"]
    assert detail.run.output["squares"] == [1, 4, 9]


def test_payloads_have_models_and_a_bad_one_is_refused_at_the_edge(org: Organization) -> None:
    detail = run(org, code_flows.typed, {"sku": "a", "quantity": 3})
    assert detail.run.output == {"id": "a", "cents": 300}, detail.run.error
    with pytest.raises(InvalidInput, match="quantity"):
        start(org, code_flows.typed, {"sku": "a", "quantity": "many"})


def test_a_killed_worker_repeats_one_step_at_most(
    org: Organization, tmp_path: Path, standing_pool: WorkerPool, own_workers: WorkerPool
) -> None:
    (tmp_path / "trap").touch()
    own_workers.start("io", HEADRACE_LEASE_S="2")
    own_workers.await_ready(1)
    run_id = start(org, code_flows.effects, {"dir": str(tmp_path)})
    await_that(lambda: not (tmp_path / "trap").exists(), 20, "the trap")
    own_workers.start("io", HEADRACE_LEASE_S="2")
    detail = await_end(org, run_id, 60)
    assert detail.run.output == "third"
    assert [told(tmp_path, what) for what in ("first", "second", "third")] == [1, 2, 1]


def test_the_flows_of_the_tests_are_known() -> None:
    assert flows.find("code-chain") is code_flows.chain


@pytest.mark.parametrize("flow", [orders.in_finally, orders.in_finally_async], ids=lambda flow: flow.slug)
@pytest.mark.parametrize("fails", [False, True])
def test_a_finally_begins_its_step_when_the_code_gets_there(org: Organization, flow: FunctionFlow, fails: bool) -> None:
    detail = run(org, flow, {"nap": "200ms", "fails": fails})
    ended = "failed" if fails else "completed"
    assert detail.run.status == ended, detail.run.error
    assert journal(detail.run.id) == [("nap", "completed", 1), ("work", ended, 1), ("cleanup", "completed", 1)]
    logs = [line["message"] for attempt in Attempt.objects.filter(run_id=detail.run.id) for line in attempt.logs or ()]
    assert logs == ["cleaning up"]


@pytest.mark.parametrize("first", ["paid", "deadline"])
def test_what_was_first_of_two_stays_first(org: Organization, first: str) -> None:
    run_id = start(org, orders.race, {"deadline": "1s" if first == "deadline" else "3s", "long": "5s"})
    await_that(lambda: StepRun.objects.filter(run_id=run_id, key="paid", status="waiting").exists())
    if first == "deadline":
        await_that(lambda: StepRun.objects.filter(run_id=run_id, key="after deadline", status="completed").exists())
    events.send(org, {"name": "order/paid", "data": {}})
    detail = await_end(org, run_id)
    assert detail.run.output == [first, True, True], detail.run.error


@pytest.mark.parametrize(
    ("flow", "output"),
    [
        (branches.reminder, ["end", ["reminder"]]),
        (branches.own_error, "end"),
        (branches.background, "early with 2"),
        (branches.limited, "mend item"),
    ],
    ids=lambda value: value.slug if isinstance(value, FunctionFlow) else "",
)
def test_branches_and_tasks_do_the_same_in_every_visit(org: Organization, flow: FunctionFlow, output: Any) -> None:
    data = {"nap": "300ms", "rest": "900ms", "most": 2, "failing": [0]}
    detail = run(org, flow, data)
    assert detail.run.output == output, detail.run.error
    ended = {key: status for key, status, _ in journal(detail.run.id)}
    expected = {"branch-own-error": "late", "branch-background": "two"}.get(flow.slug)
    assert expected is None or ended[expected] == "completed"
    await_that(lambda: not StepRun.objects.filter(run_id=detail.run.id, ended_at=None).exists(), 30, "no open step")
