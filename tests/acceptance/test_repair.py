"""A bad night, repaired: thousands of dead letters, a replay at a pace, and its process killed half-way; and beat."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks
from django_celery_results.models import TaskResult
from pytest_httpserver import HTTPServer

from dlq import selectors, services
from dlq.models import Alert, AlertChannel, AlertNotification, DeadLetter, DeadLetterGroup
from tests.support import probes
from tests.support.volume import volume
from tests.support.workers import WorkerPool, await_that, open_queues, publish, start_beat
from workflows import services as workflows
from workflows.errors import AlreadyRepaired
from workflows.models import BulkOperation, LeaderLease, Organization, Run
from workflows.services import bulk

pytestmark = pytest.mark.timeout(300)
HOWS = {"final": volume(1_800), "answered": volume(1_700), "memory": volume(1_500)}
PACE = volume(100)


def break_things(org: Organization) -> None:
    """Dead letters with three causes, thousands in the full volume."""
    for how, count in HOWS.items():
        step = {"id": "a", "type": "raises", "config": {"how": how}, "retry": {"attempts": 1}}
        workflows.trigger_many(org, publish(org, [step], slug=how), [{"n": n} for n in range(count)])
    await_that(lambda: DeadLetter.objects.filter(org_id=org.id).count() == sum(HOWS.values()), 120, "dead letters")


def look_at_the_groups(org: Organization) -> DeadLetterGroup:
    """One by cause; returns that of the flow that is going to be mended."""
    groups = {summary.group.category: summary for summary in selectors.groups(org)}
    assert {category: summary.failed for category, summary in groups.items()} == {
        "business": HOWS["final"], "auth": HOWS["answered"], "resource": HOWS["memory"],
    }  # fmt: skip
    page = selectors.page(org, {"category": "auth"}, limit=200)
    assert len(page.letters) == 200
    assert page.next_cursor
    return groups["auth"].group


def test_a_replay_at_a_pace_survives_the_death_of_its_process(org: Organization, own_workers: WorkerPool) -> None:
    open_queues()
    own_workers.start("io")
    own_workers.await_ready(1)
    break_things(org)
    group = look_at_the_groups(org)

    # The cause is mended: from now on the flow completes. Of the others new failures keep coming.
    publish(org, [{"id": "a", "type": "probe", "config": {}}], slug="answered")
    operation = bulk.start(org, "replay_dead_letters", {"group": group.fingerprint}, by="me", per_second=PACE)
    began, replayed, half = time.monotonic(), HOWS["answered"], volume(800)
    own_workers.start("io")
    own_workers.await_ready(2)
    for number in range(40):
        workflows.trigger(org, "final", {"new": number})

    def progress() -> int:
        operation.refresh_from_db()
        return operation.done

    await_that(lambda: progress() >= half, 60, "half of it")
    own_workers.kill(own_workers.processes[0])  # it leads: it was there first
    at_kill = progress()
    await_that(lambda: progress() > at_kill, 30, "somebody else goes on")
    await_that(lambda: BulkOperation.objects.get(id=operation.id).status == "completed", 90, "the end")
    took_s = time.monotonic() - began

    operation.refresh_from_db()
    assert (operation.matched, operation.done, operation.passed_over, operation.problems) == (replayed, replayed, 0, [])
    assert took_s >= replayed / PACE - 1.5  # never faster than asked
    letters = DeadLetter.objects.filter(group_id=group.id)
    assert Counter(letters.values_list("status", flat=True)) == {"reprocessed": replayed}
    origins = list(letters.values_list("run_id", flat=True))
    repeats = Run.objects.filter(origin_id__in=origins)
    assert repeats.count() == replayed
    assert set(letters.values_list("replay_run_id", flat=True)) == set(repeats.values_list("id", flat=True))
    assert len(set(repeats.values_list("origin_id", flat=True))) == replayed
    await_that(lambda: not repeats.filter(ended_at=None).exists(), 60, "all replays end")
    assert Counter(repeats.values_list("status", flat=True)) == {"completed": replayed}
    executed = Counter(span.run for span in probes.spans({str(run) for run in repeats.values_list("id", flat=True)}))
    assert len(executed) == replayed
    # The new failures were buried meanwhile, and the other groups left alone.
    await_that(
        lambda: (
            DeadLetter.objects.filter(org_id=org.id, status="failed").count() == HOWS["final"] + 40 + HOWS["memory"]
        ),
        30,
    )
    assert LeaderLease.objects.filter(name="maintenance").exists()


def test_beat_has_the_rules_looked_at_and_a_worker_delivers(
    org: Organization, own_workers: WorkerPool, worker_environment: dict[str, str], httpserver: HTTPServer
) -> None:
    """The real chain: beat, broker, worker, channel. (Every second here, every minute as shipped.)"""
    received: list[Any] = []
    httpserver.expect_request("/alerts").respond_with_handler(lambda request: received.append(request.get_json()))  # type: ignore[arg-type, return-value]
    channel = AlertChannel(name=f"beat {org.slug}", org_id=org.id)
    channel.url = f"json://{httpserver.host}:{httpserver.port}/alerts"
    channel.save()
    second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
    task = PeriodicTask.objects.get(task="headrace.evaluate_alerts")
    minute = task.interval
    PeriodicTask.objects.filter(id=task.id).update(interval=second)
    PeriodicTasks.update_changed()
    own_workers.start("io")
    own_workers.await_ready(1)
    beat = start_beat(worker_environment)
    try:
        step = {"id": "a", "type": "raises", "config": {"how": "answered"}}
        workflows.trigger(org, publish(org, [step]))
        mine = AlertNotification.objects.filter(alert__org_id=org.id, alert__rule__name="auth-or-configuration")
        await_that(lambda: mine.filter(kind="fired", status="sent").count() == 1, 40, "the alert")
        DeadLetter.objects.filter(org_id=org.id).update(failed_at=timezone.now() - dt.timedelta(minutes=6))
        await_that(lambda: mine.filter(kind="recovered", status="sent").count() == 1, 40, "the recovery")
        await_that(lambda: TaskResult.objects.filter(task_name="headrace.evaluate_alerts").count() >= 4, 20)
        assert mine.count() == 2
        titles = [message["title"] for message in received if "auth-or-configuration" in message["title"]]
        assert titles == ["[critical] auth-or-configuration: 1 failure", "Recovered: auth-or-configuration: 1 failure"]
        assert Alert.objects.get(org_id=org.id, rule__name="auth-or-configuration").recovered_at is not None
    finally:
        beat.terminate()
        beat.wait(20)
        PeriodicTask.objects.filter(id=task.id).update(interval=minute)
        channel.delete()


def test_replays_of_the_same_letter_by_many_at_once_make_one_run(org: Organization, workers: WorkerPool) -> None:
    step = {"id": "a", "type": "raises", "config": {"how": "final"}}
    workflows.trigger(org, publish(org, [step]))
    letter = await_that(lambda: DeadLetter.objects.filter(org_id=org.id).first())
    await_that(lambda: not Run.objects.filter(org_id=org.id, ended_at=None).exists())

    publish(org, [{"id": "a", "type": "delay", "config": {"for": "1h"}}])  # or the repair fails, and may be repaired

    def replay(number: int) -> bool:
        try:
            services.replay(org, letter.id, by=str(number))
            return True
        except AlreadyRepaired:
            return False
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(replay, range(16))) == [False] * 15 + [True]
    assert Run.objects.filter(origin_id=letter.run_id).count() == 1
