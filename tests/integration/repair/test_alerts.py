"""Alert rules against a real receiver: each fires once, is told once, and its end is told once."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import time_machine
from django.db import connection, connections
from django.db.models import F
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from dlq import services
from dlq.alerting import channels, evaluation, texts
from dlq.alerting.default_rules import RULES, ship
from dlq.alerting.metrics import Reading
from dlq.models import Alert, AlertChannel, AlertNotification, AlertRule, DeadLetter
from dlq.models.alert import Metric
from tests.support.workers import WorkerPool, await_that, open_queues, publish, run_to_end
from workflows import services as workflows
from workflows.engine.state import database
from workflows.engine.state.transitions import steps as step_transitions
from workflows.models import Attempt, Organization, Run, StepRun

ONCE = {"attempts": 1}


class Receiver:
    """What has arrived, as (title, body)."""

    def __init__(self, httpserver: HTTPServer, org: Organization) -> None:
        self.messages: list[tuple[str, str]] = []
        self.broken = False
        httpserver.expect_request("/alerts", method="POST").respond_with_handler(self._take)
        channel = AlertChannel(name=f"receiver {org.slug}", org_id=org.id)
        channel.url = f"json://{httpserver.host}:{httpserver.port}/alerts"
        channel.save()
        self.channel = channel

    def _take(self, request: Request) -> Response:
        if self.broken:
            return Response("no", 500)
        body = request.get_json()
        self.messages.append((body["title"], body["message"]))
        return Response("ok")

    def of(self, rule: str) -> list[str]:
        """The kinds of messages about a rule."""
        kinds = []
        for title, body in self.messages:
            if f"Rule: {rule}," in body:
                kinds.append("recovered" if title.startswith("Recovered: ") else "fired")
        return kinds

    def expect(self, rule: str, kinds: list[str]) -> None:
        """A worker may deliver it as well as the test, so it is waited for; more of them than expected are an error."""
        with contextlib.suppress(AssertionError):
            await_that(lambda: self.of(rule) == kinds, 10)
        assert self.of(rule) == kinds


@pytest.fixture
def receiver(org: Organization, httpserver: HTTPServer) -> Iterator[Receiver]:
    made = Receiver(httpserver, org)
    yield made
    made.channel.delete()
    AlertNotification.objects.filter(status="pending").delete()


def look() -> None:
    """Two evaluations in a row, as of two minutes, and what they have to say."""
    for _ in range(2):
        evaluation.evaluate()
        evaluation.deliver()


def later(minutes: int) -> Any:
    return time_machine.travel(dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes), tick=True)


def many(org: Organization, count: int, how: str, slug: str = "failing") -> None:
    steps = [{"id": "a", "type": "raises", "config": {"how": how}, "retry": {"attempts": 3, "delay": "5ms"}}]
    ids = workflows.trigger_many(org, publish(org, steps, slug=slug), [{}] * count).run_ids
    await_that(lambda: not Run.objects.filter(id__in=ids, ended_at=None).exists(), 60)


def good(org: Organization, count: int) -> None:
    ids = workflows.trigger_many(org, publish(org, [{"id": "a", "type": "noop"}], slug="good"), [{}] * count).run_ids
    await_that(lambda: not Run.objects.filter(id__in=ids, ended_at=None).exists(), 60)


def slow_attempt(org: Organization) -> None:
    good(org, 1)
    Attempt.objects.filter(org_id=org.id).update(ready_at=F("started_at") - dt.timedelta(seconds=11))


def slow_run(org: Organization) -> None:
    good(org, 1)
    Run.objects.filter(org_id=org.id).update(started_at=F("ended_at") - dt.timedelta(seconds=31))


MAKE: dict[str, Callable[[Organization], object]] = {
    "dead-letters": lambda org: many(org, 11, "final"),
    "failure-rate": lambda org: (good(org, 20), many(org, 2, "final")),
    "failure-rate-high": lambda org: (good(org, 20), many(org, 3, "final")),
    "retry-rate": lambda org: (good(org, 20), many(org, 6, "once:unknown")),
    "retries": lambda org: many(org, 1, "unknown"),
    "throttling-overhead": slow_attempt,
    "processing-time": slow_run,
    "auth-or-configuration": lambda org: many(org, 1, "answered"),
}


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("rule", MAKE)
def test_a_rule_fires_and_recovers_once(org: Organization, receiver: Receiver, rule: str) -> None:
    good(org, 1)
    look()
    assert receiver.of(rule) == []
    MAKE[rule](org)
    look()
    receiver.expect(rule, ["fired"])
    alert = Alert.objects.get(org_id=org.id, rule__name=rule)
    assert (alert.recovered_at, alert.severity) == (None, AlertRule.objects.get(name=rule).severity)
    assert alert.execution is not None
    with later(61):
        look()
    receiver.expect(rule, ["fired", "recovered"])
    alert.refresh_from_db()
    assert alert.recovered_at is not None


def test_depth_backlog_and_zombies(org: Organization, receiver: Receiver, own_workers: WorkerPool) -> None:
    """1,001 runs that nobody works on; and a step whose worker is lost while nobody rescues."""
    open_queues()
    slug = publish(org, [{"id": "a", "type": "noop"}])
    (zombie,) = workflows.trigger(org, slug).run_ids
    step = StepRun.objects.get(run_id=zombie)
    step_transitions.claim([(str(step.id), 1)], worker=uuid.uuid4())
    StepRun.objects.filter(id=step.id).update(lease_until=timezone.now() - dt.timedelta(seconds=6))
    workflows.trigger_many(org, slug, [{}] * 1_001)
    look()
    for rule in ("queue-depth", "backlog", "waiting", "zombies"):
        receiver.expect(rule, ["fired"])
    own_workers.start("io")
    await_that(lambda: not Run.objects.filter(org_id=org.id, ended_at=None).exists(), 90)
    look()
    for rule in ("queue-depth", "backlog", "waiting", "zombies"):
        receiver.expect(rule, ["fired", "recovered"])


@pytest.mark.usefixtures("workers")
def test_throughput_below_what_is_set(org: Organization, receiver: Receiver) -> None:
    rule = AlertRule.objects.create(name=f"slow-{org.slug}", metric="throughput", comparison="<", threshold=2,
                                    window_s=60, org_id=org.id)  # fmt: skip
    try:
        look()
        receiver.expect(rule.name, ["fired"])
        good(org, 3)
        look()
        receiver.expect(rule.name, ["fired", "recovered"])
    finally:
        rule.delete()


@pytest.mark.usefixtures("workers")
def test_a_rule_that_is_switched_off_recovers(org: Organization, receiver: Receiver) -> None:
    rule = AlertRule.objects.create(
        name=f"any-{org.slug}", metric="retries", comparison=">=", threshold=0, org_id=org.id
    )
    try:
        many(org, 1, "unknown")
        look()
        AlertRule.objects.filter(id=rule.id).update(enabled=False)
        look()
        receiver.expect(rule.name, ["fired", "recovered"])
    finally:
        rule.delete()


@pytest.mark.usefixtures("workers")
def test_two_evaluations_at_once_fire_once(org: Organization, receiver: Receiver) -> None:
    many(org, 1, "answered")
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        try:
            evaluation.evaluate()
            evaluation.deliver()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    evaluation.deliver()
    receiver.expect("auth-or-configuration", ["fired"])


@pytest.mark.usefixtures("workers")
def test_a_message_that_can_t_be_delivered_is_tried_again_and_a_recovery_waits_for_it(
    org: Organization, receiver: Receiver
) -> None:
    receiver.broken = True
    many(org, 1, "answered")
    look()
    mine = AlertNotification.objects.filter(alert__org_id=org.id, alert__rule__name="auth-or-configuration")
    notification = await_that(lambda: mine.exclude(error="").first())
    assert (notification.status, notification.tries) == ("pending", 1)
    assert "could not deliver" in notification.error
    with later(6):
        evaluation.evaluate()
        receiver.broken = False
        evaluation.deliver()
        receiver.expect("auth-or-configuration", ["fired", "recovered"])


@pytest.mark.usefixtures("workers")
def test_a_flow_may_alert_of_every_failure(org: Organization, receiver: Receiver) -> None:
    """“Job failed after all retries”, with event id and error; a worker delivers it by itself."""
    steps = [{"id": "a", "type": "raises", "config": {"how": "final"}}]
    detail = run_to_end(org, steps, slug="critical-job", alert_on_failure=True)
    title, body = await_that(lambda: next((m for m in receiver.messages if "after all retries" in m[0]), None), 20)
    assert title == "[critical] Job failed after all retries: headrace/manual"
    assert str(detail.run.id) in body
    assert "no use" in body


@pytest.mark.usefixtures("workers")
def test_a_snoozed_group_is_not_alerted(org: Organization, receiver: Receiver) -> None:
    many(org, 1, "answered")
    group = DeadLetter.objects.filter(org_id=org.id).first().group_id
    services.snooze(org, group, until=timezone.now() + dt.timedelta(hours=1), by="me")
    look()
    assert receiver.of("auth-or-configuration") == []


def test_severity_and_organization_of_a_channel_are_heeded(
    org: Organization, receiver: Receiver, own_workers: WorkerPool
) -> None:
    AlertChannel.objects.filter(id=receiver.channel.id).update(min_severity="critical")
    now = timezone.now()
    rule = AlertRule.objects.get(name="retries")
    fields = {"org_id": org.id, "rule": rule, "title": "t", "message": "Rule: x, y", "fired_at": now, "seen_at": now}
    for severity in ("info", "warning", "critical"):
        Alert.objects.filter(org_id=org.id).delete()
        evaluation._notify(Alert.objects.create(severity=severity, **fields), "fired")
    evaluation.deliver()
    assert [title for title, _ in receiver.messages] == ["[critical] t"]


def test_sentry_and_the_environment_are_channels(
    org: Organization, httpserver: HTTPServer, settings: Any, receiver: Receiver, own_workers: WorkerPool
) -> None:
    envelopes: list[bytes] = []

    def take(request: Request) -> Response:
        envelopes.append(request.get_data())
        return Response("{}", content_type="application/json")

    httpserver.expect_request("/api/1/envelope/").respond_with_handler(take)
    settings.HEADRACE = {
        "SENTRY_DSN": f"http://public@{httpserver.host}:{httpserver.port}/1",
        "ALERT_URLS": [f"json://{httpserver.host}:{httpserver.port}/alerts"],
    }
    assert channels.configured() == ["environment", "sentry"]
    now = timezone.now()
    alert = Alert.objects.create(org_id=org.id, rule=AlertRule.objects.get(name="retries"), severity="critical",
                                 title="t", message="m", fired_at=now, seen_at=now)  # fmt: skip
    evaluation._notify(alert, "fired")
    evaluation.deliver()
    assert [title for title, _ in receiver.messages] == ["[critical] t"] * 2  # the row's and the environment's
    assert len(envelopes) == 1
    statuses = set(AlertNotification.objects.filter(alert=alert).values_list("channel", "status"))
    assert statuses == {(receiver.channel.name, "sent"), ("environment", "sent"), ("sentry", "sent")}


def test_intervals_that_are_there_twice_hold_up_no_migration(live_db: None) -> None:
    """Of celery-beat's rows several may be alike: it does not mind."""
    for _ in range(2):
        IntervalSchedule.objects.create(every=60, period=IntervalSchedule.SECONDS)
    ship()


