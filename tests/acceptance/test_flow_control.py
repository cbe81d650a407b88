"""Exact limits with real workers: what is counted is when handlers really ran, by the store's clock."""

from __future__ import annotations

import json
import os
import signal
import time
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command

from config import env
from devtools import embedded
from tests.acceptance.test_crashes import assert_nothing_is_wrong, finished
from tests.support import probes
from tests.support.volume import volume
from tests.support.workers import WorkerPool, await_that, open_queues, publish
from throttling.models import ThrottleOverride
from workflows import services
from workflows.engine.pipeline import admit
from workflows.models import Organization, Run, StepRun
from workflows.selectors import limits as limit_selectors
from workflows.services import limits as flow_control
from workflows.simulation.forecast import fullest_window
from workflows.this_process.configuration import configuration


def probe(kind: str = "probe", **more: Any) -> dict[str, Any]:
    config = {name: more.pop(name) for name in ("hold_ms", "label") if name in more}
    return {"id": "a", "type": kind, "config": config, **more}


def await_completed(org: Organization, count: int) -> None:
    await_that(lambda: StepRun.objects.filter(org_id=org.id, status="completed").count() > count, 60)


def start(org: Organization, slug: str, count: int) -> set[str]:
    return {str(run) for run in services.trigger_many(org, slug, [{}] * count).run_ids}


@pytest.mark.parametrize("kind", ["probe", "probe_thread", "probe_async"])
def test_no_window_and_no_instant_is_over_its_limit(org: Organization, own_workers: WorkerPool, kind: str) -> None:
    """Four workers, one of them killed and replaced in the middle; handlers on every way to run them."""
    limits = {"concurrency": 7, "rate": {"limit": 40, "period": "1s"}}
    slug = publish(org, [probe(kind, hold_ms=30, throttling=limits)])
    for _ in range(4):
        own_workers.start("io", HEADRACE_LEASE_S="2")
    own_workers.await_ready(4)
    runs = start(org, slug, 300)
    killed: dict[int, int] = {}
    for done in (60, 140):
        await_completed(org, done)
        victim = own_workers.processes[0]
        own_workers.kill(victim)
        killed[victim.pid] = probes.now_us()
        own_workers.start("io", HEADRACE_LEASE_S="2")
    await_that(lambda: finished(org, 300), 90, "all runs end")
    found = probes.spans(runs)
    assert len({span.step for span in found}) == 300
    assert fullest_window([span.start_us for span in found], 1_000_000) <= 40
    assert probes.most_at_once(found, killed) <= 7
    assert_nothing_is_wrong(org)


