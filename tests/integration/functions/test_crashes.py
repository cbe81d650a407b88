"""Crash at every step: the worker of a flow is killed after each recorded transition in turn, and the outcome is the
same. `make test` takes a few points of each flow, `make soak` all of them."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from dlq.models import DeadLetter
from tests.support.python_flows import basic, gathers, more
from tests.support.python_flows.crashes import CrashCase, Crashes, watched
from tests.support.volume import IS_FULL
from tests.support.workers import WorkerPool
from workflows import selectors
from workflows.models import Organization, Run


def total_of(detail: selectors.RunDetail) -> Any:
    """Of `code-chain`: what does not depend on the run's id and time."""
    return detail.run.status, detail.run.output and detail.run.output["total"]


def written(run_id: uuid.UUID) -> dict[str, int]:
    """By step of `code-atomic`: how often what it writes is there."""
    slug = Run.objects.get(id=run_id).input["slug"]
    rows = Organization.objects
    return {what: rows.filter(slug=f"{slug}-{number}").count() for number, what in ((1, "one"), (2, "two"))}


def _names(detail: selectors.RunDetail) -> list[str]:
    """Of `gather-failing`: the steps of the journal."""
    return sorted(step.step_run.key for step in detail.steps)


def _letters(detail: selectors.RunDetail) -> list[tuple[str, str]]:
    """Of `gather-failing`: what became of its failures."""
    letters = DeadLetter.objects.filter(run_id=detail.run.id)
    return sorted((letter.step_key, letter.status) for letter in letters)


CASES = [
    CrashCase(
        flow=more.atomic,
        data=lambda where: {"slug": f"crash-{uuid.uuid4().hex[:12]}", "dir": str(where)},
        count=written,
        exact=frozenset({"one", "two"}),
        is_quick=True,
    ),
    CrashCase(flow=basic.chain, data=lambda _: {"steps": 3}, outcome=total_of),
    CrashCase(
        flow=basic.effects, data=lambda where: {"dir": str(where)}, effects=("first", "second", "third"), is_quick=True
    ),
    CrashCase(
        flow=basic.parallel,
        data=lambda where: {"dir": str(where), "items": 4},
        effects=("left-1", "left-2", "right-1", "right-2"),
        extra=2,  # both branches may be at work
        at_once=4,
        is_quick=True,
    ),
    CrashCase(
        flow=more.gathers,
        data=lambda where: {"dir": str(where), "rounds": 3},
        effects=tuple(f"{turn}-{number}" for turn in range(3) for number in range(3)),
        extra=3,  # those of a round that was dispatched
        at_once=4,
    ),
    CrashCase(
        flow=gathers.failing,
        data=lambda where: {"dir": str(where), "rounds": 3},
        effects=tuple(f"bad-{turn}" for turn in range(3)),  # the others have begun, but the run may end before they ran
        outcome=lambda detail: (detail.run.status, detail.run.error["message"], _names(detail), _letters(detail)),
        extra=3,
        at_once=4,
        is_quick=True,
    ),
    CrashCase(
        flow=gathers.failing_async,
        data=lambda _: {"rounds": 3},
        outcome=lambda detail: (detail.run.status, detail.run.error["message"], _names(detail), _letters(detail)),
        at_once=4,
        is_quick=True,
    ),
    CrashCase(
        flow=basic.async_flow, data=lambda where: {"dir": str(where)}, effects=("three",), at_once=4, is_quick=True
    ),
    CrashCase(flow=basic.uncaught, outcome=lambda detail: (detail.run.status, detail.run.error["message"])),
    CrashCase(flow=basic.typed, data=lambda _: {"sku": "a", "quantity": 3}),
]


@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("case", [case for case in CASES if case.is_quick or IS_FULL], ids=lambda case: case.name)
def test_a_flow_ends_the_same_wherever_its_worker_dies(
    case: CrashCase, org: Organization, own_workers: WorkerPool, tmp_path: Path
) -> None:
    with watched():
        crashes = Crashes(org, own_workers, tmp_path)
        outcome, transitions = crashes.undisturbed(case)
        assert transitions >= 3
        for after in case.points(transitions):
            assert crashes.crash(case, after) == outcome, f"killed after {after} of {transitions} transitions"