def test_the_shipped_rules_stand_in_the_database_and_are_not_set_back(live_db: None) -> None:
    from django_celery_beat.models import PeriodicTask

    assert {rule["name"] for rule in RULES} <= set(AlertRule.objects.values_list("name", flat=True))
    task = PeriodicTask.objects.get(task="headrace.evaluate_alerts")
    assert (task.interval.every, task.interval.period, task.enabled) == (60, "seconds", True)
    AlertRule.objects.filter(name="backlog").update(threshold=70)
    try:
        ship()
        assert AlertRule.objects.get(name="backlog").threshold == 70
    finally:
        AlertRule.objects.filter(name="backlog").update(threshold=50)


def test_an_address_is_kept_secret(org: Organization, receiver: Receiver) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT ciphertext FROM headrace_dlq_alertchannel WHERE id = %s", (receiver.channel.id,))
        assert b"/alerts" not in bytes(cursor.fetchone()[0])
    assert channels.problem_of("nonsense://x") is not None
    assert database.is_adopted() is False


# --- what they say ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "severity"),
    [("backlog", "warning"), ("waiting", "warning"), ("throttling-overhead", "warning"), ("retries", "info")],
)
def test_the_shipped_severities_are_the_documents(live_db: None, rule: str, severity: str) -> None:
    assert AlertRule.objects.get(name=rule).severity == severity


