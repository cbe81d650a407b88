"""Chains whose permits are taken ahead, on workers that end between the permit, the commit and the start."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from tests.acceptance.test_crashes import assert_nothing_is_wrong, finished
from tests.support import probes
from tests.support.workers import WorkerPool, await_that, publish
from throttling.models import ThrottleOverride
from workflows import services
from workflows.models import Organization, Run
from workflows.services import limits as flow_control
from workflows.simulation.forecast import fullest_window

CHAINS, MOST_CHAINS = 40, 200
STEPS = 4
AT_ONCE = 3
PER_SECOND = 50


@pytest.mark.parametrize("before", ["commit", "start"])
@pytest.mark.parametrize("kind", ["probe", "probe_thread"])
def test_windows_and_concurrency_are_exact_where_workers_end_around_commits(
    org: Organization, own_workers: WorkerPool, kind: str, before: str
) -> None:
    """Runs come one by one, so that a place is often free and permits are taken ahead, and sometimes none is."""
    shared = ThrottleOverride(
        scope="limit", name=f"ahead-{org.slug}", concurrency=AT_ONCE, rate_limit=PER_SECOND, rate_period_ms=1_000
    )
    flow_control.put_limit(shared, by="test")
    limited = {"type": kind, "config": {"hold_ms": 3}, "throttling": {"limit": shared.name}}
    slug = publish(org, [{"id": f"s{number}", **limited} for number in range(STEPS)])
    pool = _Pool(own_workers, HEADRACE_LEASE_S="2", HEADRACE_TEST_ENDS_BEFORE=before)
    runs: set[str] = set()
    while len(runs) < CHAINS or (not pool.ended and len(runs) < MOST_CHAINS):  # a busy machine takes few ahead
        runs.add(str(services.trigger(org, slug, {}).run_ids[0]))
        pool.replace_what_ended()
        time.sleep(random.uniform(0.0, 0.15))
    await_that(lambda: pool.replace_what_ended() or finished(org, len(runs)), 120, "all runs end")
    assert pool.ended, "no worker has ended: the test shows nothing"
    assert Run.objects.filter(org_id=org.id, status="completed").count() == len(runs)
    found = probes.spans(runs)
    assert len({span.step for span in found}) == len(runs) * STEPS
    assert fullest_window([span.start_us for span in found], 1_000_000) <= PER_SECOND
    assert probes.most_at_once(found, probes.ended_us()) <= AT_ONCE
    assert_nothing_is_wrong(org)
    flow_control.delete_limit(shared, by="test")


class _Pool:
    """Two workers, each of which is replaced where it ends, six times at most; those that come then end no more."""

    def __init__(self, workers: WorkerPool, **environment: Any) -> None:
        self.ended = 0
        self._workers, self._environment = workers, environment
        for _ in range(2):
            workers.start("io", **environment)
        workers.await_ready(2)

    def replace_what_ended(self) -> None:
        for process in [each for each in self._workers.processes if each.poll() is not None]:
            self._workers.processes.remove(process)
            self.ended += 1
            more = self._environment if self.ended < 6 else {**self._environment, "HEADRACE_TEST_ENDS_BEFORE": ""}
            self._workers.start("io", **more)
