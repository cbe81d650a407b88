"""The numbers of a step, priorities, limits of whole runs, and the scenarios of the load test."""

from __future__ import annotations

import json
import logging
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from tests.integration.limits.test_limits import step
from tests.support import by_hand, probes
from tests.support.workers import WorkerPool, await_end, await_that, open_queues, publish
from throttling.limits import ConcurrencyLimit
from throttling.models import ThrottleOverride
from workflows import presenters, services
from workflows.engine.pipeline import admit
from workflows.engine.state import flow_cache
from workflows.models import Organization, Run, StepRun
from workflows.selectors import limits as limit_selectors
from workflows.services import limits as flow_control


def test_the_numbers_of_a_step(org: Organization, workers: WorkerPool) -> None:
    limits = {"concurrency": 1, "rate": {"limit": 10, "period": "10s"}}
    slug = publish(org, [step("probe_async", config={"hold_ms": 200}, throttling=limits)])
    runs = services.trigger_many(org, slug, [{}] * 3).run_ids
    details = [await_end(org, run) for run in runs]
    steps = sorted((presenters.run_out(d)["steps"][0] for d in details), key=lambda s: s["throttlingOverhead"])
    assert steps[0]["throttlingConfig"] == {"concurrency": 1, "rateLimit": "10/10000ms", "maxRetries": 3}
    assert steps[0]["duration"] >= 200
    assert steps[2]["throttlingOverhead"] >= 390
    assert abs(steps[2]["totalStepTime"] - steps[2]["duration"] - steps[2]["throttlingOverhead"]) <= 5
    insights = presenters.run_out(details[2])["throttlingInsights"]
    assert insights["averageThrottlingOverhead"] == presenters.run_out(details[2])["steps"][0]["throttlingOverhead"]
    report = limit_selectors.report(org)
    assert (report[0]["stepType"], report[0]["tries"]) == ("probe_async", 3)
    out = StringIO()
    call_command("limits", "--org", org.slug, "report", "--json", stdout=out)
    assert json.loads(out.getvalue())[0]["stepType"] == "probe_async"


def test_priorities_order_those_who_wait(org: Organization, workers: WorkerPool) -> None:
    slug = publish(org, [step("probe_async", config={"hold_ms": 150}, throttling={"concurrency": 1})])
    first = services.trigger(org, slug).run_ids[0]
    await_that(lambda: len(probes.spans({str(first)})) == 1)
    runs = [services.trigger(org, slug, priority=priority).run_ids[0] for priority in (9, "normal", 1)]
    for run in runs:
        await_end(org, run)
    found = [span.run for span in probes.spans({str(run) for run in runs})]
    assert found == [str(runs[2]), str(runs[1]), str(runs[0])]


@pytest.mark.parametrize(
    ("expression", "data", "seconds"),
    [
        ("event.data.plan == 'pro' ? 120 : 0", {"plan": "pro"}, 120),
        ("event.data.plan == 'pro' ? 120 : 0", {"plan": "free"}, 0),
        ("event.data.plan == 'pro' ? 120 : 0", {}, 0),
        ("event.data.boost", {"boost": 9_000}, 600),
        ("event.data.boost", {"boost": "high"}, 0),
        (-300, {}, -300),
    ],
)
def test_a_flows_own_priority(org: Organization, expression: str | int, data: dict[str, Any], seconds: int) -> None:
    slug = publish(org, [step("noop")], priority=expression)
    run = services.trigger(org, slug, data, delay="1h").run_ids[0]
    assert Run.objects.get(id=run).priority == seconds
    assert StepRun.objects.get(run_id=run).priority == seconds


def test_a_flows_runs_are_limited_as_wholes(org: Organization, workers: WorkerPool) -> None:
    """A run holds its slot from its first step to its end, also while it sleeps."""
    steps = [
        {"id": "a", "type": "noop"},
        {"id": "b", "type": "delay", "config": {"for": "300ms"}},
        {"id": "c", "type": "noop"},
    ]
    slug = publish(org, steps, concurrency=[{"limit": 2, "scope": "run"}])
    services.trigger_many(org, slug, [{}] * 6)
    most = 0

    def ended() -> bool:
        nonlocal most
        most = max(most, Run.objects.filter(org_id=org.id, status="running").count())
        return Run.objects.filter(org_id=org.id, status="completed").count() == 6

    await_that(ended, 20)
    assert most == 2