def test_rules_of_an_earlier_release_warn_too_unless_somebody_has_edited_them(live_db: None) -> None:
    from importlib import import_module

    from django.apps import apps

    warn = import_module("dlq.migrations.0005_severities").warn
    rules = AlertRule.objects.filter(name__in=("backlog", "throttling-overhead"))
    try:
        rules.update(severity="info")
        rules.filter(name="throttling-overhead").update(threshold=12)
        warn(apps, None)
        assert dict(rules.values_list("name", "severity")) == {"backlog": "warning", "throttling-overhead": "info"}
    finally:
        rules.update(severity="warning")
        rules.filter(name="throttling-overhead").update(threshold=10)


@pytest.mark.usefixtures("workers")
def test_an_alert_names_flow_step_unit_and_link(org: Organization, receiver: Receiver) -> None:
    slow_attempt(org)
    look()
    receiver.expect("throttling-overhead", ["fired"])
    title, body = next((title, body) for title, body in receiver.messages if "Rule: throttling-overhead," in body)
    run = Run.objects.get(org_id=org.id)
    assert title == "[warning] throttling-overhead: 11,000 ms"
    assert "High throttling overhead detected: 11,000 ms." in body
    assert f"Flow: good, step: a. Execution: {run.id}." in body
    assert f"/runs/{run.id}/" in body
    assert "> 10,000 ms" in body


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("dead_letters", 11, "11 failed jobs"), ("waiting_runs", 1_234, "1,234 runs"), ("retries", 1, "1 retry"),
        ("failure_rate", 0.051, "5.1%"), ("throttling_overhead", 12.345, "12,345 ms"), ("processing_time", 31, "31.0 s"),
        ("throughput", 0.5, "0.5 runs a minute"), ("priority_target", 1.2, "120.0%"),
    ],
)  # fmt: skip
def test_a_value_has_its_unit(metric: str, value: float, shown: str) -> None:
    assert texts.value_of(metric, value) == shown


def test_every_metric_has_a_sentence_and_a_unit(org: Organization) -> None:
    for metric in Metric:
        rule = AlertRule(name="r", metric=metric, threshold=3, window_s=300, severity="info")
        text = texts.message(rule, Reading(org_id=org.id, value=4))
        assert text.count("\n") == 3
        assert "{" not in text


def test_a_failure_that_a_flow_wants_told_has_a_link(org: Organization, workers: WorkerPool) -> None:
    many(org, 1, "final", slug="critical-job")
    letter = DeadLetter.objects.select_related("flow").get(org_id=org.id)
    assert f"/runs/{letter.run_id}/" in texts.failure_message(letter)


def test_a_dead_letter_has_the_documents_column_defaults(live_db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, column_default FROM information_schema.columns"
            " WHERE table_name = 'headrace_dlq_deadletter' AND column_default IS NOT NULL"
        )
        found = dict(cursor.fetchall())
    assert "headrace_uuid7" in found["id"]
    assert found["attempts"] == "1"
    assert "failed" in found["status"]
    assert all("statement_timestamp" in found[name].lower() for name in ("failed_at", "created_at"))
