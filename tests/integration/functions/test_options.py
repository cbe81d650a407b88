"""What a step can be told: a deadline, several events at once; and what its lines say after a wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlq.models import DeadLetter
from tests.integration.functions.test_code_flows import run
from tests.support.python_flows import more
from tests.support.python_flows.basic import told
from workflows.models import Attempt, Event, Organization, StepRun

pytestmark = pytest.mark.usefixtures("workers")


def test_a_step_ends_by_its_deadline_however_many_tries_it_has(org: Organization, tmp_path: Path) -> None:
    detail = run(org, more.deadlines, {"dir": str(tmp_path)})
    assert detail.run.output == [["passed", "DeadlinePassed", 1], ["slow", "DeadlinePassed", 1]], detail.run.error
    assert [told(tmp_path, what) for what in ("in-time", "passed", "slow")] == [1, 0, 1]
    letters = DeadLetter.objects.filter(run_id=detail.run.id).order_by("step_key")
    assert [letter.step_key for letter in letters] == ["passed", "slow"]
    first = Attempt.objects.get(step_run__run_id=detail.run.id, step_run__key="slow", number=1)
    assert (first.error["name"], first.error["message"]) == ("DeadlinePassed", "The step did not end by its deadline.")


def test_so_does_a_coroutine(org: Organization, tmp_path: Path) -> None:
    detail = run(org, more.async_deadlines, {"dir": str(tmp_path)})
    assert detail.run.output == [["passed", "DeadlinePassed", 1], ["slow", "DeadlinePassed", 1]], detail.run.error
    assert [told(tmp_path, what) for what in ("passed", "slow")] == [0, 1]


def test_several_events_are_sent_by_one_step(org: Organization) -> None:
    detail = run(org, more.several_events)
    events = {str(event.id): event.data for event in Event.objects.filter(org_id=org.id, name="code/several")}
    assert [events[id_] for id_ in detail.run.output] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert len(events) == 3


def test_lines_before_a_wait_are_kept_with_the_try(org: Organization, tmp_path: Path) -> None:
    """Of the code of a flow, whose visits end at each wait; and of a step that is a transaction."""
    detail = run(org, more.lines, {"dir": str(tmp_path)})
    assert detail.run.output == 1, detail.run.error
    tries = Attempt.objects.filter(step_run__run_id=detail.run.id).order_by("number")
    lines = {(one.step_run.key, one.number): [line["message"] for line in one.logs or ()] for one in tries}
    assert lines["main", 1] == ["before the sleep", "between", "after"]
    assert lines["main", 2] == ["after"]
    assert lines["write", 1] == ["in the transaction"]
    assert StepRun.objects.get(run_id=detail.run.id, key="main").kept_logs["try"] == 1