def test_a_cancelled_run_gives_its_place_and_its_slot_back(org: Organization, workers: WorkerPool) -> None:
    steps = [step("probe_async", config={"hold_ms": 400})]
    slug = publish(org, steps, concurrency=[{"limit": 1, "scope": "run"}])
    first, second, third = services.trigger_many(org, slug, [{}] * 3).run_ids
    await_that(lambda: StepRun.objects.filter(run_id=first, status="running").exists())
    services.cancel_run(org, second)
    assert await_end(org, third).run.status == "completed"
    assert probes.spans({str(second)}) == []


# --- the scenarios of the load test ---------------------------------------------------------------------------------------------


def test_five_users_with_different_workflows_run_at_the_same_time(org: Organization, workers: WorkerPool) -> None:
    runs = []
    for number in range(5):
        slug = publish(org, [step("probe_async", config={"hold_ms": 800})], slug=f"workflow-{number}")
        runs += services.trigger(org, slug, user_id=f"user-{number}").run_ids
    for run in runs:
        assert await_end(org, run).run.status == "completed"
    assert probes.most_at_once(probes.spans({str(run) for run in runs}), {}) == 5


def test_of_a_burst_of_twenty_ten_run_and_ten_are_queued(org: Organization, workers: WorkerPool) -> None:
    """B's global run limit, as HEADRACE_SIZE=1gb or a row sets it."""
    row = ThrottleOverride(scope="runs", concurrency=10, rate_limit=1_000, rate_period_ms=60_000)
    flow_control.put_limit(row, by="test")
    try:
        slug = publish(org, [step("probe_async", config={"hold_ms": 1_000})])
        services.trigger_many(org, slug, [{}] * 20)
        await_that(lambda: Run.objects.filter(org_id=org.id, status="running").count() == 10, 10)
        stats = services.queue_stats(org, store_available=True)
        assert stats["capacity"]["message"] == "Running up to 10 workflows concurrently. 10 active, 10 queued."
        await_that(lambda: Run.objects.filter(org_id=org.id, status="completed").count() == 20, 20)
        runs = {str(run) for run in Run.objects.filter(org_id=org.id).values_list("id", flat=True)}
        assert probes.most_at_once(probes.spans(runs), {}) == 10
    finally:
        flow_control.delete_limit(row, by="test")


def test_a_manual_run_starts_beside_scheduled_ones(org: Organization, workers: WorkerPool) -> None:
    # (The test before took a limit away: a new epoch may begin meanwhile, and lets nothing start for a moment.)
    slug = publish(org, [step("probe_async", config={"hold_ms": 3_000})])
    runs = [run for _ in range(5) for run in services.trigger(org, slug, kind="cron").run_ids]
    runs += services.trigger(org, slug, priority=5).run_ids
    for run in runs:
        assert await_end(org, run).run.status == "completed"
    assert probes.most_at_once(probes.spans({str(run) for run in runs}), {}) == 6


def test_the_log_lines_of_throttling(
    org: Organization, own_workers: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    """`docker logs … | grep "throttling metrics"`, with its fields."""
    open_queues()
    slug = publish(org, [step("noop", critical=True)])
    with caplog.at_level(logging.DEBUG, logger="workflows.throttling"):
        run = by_hand.visited(org, slug)
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    configuration = next(line for line in lines if line["event"] == "Determining step configuration for throttling")
    assert (configuration["stepId"], configuration["stepType"], configuration["isCritical"]) == ("a", "noop", True)
    metrics = next(line for line in lines if line["event"] == "throttling metrics")
    assert metrics["totalStepTime"] == metrics["duration"] + metrics["throttlingOverhead"]
    assert (metrics["stepId"], metrics["retryCount"], metrics["executionId"]) == ("a", 0, str(run))
    assert set(metrics["throttlingConfig"]) == {"concurrency", "rateLimit", "maxRetries"}


def test_limits_of_a_version_are_found_once(org: Organization) -> None:
    flow = services.published(org, publish(org, [step("noop", throttling={"concurrency": 3})]))
    found = admit.limits_of(flow.version_id, "a")
    assert admit.limits_of(flow.version_id, "a") is found
    assert flow_cache.flow_of(flow.version_id).org_id == org.id
    assert any(limit.bound == ConcurrencyLimit(max_running=3) for limit in found.limits)
