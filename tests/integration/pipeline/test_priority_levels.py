"""Limits by priority level, the shipped job levels, and the slots of runs that wait for others."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from dlq.alerting import metrics
from dlq.models import AlertRule
from dlq.models.alert import Metric
from tests.support import by_hand
from tests.support.workers import WorkerPool, await_end, await_that, publish
from throttling.policy import PRIORITY_LEVELS, level_of
from workflows import services
from workflows.definitions import document
from workflows.engine.pipeline import admit
from workflows.errors import InvalidInput
from workflows.models import Attempt, Event, Organization, Run, StepRun
from workflows.services import jobs


@pytest.mark.parametrize(
    ("priority", "level"),
    [(600, "critical"), (480, "critical"), (451, "critical"), (450, "high"), (360, "high"), (151, "high"),
     (150, "normal"), (0, "normal"), (-149, "normal"), (-150, "low"), (-300, "low"), (-449, "low"),
     (-450, "background"), (-600, "background")],
)  # fmt: skip
def test_a_priority_has_the_level_that_it_is_nearest_to(priority: int, level: str) -> None:
    assert level_of(priority) == level


@pytest.mark.parametrize(
    ("priority", "target_s"),
    [(600, 5), (451, 5), (450, 60), (151, 60), (150, 300), (-149, 300), (-150, 3600), (-449, 3600), (-450, None)],
)
def test_a_wait_is_measured_by_what_its_priority_level_allows(
    org: Organization, published: list[Any], priority: int, target_s: float | None
) -> None:
    run_id = by_hand.start(org, [{"id": "a", "type": "noop"}])
    ready_at = timezone.now() - dt.timedelta(seconds=3600)
    StepRun.objects.filter(run_id=run_id).update(ready_at=ready_at, priority=priority)
    readings = metrics.read(AlertRule(metric=Metric.PRIORITY_TARGET, org_id=org.id, window_s=60, min_runs=1))
    assert [reading.step for reading in readings] == (["a"] if target_s else [])
    assert [reading.value for reading in readings] == pytest.approx([3600 / target_s] if target_s else [], rel=0.05)


def test_the_shipped_jobs_have_the_limits_of_their_levels(org: Organization, published: list[Any]) -> None:
    services.apply_definition(org, document.read(Path("examples/flows/priority-jobs.yaml")).spec)
    for level in PRIORITY_LEVELS:
        event = jobs.queue_job(org, "report.generate", {"n": 1}, level.upper())
        run = Run.objects.get(event_id=event)
        assert run.priority == PRIORITY_LEVELS[level]
        assert run.input == {"n": 1, "_priority": level.upper(), "_originalJobType": "report.generate"}
        (request,) = admit.requests([StepRun.objects.get(run_id=run.id)])
        bounds = {"critical": 50, "high": 20, "normal": 10, "low": 5, "background": 2}
        own = [name for name in request.limits.steps if name.startswith("c:flow:")]
        defined = dict(request.limits.definitions)
        assert [defined[name[2:]].split("|")[0] for name in own] == [str(bounds[level])]
    with pytest.raises(InvalidInput, match="unknown"):
        jobs.queue_job(org, "x", {}, "URGENT")
    assert Event.objects.filter(org_id=org.id, name__startswith="job/").count() == 5


def test_a_level_holds_up_its_own_runs_only(org: Organization, workers: WorkerPool) -> None:
    steps = [{"id": "a", "type": "probe_async", "config": {"hold_ms": 400}}]
    slug = publish(org, steps, concurrency=[{"limit": 1, "level": "background"}, {"limit": 50, "level": "critical"}])
    slow = [services.trigger(org, slug, priority="background").run_ids[0] for _ in range(3)]
    fast = [services.trigger(org, slug, priority="critical").run_ids[0] for _ in range(3)]
    details = {run_id: await_end(org, run_id) for run_id in (*slow, *fast)}
    one_after_the_other([details[run_id].steps[0].attempts[0] for run_id in slow])
    tries = [details[run_id].steps[0].attempts[0] for run_id in fast]
    started, ended = [each.started_at for each in tries if each.started_at], [each.ended_at for each in tries]
    assert max(started) < min(ended), "they were at work together"


def one_after_the_other(rows: Iterable[Run | Attempt]) -> None:
    spans = sorted((row.started_at, row.ended_at) for row in rows if row.started_at and row.ended_at)
    assert len(spans) == 3
    for before, after in itertools.pairwise(spans):
        assert after[0] >= before[1]


@pytest.mark.parametrize("same", [True, False])
def test_a_run_that_waits_for_its_child_does_not_keep_it_from_starting(
    same: bool, org: Organization, workers: WorkerPool
) -> None:
    """One run at a time: the child of a run that waits runs within its slot; a third one waits for both."""
    one = {"concurrency": [{"limit": 1, "scope": "run"}]}
    inner = {"id": "inner", "type": "noop"}
    call = {"id": "call", "type": "invoke_flow", "if": "input.deep > 0",
            "config": {"flow": "parent" if same else "child", "data": {"deep": "${ input.deep - 1 }"}}}  # fmt: skip
    publish(org, [inner], slug="child", **one)
    publish(org, [call], slug="parent", **one)
    runs = [services.trigger(org, "parent", {"deep": 2 if same else 1}).run_ids[0] for _ in range(3)]
    assert [await_end(org, run_id).run.status for run_id in runs] == ["completed"] * 3
    one_after_the_other(Run.objects.filter(id__in=runs))


def test_a_child_of_another_flow_keeps_to_its_flows_own_limit(org: Organization, workers: WorkerPool) -> None:
    publish(org, [{"id": "a", "type": "probe_async", "config": {"hold_ms": 300}}], slug="child",
            concurrency=[{"limit": 1, "scope": "run"}])  # fmt: skip
    publish(org, [{"id": "call", "type": "invoke_flow", "config": {"flow": "child"}}], slug="parent")
    for run_id in [services.trigger(org, "parent").run_ids[0] for _ in range(3)]:
        await_end(org, run_id)
    one_after_the_other(Run.objects.filter(org_id=org.id, flow__slug="child"))
    await_that(lambda: not Run.objects.filter(org_id=org.id, ended_at=None).exists())
