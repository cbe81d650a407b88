"""Who watches a Celery task may change: it is executed once, and its end is not lost. Real workers, killed."""

from __future__ import annotations

import datetime as dt
import signal
import time
from typing import Any
from uuid import UUID

import pytest

from tests.integration.celery_tasks.test_outcomes import said, task
from tests.support.shop.workers import Shop
from tests.support.workers import WorkerPool, await_end, await_that, by_key, is_alive, publish
from workflows import services
from workflows.models import Attempt, CeleryTask, Organization, StepRun

QUICK = {"HEADRACE_LEASE_S": "2"}


def begin(org: Organization, step: dict[str, Any], **more: Any) -> UUID:
    return services.trigger(org, publish(org, [{**step, "id": "t"}]), {}, **more).run_ids[0]


def begun(shop: Shop, name: str) -> int:
    """Wait until a worker of the shop executes the task. Returns the process that does."""
    await_that(lambda: shop.lines(name), 40, f"{name} is executed")
    rows = (line.split() for line in shop.log.read_text().splitlines())
    return next(int(row[3]) for row in rows if row[0] == name)


@pytest.fixture
def pool(own_workers: WorkerPool, shop: Shop) -> WorkerPool:
    """Workers of Headrace whose leases are short; the first is there."""
    own_workers.start("io", **shop.environment, **QUICK)
    own_workers.await_ready(1)
    return own_workers


def test_a_killed_watcher_is_followed_by_another(org: Organization, pool: WorkerPool, shop: Shop) -> None:
    """The task goes on meanwhile, and is not sent again."""
    shop.start()
    run_id = begin(org, task("shop.sleeps", 6))
    begun(shop, "shop.sleeps")
    pool.kill(pool.processes[0])
    pool.start("io", **shop.environment, **QUICK)
    step = by_key(await_end(org, run_id, 60))["t"]
    assert (step.step_run.status, step.step_run.output, step.step_run.losses) == ("completed", "slept", 1)
    assert shop.lines("shop.sleeps") == [f"{step.step_run.id}-1"]
    assert Attempt.objects.filter(run_id=run_id, status="lost").count() == 1


def test_an_end_that_comes_while_nobody_watches_is_kept(org: Organization, pool: WorkerPool, shop: Shop) -> None:
    shop.start()
    run_id = begin(org, task("shop.sleeps", 2))
    begun(shop, "shop.sleeps")
    pool.kill(pool.processes[0])
    await_that(lambda: shop.lines("shop.sleeps", "ends"), 30, "the task ends")
    pool.start("io", **shop.environment, **QUICK)
    step = by_key(await_end(org, run_id, 60))["t"]
    assert (step.step_run.status, step.step_run.output) == ("completed", "slept")
    assert len(shop.lines("shop.sleeps")) == 1


def test_a_worker_that_is_ended_hands_the_watch_over(org: Organization, pool: WorkerPool, shop: Shop) -> None:
    """SIGTERM: nothing is lost, and no attempt or loss is spent."""
    shop.start()
    run_id = begin(org, task("shop.sleeps", 5))
    begun(shop, "shop.sleeps")
    first = pool.processes[0]
    pool.start("io", **shop.environment, **QUICK)
    pool.await_ready(2)
    first.send_signal(signal.SIGTERM)
    step = by_key(await_end(org, run_id, 60))["t"]
    assert (step.step_run.status, step.step_run.output, step.step_run.losses) == ("completed", "slept", 0)
    assert [attempt.status for attempt in step.attempts] == ["completed"]
    assert len(shop.lines("shop.sleeps")) == 1


@pytest.mark.parametrize("was_sent", [False, True], ids=["before it sent", "after it sent"])
def test_a_watcher_that_died_while_it_sent(org: Organization, pool: WorkerPool, shop: Shop, was_sent: bool) -> None:
    """What its row says decides: a task that is not known to be sent is sent, under the same id."""
    run_id = begin(org, task("shop.add", 1, 2), delay="3s")
    row = StepRun.objects.get(run_id=run_id)
    now = dt.datetime.now(dt.UTC)
    CeleryTask.objects.create(
        task_id=f"{row.id}-1", step_run_id=row.id, org_id=org.id, run_id=run_id, name="shop.add",
        state="sent" if was_sent else "sending", created_at=now, taken_at=now,
    )  # fmt: skip
    shop.start()
    if was_sent:
        await_that(lambda: StepRun.objects.get(id=row.id).status == "running", 30, "it is watched")
        time.sleep(1)
        assert shop.lines("shop.add") == []
        services.cancel_run(org, run_id)
    else:
        assert by_key(await_end(org, run_id, 60))["t"].step_run.output == 3
        assert shop.lines("shop.add") == [f"{row.id}-1"]


