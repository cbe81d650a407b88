"""Cron: every fire time fires once, by the trigger's policies, over daylight-saving changes, steps of the clock and beats."""

from __future__ import annotations

import datetime as dt
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from django.db import OperationalError, connections, transaction
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from tests.integration.api.test_api import Api
from tests.support.poison import refusing
from tests.support.workers import WorkerPool, await_that, publish, start_beat
from workflows import services
from workflows.definitions import cron
from workflows.definitions.validate import DefinitionProblems, parse
from workflows.errors import IdempotencyConflict
from workflows.models import CronFire, Organization, Run, Trigger
from workflows.services import schedules

SLEEP = {"id": "a", "type": "delay", "config": {"for": "1h"}}


def at(text: str, zone: str = "UTC") -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(dt.UTC)


def scheduled(org: Organization, schedule: str, since: dt.datetime, **more: Any) -> Trigger:
    """A trigger that has looked at everything up to `since`."""
    publish(org, [SLEEP], slug="nightly", on={"cron": schedule, **more})
    Trigger.objects.filter(organization=org).update(fires_from=since, next_fire_at=since)
    return Trigger.objects.get(organization=org)


def outcomes(org: Organization) -> list[tuple[str, str]]:
    rows = CronFire.objects.filter(org_id=org.id).order_by("fire_at")
    return [(f"{row.fire_at:%d %H:%M}", row.outcome) for row in rows]