def test_limits_hold_behind_a_broker_backlog_of_10_000(org: Organization, own_workers: WorkerPool) -> None:
    """The reservations lapse while their messages wait behind thousands of others: a start counts when it really is."""
    slug = publish(org, [probe(throttling={"concurrency": 5, "rate": {"limit": 40, "period": "5s"}})])
    crowd, number = publish(org, [{"id": "a", "type": "noop"}], slug="crowd"), volume(10_000)
    open_queues()
    for _ in range(2):
        services.trigger_many(org, crowd, [{}] * (number // 2))
    await_that(lambda: StepRun.objects.filter(org_id=org.id, dispatched_at=None).count() == 0, 20)
    runs = start(org, slug, 100)
    time.sleep(configuration().gate_reservation_s + 1)
    for _ in range(4):
        own_workers.start("io")
    await_that(lambda: finished(org, number + 100), 90, "all runs end")
    found = probes.spans(runs)
    assert len(found) == 100
    assert fullest_window([span.start_us for span in found], 5_000_000) <= 40
    assert probes.most_at_once(found, {}) <= 5
    assert_nothing_is_wrong(org)


def all_in_line(org: Organization) -> bool:
    """Whether each step of the organization waits at the gate, or has passed it."""
    rows = StepRun.objects.filter(org_id=org.id)
    return all(row.status != "ready" or limit_selectors.reason_of(row).limit for row in rows)


def test_a_small_tenant_does_not_stand_behind_a_big_one(org: Organization, own_workers: WorkerPool) -> None:
    small = Organization.objects.create(slug=f"{org.slug}-small", name="Small")
    limit = 2
    shared = ThrottleOverride(scope="limit", name=f"shared-{org.slug}", concurrency=limit)
    flow_control.put_limit(shared, by="test")
    steps = [probe(hold_ms=2, throttling={"limit": shared.name})]
    big_slug, small_slug = publish(org, steps), publish(small, steps)
    own_workers.start("io")
    own_workers.await_ready(1)
    big_runs = start(org, big_slug, 1_000)
    small_runs = start(small, small_slug, 10)
    await_that(lambda: all_in_line(small), what="the small ones stand in line, asked for after the big ones")
    begun_us = probes.now_us()
    await_that(lambda: finished(org, 1_000) and finished(small, 10), 60, "all runs end")
    found = probes.spans(big_runs | small_runs)
    last_small = max(position for position, span in enumerate(found) if span.run in small_runs)
    before = len([span for span in found if span.start_us < begun_us])
    assert last_small - before < 20 + limit + 10
    flow_control.delete_limit(shared, by="test")


@pytest.mark.parametrize("loss", ["FLUSHALL", "an old snapshot"])
def test_windows_hold_through_the_loss_of_the_store(org: Organization, own_workers: WorkerPool, loss: str) -> None:
    slug = publish(org, [probe(hold_ms=5, throttling={"concurrency": 4, "rate": {"limit": 20, "period": "2s"}})])
    for _ in range(2):
        own_workers.start("io")
    own_workers.await_ready(2)
    if loss != "FLUSHALL":
        admit.gate().client.save()
    runs = start(org, slug, 100)
    for done in (25, 55):
        await_completed(org, done)
        if loss == "FLUSHALL":
            admit.gate().client.flushall()
        else:
            restart_the_store_from_its_snapshot()
    await_that(lambda: finished(org, 100), 120, "all runs end")
    found = probes.spans(runs)
    assert len({span.step for span in found}) == 100
    assert fullest_window([span.start_us for span in found], 2_000_000) <= 20
    assert probes.most_at_once(found, {}) <= 4
    assert_nothing_is_wrong(org)


def restart_the_store_from_its_snapshot() -> None:
    """kill -9: what it comes back with is as old as its last save."""
    paths = embedded.Paths(var=env.read().var_dir)
    pid = embedded.valkey_pid(paths)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await_that(lambda: embedded.valkey_pid(paths) is None or not embedded.is_alive(pid), 5)
    assert (paths.valkey / "dump.rdb").exists()
    assert embedded.revive(paths) == ["Valkey"]


def test_the_slot_of_a_killed_holder_goes_to_the_first_who_waits(org: Organization, own_workers: WorkerPool) -> None:
    quick = publish(org, [probe(throttling={"limit": f"one-{org.slug}"})], slug="quick")
    holder = publish(
        org, [probe("probe_thread", hold_ms=60_000, throttling={"limit": f"one-{org.slug}"})], slug="holder"
    )
    flow_control.put_limit(ThrottleOverride(scope="limit", name=f"one-{org.slug}", concurrency=1), by="test")
    worker = own_workers.start("io")
    own_workers.await_ready(1)
    held = start(org, holder, 1)
    await_that(lambda: probes.LOG.exists() and len(probes.spans(held)) == 1, 20, "the holder runs")
    runs = start(org, quick, 200)
    own_workers.start("io")
    await_that(lambda: StepRun.objects.filter(org_id=org.id, status="ready").count() == 200, 10)
    own_workers.kill(worker)
    killed_us = probes.now_us()
    await_that(lambda: len(probes.spans(runs)) >= 1, 30, "the first one starts")
    assert (probes.spans(runs)[0].start_us - killed_us) / 1e6 < 15
    await_that(lambda: Run.objects.filter(id__in=[UUID(run) for run in runs], status="completed").count() == 200, 60)


def test_raising_a_limit_starts_those_who_wait_within_a_second(org: Organization, own_workers: WorkerPool) -> None:
    slug = publish(org, [probe("probe_async", hold_ms=2_500, throttling={"limit": f"raised-{org.slug}"})])
    row = ThrottleOverride(scope="limit", name=f"raised-{org.slug}", concurrency=1)
    flow_control.put_limit(row, by="test")
    own_workers.start("io")
    own_workers.await_ready(1)
    runs = start(org, slug, 6)
    await_that(lambda: len(probes.spans(runs)) == 1, 20, "the first one runs")
    changed_us = probes.now_us()
    flow_control.put_limit(ThrottleOverride(scope="limit", name=row.name, concurrency=6), by="test")
    await_that(lambda: len(probes.spans(runs)) == 6, 20, "all run")
    assert (probes.spans(runs)[-1].start_us - changed_us) / 1e6 < 2


def test_a_burst_of_200_climbs_its_staircase(org: Organization, own_workers: WorkerPool) -> None:
    """20 starts per period and 10 at once, time scaled down ten times; predicted and measured side by side."""
    slug = publish(
        org,
        [probe("probe_async", hold_ms=40)],
        concurrency=[{"limit": 10, "scope": "run"}],
        throttle={"limit": 20, "period": "6s"},
    )
    own_workers.start("io")
    own_workers.await_ready(1)
    out = StringIO()
    call_command("loadtest", "--org", org.slug, "--flow", slug, "--concurrent", "200", "--json", stdout=out)
    compared = json.loads(out.getvalue())
    figures = compared["figures"]
    found = probes.spans({str(run) for run in Run.objects.filter(org_id=org.id).values_list("id", flat=True)})
    starts = [span.start_us for span in found]
    assert len(found) == 200
    assert fullest_window(starts, 6_000_000) <= 20
    assert probes.most_at_once(found, {}) <= 10
    earliest_possible_s = 9 * 6.0
    assert (starts[-1] - starts[0]) / 1e6 < earliest_possible_s * 1.05
    assert figures["last run starts after (s)"]["predicted"] == pytest.approx(earliest_possible_s, rel=0.05)
    assert figures["last run starts after (s)"]["measured"] == pytest.approx(
        figures["last run starts after (s)"]["predicted"], rel=0.05
    )
    assert [row["predicted"] for row in compared["staircase"]] == [20] * 10
    assert sum(row["measured"] for row in compared["staircase"]) == 200