def test_a_cancel_ends_the_task(org: Organization, pool: WorkerPool, shop: Shop) -> None:
    """Its process is ended, and its row goes."""
    shop.start()
    run_id = begin(org, task("shop.sleeps", 300))
    pid = begun(shop, "shop.sleeps")
    services.cancel_run(org, run_id)
    assert await_end(org, run_id, 30).run.status == "cancelled"
    await_that(lambda: not is_alive(pid), 30, "the process of the task ends")
    await_that(lambda: not CeleryTask.objects.filter(run_id=run_id).exists(), 30, "its row goes")
    assert shop.lines("shop.sleeps", "ends") == []


def test_a_cancel_while_nobody_watches_ends_the_task(org: Organization, pool: WorkerPool, shop: Shop) -> None:
    shop.start()
    run_id = begin(org, task("shop.sleeps", 300))
    pid = begun(shop, "shop.sleeps")
    pool.kill(pool.processes[0])
    services.cancel_run(org, run_id)
    pool.start("io", **shop.environment, **QUICK)
    assert await_end(org, run_id, 60).run.status == "cancelled"
    await_that(lambda: not is_alive(pid), 60, "the process of the task ends")


def test_the_timeout_of_the_step_ends_the_task(org: Organization, pool: WorkerPool, shop: Shop) -> None:
    shop.start()
    run_id = begin(org, {**task("shop.sleeps", 300), "timeout": "3s"})
    pid = begun(shop, "shop.sleeps")
    step = by_key(await_end(org, run_id, 60))["t"]
    assert said(step) == ("failed", "resource", "ResourceExhausted")
    await_that(lambda: not is_alive(pid), 30, "the process of the task ends")


def test_the_time_of_a_step_counts_from_its_first_watch(org: Organization, pool: WorkerPool, shop: Shop) -> None:
    """No worker consumes its queue; each kill would begin the time anew otherwise."""
    run_id = begin(org, {**task("shop.sleeps", 1), "timeout": "8s"})
    await_that(lambda: CeleryTask.objects.filter(run_id=run_id, state="sent").exists(), 30, "it is sent")
    created = CeleryTask.objects.get(run_id=run_id).created_at
    pool.kill(pool.processes[0])
    pool.start("io", **shop.environment, **QUICK)
    step = by_key(await_end(org, run_id, 60))["t"]
    assert said(step) == ("failed", "resource", "ResourceExhausted")
    assert "consume its queue" in step.attempts[-1].error["message"]
    ended, started = step.step_run.ended_at, step.attempts[-1].started_at
    assert ended is not None
    assert started is not None
    assert created < started  # the watch was taken over …
    assert (ended - started).total_seconds() < 8  # … and had what was left of the time


def test_a_task_that_is_delivered_again_is_one_attempt(org: Organization, pool: WorkerPool, shop: Shop) -> None:
    """acks_late: its worker is killed, the broker's visibility timeout brings it to another one, under the same id."""
    first = shop.start(SHOP_VISIBILITY_S="2")
    run_id = begin(org, {**task("shop.sleeps_late", 600), "timeout": "100s"})
    begun(shop, "shop.sleeps_late")
    shop.kill(first)
    shop.start(SHOP_VISIBILITY_S="2")
    step = by_key(await_end(org, run_id, 100))["t"]
    assert (step.step_run.status, step.step_run.output, said(step)[2]) == ("completed", "delivered 2 times", "")
    assert len(step.attempts) == 1
    assert len(shop.lines("shop.sleeps_late")) == 2


def test_a_task_holds_the_permit_of_its_step(org: Organization, pool: WorkerPool, shop: Shop) -> None:
    """The shop has places for both; the step's limit lets one after the other."""
    shop.start()
    step = {**task("shop.sleeps", 3), "throttling": {"concurrency": 1}}
    first, second = begin(org, step), services.trigger(org, "flow", {}).run_ids[0]
    for run_id in (first, second):
        assert by_key(await_end(org, run_id, 60))["t"].step_run.status == "completed"
    done = [line.split()[2] for line in shop.log.read_text().splitlines() if line.startswith("shop.sleeps ")]
    assert done == ["runs", "ends", "runs", "ends"]