# --- when it fires -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "zone", "start", "end", "expected"),
    [
        # Fixed times: in the gap right after it, in the repeated hour once.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", "2026-03-30T12:00", ["29 01:00", "30 00:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", "2026-10-26T12:00", ["25 00:30", "26 01:30"]),
        ("30 2 * * *", "America/New_York", "2026-03-07T12:00", "2026-03-09T12:00", ["08 07:00", "09 06:30"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00", "2026-11-02T12:00", ["01 05:30", "02 06:30"]),
        ("0 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", "2026-10-05T12:00", ["03 15:30", "04 15:00"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", "2026-04-06T12:00", ["04 14:45", "05 15:15"]),
        # By the clock: every half hour that there is.
        ("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:20", "2026-03-29T03:40", ["29 00:30", "29 01:00", "29 01:30"]),
        ("0 * * * *", "Europe/Berlin", "2026-10-25T01:30", "2026-10-25T03:30", ["25 00:00", "25 01:00", "25 02:00"]),
        # Day of month or weekday: either.
        ("0 12 13 * 5", "UTC", "2026-11-11T00:00", "2026-11-21T00:00", ["13 12:00", "20 12:00"]),
    ],
)
def test_fire_times_over_changes_of_the_clock(
    schedule: str, zone: str, start: str, end: str, expected: list[str]
) -> None:
    due = cron.due(schedule, zone, at(start, zone), at(end, zone))
    assert [f"{moment:%d %H:%M}" for moment in due] == expected


@pytest.mark.parametrize(
    ("schedule", "count"),
    [
        ("* * * * *", 1_440),
        ("0 * * * *", 24),
        ("*/15 * * * *", 96),
        ("0 9 * * 1-5", 1),
        ("0 0 * * *", 1),
        ("0 0 1 * *", 0),
        ("0 0 * * 0", 0),
    ],
)
def test_the_seven_common_schedules(schedule: str, count: int) -> None:
    """Q: every minute, hour, 15 minutes, weekday at 9, midnight, first of the month, Sunday; over a Monday."""
    found: list[dt.datetime] = []
    since, end = at("2026-11-22T23:59:30"), at("2026-11-23T23:59:30")
    while more := cron.due(schedule, "UTC", since, end):
        found += more
        since = more[-1]
    assert len(found) == len(set(found)) == count


@pytest.mark.parametrize(
    ("catch_up", "fire", "missed"),
    [("none", ["10:00"], ["07:00", "08:00", "09:00"]), ("latest", ["10:00"], ["07:00", "08:00", "09:00"]),
     ("all", ["07:00", "08:00", "09:00", "10:00"], [])],
)  # fmt: skip
def test_what_is_caught_up(catch_up: str, fire: list[str], missed: list[str]) -> None:
    now = at("2026-11-22T10:00:30")
    planned = cron.plan(cron.due("0 * * * *", "UTC", at("2026-11-22T06:30"), now), now, catch_up)
    assert ([f"{t:%H:%M}" for t in planned.fire], [f"{t:%H:%M}" for t in planned.missed]) == (fire, missed)
    late = now + dt.timedelta(minutes=20)
    planned = cron.plan(cron.due("0 * * * *", "UTC", at("2026-11-22T06:30"), late), late, catch_up)
    assert [f"{t:%H:%M}" for t in planned.fire] == {"none": [], "latest": ["10:00"], "all": fire}[catch_up]


@pytest.mark.parametrize(
    ("trigger", "says"),
    [({"cron": "61 * * * *"}, "no cron schedule"), ({"cron": "0 0 31 2 *"}, "never"), ({"cron": "* * * *"}, "five"),
     ({"cron": "* * * * *", "timezone": "Mars/Base"}, "unknown time zone"), ({"cron": "* * * * *", "jitter": "2h"}, "jitter")],
)  # fmt: skip
def test_a_schedule_that_makes_no_sense_is_refused(trigger: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionProblems, match=says):
        parse({"flow": "f", "on": trigger, "steps": [SLEEP]})


# --- once ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    ("zone", "start"),
    [("Europe/Berlin", "2026-03-28T20:00"), ("Europe/Berlin", "2026-10-24T20:00"), ("America/New_York", "2026-03-07T20:00"),
     ("America/New_York", "2026-10-31T20:00"), ("Australia/Lord_Howe", "2026-10-03T20:00"), ("Australia/Lord_Howe", "2026-04-04T20:00")],
)  # fmt: skip
def test_every_time_fires_once_however_the_clock_of_the_looker_jumps(org: Organization, zone: str, start: str) -> None:
    """Two lookers at once, again and again, whose clock steps an hour forth and back, over a change of the zone."""
    begin = at(start, zone)
    found = scheduled(org, "*/30 * * * *", begin, timezone=zone, catch_up="all")
    end = begin + dt.timedelta(hours=12)
    chance, clock = random.Random(1), begin

    def look(moment: dt.datetime) -> None:
        try:
            schedules.fire(found.id, moment)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        while clock < end:
            clock += dt.timedelta(minutes=20)
            moment = min(clock + dt.timedelta(hours=chance.choice((-1, 0, 0, 1))), end)
            list(pool.map(look, (moment, moment)))
        look(end)
    expected = cron.due("*/30 * * * *", zone, begin, end)
    fired = list(CronFire.objects.filter(org_id=org.id).order_by("fire_at").values_list("fire_at", "outcome"))
    assert fired == [(moment, "started") for moment in expected]
    runs = Run.objects.filter(org_id=org.id)
    assert Counter(run.input["scheduledFor"] for run in runs) == Counter(moment.isoformat() for moment in expected)


@pytest.mark.usefixtures("published")
def test_a_new_version_neither_loses_nor_doubles_a_time(org: Organization) -> None:
    begin = at("2026-11-22T06:30")
    found = scheduled(org, "0 * * * *", begin, catch_up="all")
    schedules.fire(found.id, begin + dt.timedelta(hours=2))
    publish(org, [SLEEP, {**SLEEP, "id": "b"}], slug="nightly", on={"cron": "0 * * * *", "catch_up": "all"})
    again = Trigger.objects.get(organization=org)
    assert again.fires_from == at("2026-11-22T08:00")
    schedules.fire(again.id, begin + dt.timedelta(hours=4))
    assert outcomes(org) == [(f"22 {hour:02}:00", "started") for hour in (7, 8, 9, 10)]


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    ("overlap", "expected", "live"),
    [("allow", ["started", "started", "started"], 3), ("skip", ["started", "skipped", "skipped"], 1),
     ("queue", ["started", "queued", "queued"], 1), ("cancel_running", ["started", "started", "started"], 1)],
)  # fmt: skip
def test_what_happens_while_a_run_is_live(org: Organization, overlap: str, expected: list[str], live: int) -> None:
    begin = at("2026-11-22T06:30")
    found = scheduled(org, "0 * * * *", begin, overlap=overlap, catch_up="all")
    for hour in (1, 2, 3):
        schedules.fire(found.id, begin + dt.timedelta(hours=hour))
    assert [outcome for _, outcome in outcomes(org)] == expected
    open_runs = Run.objects.filter(org_id=org.id, ended_at=None)
    assert open_runs.count() == live
    if overlap == "queue":
        for _ in range(2):
            services.cancel_run(org, open_runs.get().id)
            schedules._start_queued()
        assert [outcome for _, outcome in outcomes(org)] == ["started"] * 3
        assert open_runs.get().input["scheduledFor"] == at("2026-11-22T09:00").isoformat()


@pytest.mark.usefixtures("published")
def test_what_a_flow_refuses_is_kept_with_the_reason(org: Organization) -> None:
    publish(org, [SLEEP], slug="picky", on={"cron": "0 * * * *"}, input_schema={"type": "object", "required": ["x"]})
    found = Trigger.objects.get(organization=org)
    now = timezone.now()
    Trigger.objects.filter(id=found.id).update(fires_from=now - dt.timedelta(hours=1))
    schedules.fire(found.id, now)
    row = CronFire.objects.get(org_id=org.id)
    assert (row.outcome, '"x" is a required property' in row.reason) == ("refused", True)


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("condition", ["deadlock_detected", "lock_not_available", "query_canceled"])
def test_what_may_pass_loses_no_fire_time(org: Organization, condition: str) -> None:
    begin = at("2026-11-22T06:30")
    found = scheduled(org, "0 * * * *", begin)
    with refusing("headrace_workflows_steprun", condition), pytest.raises((OperationalError, psycopg.OperationalError)):
        schedules.fire(found.id, begin + dt.timedelta(hours=1))
    assert outcomes(org) == [], "it stays due"
    schedules.fire(found.id, begin + dt.timedelta(hours=1))
    assert outcomes(org) == [("22 07:00", "started")]


@pytest.mark.usefixtures("published")
def test_a_key_that_another_holds_loses_no_fire_time(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflows.engine.run_controls.idempotency.WAIT_MS", 50)
    begin = at("2026-11-22T06:30")
    found = scheduled(org, "0 * * * *", begin)
    publish(org, [SLEEP], slug="nightly", on={"cron": "0 * * * *"}, idempotency={"key": "'one'", "window": "1m"})
    Trigger.objects.filter(organization=org).update(fires_from=begin, next_fire_at=begin)
    found = Trigger.objects.get(organization=org)
    taken, over = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                services.trigger(org, "nightly")
                taken.set()
                over.wait(20)
                transaction.set_rollback(True)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(hold)
        assert taken.wait(20)
        try:
            with pytest.raises(IdempotencyConflict):
                schedules.fire(found.id, begin + dt.timedelta(hours=1))
        finally:
            over.set()
        holder.result()
    assert outcomes(org) == [], "it stays due"
    schedules.fire(found.id, begin + dt.timedelta(hours=1))
    assert outcomes(org) == [("22 07:00", "started")]


@pytest.mark.usefixtures("published")
def test_what_never_passes_is_refused_once(org: Organization) -> None:
    """A row too large for an index is an operational error to the driver, and stays one."""
    begin = at("2026-11-22T06:30")
    found = scheduled(org, "0 * * * *", begin)
    with refusing("headrace_workflows_steprun", "program_limit_exceeded"):
        schedules.fire(found.id, begin + dt.timedelta(hours=1))
    assert outcomes(org) == [("22 07:00", "refused")]


@pytest.mark.usefixtures("published")
def test_jitter_delays_the_run(org: Organization) -> None:
    begin = at("2026-11-22T06:30")
    found = scheduled(org, "0 * * * *", begin, jitter="1h", catch_up="all")
    schedules.fire(found.id, begin + dt.timedelta(hours=1))
    step = Run.objects.get(org_id=org.id).step_runs.get()
    assert (step.status, step.waiting_for) == ("waiting", "delay")
    assert step.wake_at is not None
    assert dt.timedelta(0) < step.wake_at - timezone.now() < dt.timedelta(hours=1)


@pytest.mark.usefixtures("published")
def test_beat_has_a_row_for_each_trigger(org: Organization, api_key: str) -> None:
    publish(
        org, [SLEEP], slug="nightly", on=[{"cron": "0 3 * * *", "timezone": "Europe/Berlin"}, {"cron": "0 12 13 * 5"}]
    )
    one, two = Trigger.objects.filter(organization=org).order_by("position")
    rows = {row.args: row for row in PeriodicTask.objects.filter(task=schedules.TASK, name__contains=str(one.flow_id))}
    assert set(rows) == {f'["{one.id}"]', f'["{two.id}"]'}
    assert str(rows[f'["{one.id}"]'].crontab).startswith("0 3 * * *")
    assert str(rows[f'["{one.id}"]'].crontab.timezone) == "Europe/Berlin"
    assert str(rows[f'["{two.id}"]'].crontab).startswith("0 12 * * *")  # either day or weekday: beat looks every day
    PeriodicTask.objects.filter(task=schedules.TASK).delete()
    api = Api(api_key)
    assert api.post("/scheduler/refresh").json() == {"success": True, "scheduledWorkflows": 2}
    assert PeriodicTask.objects.filter(task=schedules.TASK, name__contains=str(one.flow_id)).count() == 2
    listed = api.get("/schedules").json()
    assert [len(each["nextFires"]) for each in listed] == [5, 5]
    publish(org, [SLEEP], slug="nightly")
    assert not PeriodicTask.objects.filter(name__contains=str(one.flow_id)).exists()
    assert Trigger.objects.filter(organization=org).count() == 0


def test_schedules_that_are_there_twice_hold_up_no_flow(org: Organization) -> None:
    """Of celery-beat's rows several may be alike: it does not mind."""
    for _ in range(2):
        CrontabSchedule.objects.create(minute="23", hour="5", day_of_month="17", month_of_year="3", day_of_week="*")
    publish(org, [{"id": "a", "type": "noop"}], on=[{"cron": "23 5 17 3 *"}])
    assert PeriodicTask.objects.filter(crontab__minute="23", crontab__hour="5").count() == 1


@pytest.mark.timeout(240)
def test_two_beats_and_the_leader_fire_each_minute_once(
    org: Organization, own_workers: WorkerPool, worker_environment: dict[str, str]
) -> None:
    """The real chain over a fire time, just before which one of the beats is killed."""
    own_workers.start("io")
    own_workers.await_ready(1)
    begin = timezone.now()
    publish(org, [{"id": "a", "type": "noop"}], slug="minutely", on={"cron": "* * * * *"})
    beats = [start_beat(worker_environment) for _ in range(2)]
    try:
        await_that(lambda: timezone.now().second >= 57, 70, "the end of the minute")
        beats[0].kill()
        await_that(lambda: Run.objects.filter(org_id=org.id).exists(), 30, "the minute")
        time.sleep(2)  # whoever else saw it has had its chance
    finally:
        for beat in beats:
            beat.kill()
            beat.wait()
        Trigger.objects.filter(organization=org).delete()
    expected = cron.due("* * * * *", "UTC", begin, timezone.now())
    assert [row[1] for row in outcomes(org)] == ["started"] * len(expected)
    assert Run.objects.filter(org_id=org.id).count() == len(expected)
