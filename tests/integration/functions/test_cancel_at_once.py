"""Runs of flows in Python that are cancelled in the moment in which their function begins."""

from __future__ import annotations

import time

from tests.support.python_flows import basic
from tests.support.workers import WorkerPool, await_that
from workflows import services
from workflows.models import Organization, Run, StepRun

RUNS = 40


def test_a_run_that_is_cancelled_between_its_claim_and_its_first_step_ends(
    org: Organization, workers: WorkerPool
) -> None:
    """The first step is refused then; the visit was dropped for it, and its worker held the run until it ended."""
    services.apply_definition(org, basic.chain.spec())
    made = []
    for _ in range(RUNS):
        (run_id,) = services.trigger(org, basic.chain.slug, {"numbers": [1, 2, 3]}).run_ids
        until = time.monotonic() + 2
        while time.monotonic() < until and not StepRun.objects.filter(run_id=run_id, status="running").exists():
            pass
        services.cancel_run(org, run_id)
        made.append(run_id)
    await_that(lambda: not Run.objects.filter(id__in=made, ended_at=None).exists(), 30, "their ends")
    assert not StepRun.objects.filter(run_id__in=made, ended_at=None).exists()
