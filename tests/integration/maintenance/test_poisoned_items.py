"""A poisoned item in each sweep and each job: it is put off, and keeps no other from its turn."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from dlq import services as dlq
from dlq.alerting import evaluation
from dlq.models import Alert, AlertNotification, AlertRule, DeadLetter
from tests.integration.maintenance.poisoned import POISONED, WITHOUT_ITEMS, left_over
from tests.integration.maintenance.sweep_cases import HOUR, NOOP, TABLES, Case, clean, now_again, try_again_in, turn  # noqa: F401  (clean: a fixture)
from tests.support.by_hand import claim, end, fail, start
from tests.support.poison import Panic, doctor, poisoned, told_of
from tests.support.workers import publish
from workflows import services
from workflows.engine.events import matching
from workflows.engine.maintenance import leader as maintenance
from workflows.engine.maintenance import periodic_jobs
from workflows.engine.pipeline import publish as dispatch
from workflows.engine.repair import on_failure
from workflows.engine.state.records import ReadyStep
from workflows.models import (
    CronFire,
    Event,
    Organization,
    Run,
    StepRun,
    SweepFailure,
    SystemFeed,
    Trigger,
)
from workflows.services import schedules, system_events


def test_every_sweep_and_every_job_is_shown_here_with_a_poisoned_item() -> None:
    """Whoever adds one writes a recipe for it, or says why it has no items."""
    everything = {name for table in TABLES.values() for name in table} | set(periodic_jobs.JOBS)
    assert everything == POISONED.keys() | WITHOUT_ITEMS.keys()


@pytest.mark.parametrize("name", POISONED)
def test_a_poisoned_item_keeps_no_other_from_its_turn(
    name: str, org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = POISONED[name](Case(bad=org, good=other, monkeypatch=monkeypatch))
    with recipe.poison:
        recipe.work()
        assert recipe.went_on(), "the other organization's waits behind it"
        told = told_of(recipe.told)
        assert (told["trouble"], told["items"], "poisoned" in told["error"]) == ("items", 1, True)
        assert doctor()["failingItems"] == 1, list(SweepFailure.objects.values("sweep", "item", "error"))
        failed = SweepFailure.objects.get()
        assert failed.try_again_at > failed.since, "it is put off"
        try_again_in(3_600)  # the first pause is short, and this machine may be slow
        recipe.work()
        assert SweepFailure.objects.get().tries == failed.tries
    if name in {"undispatched steps", "lost workers"}:
        monkeypatch.setattr(dispatch, "publish", lambda _: None)
    now_again()
    recipe.work()
    assert not SweepFailure.objects.exists(), "it is done now, and nothing is left to tell"


def test_alert_rules_are_looked_at_each_by_itself(org: Organization, other: Organization) -> None:
    AlertRule.objects.update(enabled=False)
    made = []
    try:
        for owner in (org, other):
            fail(start(owner, [NOOP]))
            rule = AlertRule(name=owner.slug, metric="dead_letters", threshold=0, org_id=owner.id)
            rule.save()
            made.append(rule)
        AlertRule.objects.filter(id=made[0].id).update(metric="no_such_metric")
        assert evaluation.evaluate().fired == 1
        assert Alert.objects.filter(org_id=other.id, rule=made[1]).exists()
        assert told_of(evaluation.RULES)["items"] == 1
    finally:
        Alert.objects.filter(rule__in=made).delete()
        AlertRule.objects.filter(id__in=[rule.id for rule in made]).delete()
        AlertRule.objects.update(enabled=True)


def test_a_channel_that_raises_keeps_no_other_alert_from_being_sent(
    org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    AlertNotification.objects.filter(status="pending").delete()
    now = timezone.now()
    for name in ("bad", "good"):
        alert = Alert.objects.create(org_id=org.id, severity="info", title=name, message="", fired_at=now, seen_at=now)
        AlertNotification.objects.create(alert=alert, channel=name, kind="fired", due_at=now)

    def send(notification: AlertNotification) -> None:
        if notification.channel == "bad":
            raise Panic("poisoned")

    monkeypatch.setattr("dlq.alerting.channels.send", send)
    assert evaluation.deliver() == 1
    bad = AlertNotification.objects.get(alert__org_id=org.id, channel="bad")
    assert (bad.status, bad.error) == ("pending", "Panic: poisoned")
    AlertNotification.objects.filter(status="pending").delete()


def test_an_event_that_can_not_be_told_is_left_out_of_its_feed(
    org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(org, [HOUR], slug="listener", on={"event": "headrace/run.completed"})
    runs = [start(org, [NOOP]) for _ in range(3)]
    for run_id in runs:
        end(claim(run_id, "a"))
    spoilt = str(runs[1])
    facts = system_events.run_facts
    monkeypatch.setattr(
        system_events, "run_facts", lambda run: {**facts(run), "x": "\0" if str(run.id) == spoilt else ""}
    )
    SystemFeed.objects.create(org_id=org.id, source="runs", emitted_until=timezone.now() - dt.timedelta(minutes=5))
    system_events.emit()
    told = Event.objects.filter(org_id=org.id, name="headrace/run.completed").values_list("data__runId", flat=True)
    assert sorted(told) == sorted({*map(str, runs)} - {spoilt})


@pytest.mark.parametrize("trigger", ["event", "cron"])
def test_a_start_has_one_savepoint(org: Organization, trigger: str) -> None:
    """It is what its runs are inserted in; nothing else is written before."""
    now = timezone.now()
    publish(org, [HOUR], on={"event": "x/y"} if trigger == "event" else {"cron": "* * * * *"})
    if trigger == "event":
        left_over(org)
        work: Callable[[], object] = matching.match_left_over
    else:
        Trigger.objects.filter(organization=org).update(fires_from=now - dt.timedelta(minutes=1), next_fire_at=now)
        work = partial(schedules.fire, Trigger.objects.get(organization=org).id, now)
    with CaptureQueriesContext(connection) as captured:
        work()
    assert Run.objects.filter(org_id=org.id).count() == 1
    wanted = [query["sql"] for query in captured if query["sql"].startswith("SAVEPOINT")]
    assert len(wanted) == 1, wanted


# --- fair pages ----------------------------------------------------------------------------------------------------


def test_two_thousand_poisoned_events_delay_another_s_by_one_tick(org: Organization, other: Organization) -> None:
    publish(other, [HOUR], on={"event": "x/y"})
    left_over(org, 2_000)
    mine = left_over(other)[0]
    with poisoned("headrace_workflows_event", "org_id", org.id):
        periodic_jobs.do(periodic_jobs.JOBS["left-over events"])
        assert Run.objects.filter(event_id=mine).exists()
        assert doctor()["unmatchedEvents"] >= 2_000
    Event.objects.filter(org_id=org.id).delete()


def test_many_poisoned_steps_delay_another_s_by_one_tick(
    org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = services.trigger_many(org, publish(org, [NOOP]), [{}] * 2_000).run_ids
    good = start(other, [NOOP])
    StepRun.objects.filter(run_id__in=bad).update(dispatched_at=None, ready_at="2026-01-01T00:00:00Z")
    StepRun.objects.filter(run_id=good).update(dispatched_at=None, ready_at="2026-01-02T00:00:00Z")
    poisoned_runs = set(bad)

    def send(steps: list[ReadyStep]) -> None:
        if any(step.run_id in poisoned_runs for step in steps):
            raise Panic("poisoned")

    monkeypatch.setattr(dispatch, "publish", send)
    maintenance._undispatched()
    assert StepRun.objects.filter(run_id=good).exclude(dispatched_at=None).exists()


@pytest.mark.parametrize("kind", ["follow-up", "schedules", "automatic replays", "alerts of failures"])
def test_a_page_full_of_poison_delays_another_s_by_one_tick(
    kind: str, org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of three, and five poisoned items that are older than the good one."""
    for module, name in ((on_failure, "BATCH"), (schedules, "BATCH"), (dlq, "AUTO_BATCH"), (evaluation, "BATCH")):
        monkeypatch.setattr(module, name, 3)
    past = timezone.now() - dt.timedelta(minutes=5)
    for owner, count in ((org, 5), (other, 1)):
        publish(owner, [HOUR], slug="handler")
        for number in range(count):
            fail(start(owner, [NOOP], slug=f"f{number}", on_failure="handler", alert_on_failure=True))
            publish(owner, [HOUR], slug=f"c{number}", on={"cron": "* * * * *"})
    for owner, ago in ((org, 3), (other, 2)):
        due = timezone.now() - dt.timedelta(minutes=ago)
        Trigger.objects.filter(organization=owner, kind="cron").update(next_fire_at=due, fires_from=due)
        DeadLetter.objects.filter(org_id=owner.id).update(auto_replay_at=past - dt.timedelta(minutes=ago))
    tables = {
        "follow-up": ("headrace_workflows_run", "org_id"),
        "schedules": ("headrace_workflows_trigger", "organization_id"),
    }
    table, column = tables.get(kind, ("headrace_dlq_deadletter", "org_id"))
    went_on = {
        "follow-up": Run.objects.filter(org_id=other.id, trigger="on_failure"),
        "schedules": Run.objects.filter(org_id=other.id, trigger="cron"),
        "automatic replays": DeadLetter.objects.filter(org_id=other.id, status="reprocessed"),
        "alerts of failures": Alert.objects.filter(org_id=other.id),
    }
    with poisoned(table, column, org.id):
        periodic_jobs.do(periodic_jobs.JOBS[kind])
        assert went_on[kind].exists()
    DeadLetter.objects.filter(org_id__in=(org.id, other.id)).update(auto_replay_at=None, alert_due=False)
    Run.objects.filter(org_id__in=(org.id, other.id)).update(follow_up=False)


def test_flows_that_wait_for_their_turn_starve_no_other(
    org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`overlap: queue`: the fires of flows that still run are not looked at again and again."""
    monkeypatch.setattr(schedules, "BATCH", 2)
    past = timezone.now() - dt.timedelta(minutes=5)
    for owner, count in ((org, 6), (other, 1)):
        for number in range(count):
            slug = publish(owner, [HOUR], slug=f"c{number}")
            flow_id = owner.flows.get(slug=slug).id
            more = {"outcome": "queued", "config": {"schedule": "* * * * *"}}
            CronFire.objects.create(org_id=owner.id, flow_id=flow_id, schedule="s", fire_at=past, **more)
            if owner == org:
                services.trigger(owner, slug, kind="cron")
    schedules.tick()
    assert Run.objects.filter(org_id=other.id, trigger="cron").exists()
