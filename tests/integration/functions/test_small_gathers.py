"""A small gather of plain steps that are known to be quick is performed within the visit; every other is dispatched."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path

import pytest

from dlq.models import DeadLetter
from tests.support.python_flows import gathers, more
from tests.support.python_flows.basic import told
from tests.support.workers import WorkerPool, await_end
from workflows import selectors, services
from workflows.functions.flows import FunctionFlow
from workflows.models import Organization, StepRun


def run(org: Organization, workers: WorkerPool, flow: FunctionFlow, data: object) -> selectors.RunDetail:
    """A run on one worker that knows nothing yet."""
    services.apply_definition(org, flow.spec())
    workers.start("io")
    workers.await_ready(1)
    return await_end(org, services.trigger(org, flow.slug, data).run_ids[0])


def dispatched(run_id: uuid.UUID) -> Counter[str]:
    """How many steps of each name were dispatched."""
    rows = StepRun.objects.filter(run_id=run_id, path="main", dispatch_count__gt=0)
    return Counter(row.key.split(":")[0] for row in rows)


def test_once_its_steps_are_known_to_be_quick_a_gather_is_performed_in_the_visit(
    org: Organization, own_workers: WorkerPool, tmp_path: Path
) -> None:
    detail = run(org, own_workers, more.gathers, {"dir": str(tmp_path), "rounds": 20})
    assert detail.run.status == "completed", detail.run.error
    assert detail.run.output == [[f"{turn}-{number}" for number in range(3)] for turn in range(20)]
    assert all(told(tmp_path, f"{turn}-{number}") == 1 for turn in range(20) for number in range(3))
    assert 3 <= dispatched(detail.run.id)["note"] < 60, "the first round, and those of slow moments"
    keys = [row.key for row in StepRun.objects.filter(run_id=detail.run.id, path="main").order_by("position")]
    assert keys == ["note", *(f"note:{number}" for number in range(1, 60))]


def test_a_slow_step_is_dispatched(org: Organization, own_workers: WorkerPool) -> None:
    detail = run(org, own_workers, more.branches, {"rounds": ["slow"] * 5})
    assert detail.run.output == [[number, 1, 2] for number in range(5)], detail.run.error
    assert dispatched(detail.run.id)["slow"] == 5


def test_a_step_with_limits_of_its_own_is_dispatched(org: Organization, own_workers: WorkerPool) -> None:
    detail = run(org, own_workers, more.branches, {"rounds": ["limited"] * 5})
    assert detail.run.output == [[number + 1, 1, 2] for number in range(5)], detail.run.error
    assert dispatched(detail.run.id)["limited"] == 5


def test_a_branch_that_fails_in_the_visit_fails_alone(org: Organization, own_workers: WorkerPool) -> None:
    detail = run(org, own_workers, more.branches, {"rounds": ["bad", "quick"] * 10})
    assert detail.run.status == "completed", detail.run.error
    expected = [[number + 1 if number % 2 else "NonRetriable", 1, 2] for number in range(20)]
    assert detail.run.output == expected
    assert dispatched(detail.run.id)["bad"] < 10, "the first one, and those of slow moments"


def test_a_failure_is_handled_only_where_the_code_goes_on_after_its_gather(
    org: Organization, own_workers: WorkerPool
) -> None:
    detail = run(org, own_workers, more.branches, {"rounds": ["bad"] * 6, "raises": True})
    assert detail.run.status == "failed"
    letters = DeadLetter.objects.filter(run_id=detail.run.id)
    assert Counter(letter.status for letter in letters) == {"handled": 5, "failed": 1}


@pytest.mark.parametrize("flow", [gathers.failing, gathers.failing_async], ids=lambda flow: flow.slug)
def test_a_member_that_fails_in_the_visit_leaves_none_of_its_siblings_out(
    org: Organization, own_workers: WorkerPool, flow: FunctionFlow
) -> None:
    detail = run(org, own_workers, flow, {"rounds": 10})
    assert detail.run.status == "failed"
    rows = StepRun.objects.filter(run_id=detail.run.id, path="main")
    names = Counter(row.key.split(":")[0] for row in rows)
    assert names == dict.fromkeys(("bad", "plain", "limited" if flow is gathers.failing else "other"), 10)
    assert dispatched(detail.run.id)["bad"] < 10, "the first one, and those of slow moments"
    letters = DeadLetter.objects.filter(run_id=detail.run.id)
    assert Counter(letter.status for letter in letters) == {"handled": 9, "failed": 1}
