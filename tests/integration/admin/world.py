"""A row for each model of the admin, in an organization with one of everything."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uuid6
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from django_celery_results.models import GroupResult, TaskResult

from dlq.models import Alert, AlertChannel, AlertRule, DeadLetter, DeadLetterGroup
from tests.support.admin_site import staff
from tests.support.workers import leave_nothing, publish
from throttling.models import ThrottleChange, ThrottleOverride
from workflows import services
from workflows.models import (
    AccessKey,
    Attempt,
    AuditEntry,
    BulkOperation,
    CeleryTask,
    CronFire,
    Event,
    EventSchema,
    FanOut,
    Flow,
    FlowVersion,
    LeaderLease,
    ObservedTask,
    Organization,
    RetentionRule,
    RetentionState,
    Run,
    Secret,
    Step,
    StepRun,
    Trigger,
    TriggerOutcome,
    Wait,
    Worker,
)
from workflows.services import bulk, limits, schedules
from workflows.services.access import audit

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NOOP = [{"id": "a", "type": "noop"}]
REGISTRY: dict[type[Model], Any] = dict(admin.site._registry)


class World:
    """An organization with one of everything."""

    def __init__(self) -> None:
        self.org = Organization.objects.create(slug=f"walk-{uuid.uuid4().hex[:10]}", name="Walk")
        publish(self.org, NOOP, slug="walked", on=[{"cron": "7 3 * * *"}, {"event": "walk/x"}])
        self.flow = Flow.objects.get(organization=self.org, slug="walked")
        self.run_id = services.trigger(self.org, "walked", delay="1h").run_ids[0]

    def ended_run(self) -> Run:
        run_id = services.trigger(self.org, "walked", delay="1h").run_ids[0]
        services.cancel_run(self.org, run_id)
        return Run.objects.exclude(ended_at=None).get(id=run_id)

    def live_run(self) -> Run:
        return Run.objects.get(id=services.trigger(self.org, "walked", delay="1h").run_ids[0])

    def letter(self, status: str = "failed") -> DeadLetter:
        group = DeadLetterGroup.objects.create(
            id=uuid.uuid4(), org_id=self.org.id, fingerprint=uuid.uuid4().hex, step_type="noop", category="business",
            message="m", first_seen=NOW,
        )  # fmt: skip
        run_id = self.ended_run().id
        return DeadLetter.objects.create(
            org_id=self.org.id, group=group, flow=self.flow, run_id=run_id, first_run_id=run_id, place="a", step_key="a",
            step_type="noop", category="business", error_message="m", failed_at=NOW, created_at=NOW, event_data={},
            status=status,
        )  # fmt: skip

    def operation(self, status: str = "running") -> BulkOperation:
        made = bulk.start(self.org, "cancel_runs", {"status": "waiting"}, by="me")
        BulkOperation.objects.filter(id=made.id).update(
            status=status, ended_at=timezone.now() if status == "completed" else None
        )
        return BulkOperation.objects.get(id=made.id)

    def key(self, *, revoked: bool = False) -> AccessKey:
        row = AccessKey.issue(self.org, "api", "walk")[0]
        AccessKey.objects.filter(id=row.id).update(revoked_at=NOW if revoked else None)
        return AccessKey.objects.get(id=row.id)

    def task(self, *, enabled: bool = True) -> PeriodicTask:
        every, _ = IntervalSchedule.objects.get_or_create(every=977, period="days")
        return PeriodicTask.objects.create(
            name=f"walk {uuid.uuid4().hex}", task="headrace.evaluate_alerts", interval=every, enabled=enabled
        )

    def schedule(self, *, enabled: bool = True) -> PeriodicTask:
        """The row of a flow's schedule."""
        slug = f"nightly-{uuid.uuid4().hex[:8]}"
        publish(self.org, NOOP, slug=slug, on={"cron": "*/5 * * * *"})
        trigger = Trigger.objects.get(flow__slug=slug)
        schedules.switch(trigger, enabled=enabled)
        return PeriodicTask.objects.get(args=f'["{trigger.id}"]')


def _override(world: World) -> ThrottleOverride:
    row = ThrottleOverride(scope="limit", org_id=world.org.id, name=f"walk-{uuid.uuid4().hex[:8]}", concurrency=5)
    made = limits.put_limit(row, by="walk")
    ThrottleChange.objects.filter(org_id=world.org.id).update(at=NOW)  # an organization may change only so often
    return made


def _change(world: World) -> ThrottleChange:
    _override(world)
    found = ThrottleChange.objects.first()  # the latest
    assert found is not None
    return found


def _step_run(world: World) -> StepRun:
    return StepRun.objects.filter(run_id=world.run_id)[0]


def _attempt(world: World) -> Attempt:
    step = _step_run(world)
    return Attempt.objects.create(
        id=uuid6.uuid7(), org_id=world.org.id, run_id=step.run_id, step_run_id=step.id, number=1, status="completed",
        ready_at=NOW, started_at=NOW, ended_at=NOW,
    )  # fmt: skip


def _channel(world: World) -> AlertChannel:
    row = AlertChannel(name=f"walk-{uuid.uuid4().hex[:8]}", org_id=world.org.id, enabled=False)
    row.url = "json://127.0.0.1:1/x"
    row.save()
    return row


def _secret(world: World) -> Secret:
    row = Secret(organization=world.org, name=f"W{uuid.uuid4().hex[:8]}")
    row.value = "a long enough value"
    row.save()
    return row


def _alert(world: World) -> Alert:
    return Alert.objects.create(
        org_id=world.org.id, rule=AlertRule.objects.get(name="zombies"), severity="info", title="t", message="m",
        fired_at=NOW, seen_at=NOW, recovered_at=NOW,
    )  # fmt: skip


def _wait(world: World) -> Wait:
    """One that no sweep changes."""
    return Wait.objects.create(
        org_id=world.org.id, run_id=world.run_id, step_run_id=uuid.uuid4(), kind="approval", options={}, since=NOW,
        created_at=NOW, looked_back=True,
    )  # fmt: skip


def _celery_task(world: World) -> CeleryTask:
    """One whose step goes on: that of a step that is gone is revoked, and deleted."""
    step = StepRun.objects.create(
        org_id=world.org.id, run_id=uuid.uuid4(), version_id=uuid.uuid4(), key="walk-watched", type="celery_task",
        queue="headrace.io", status="waiting", waiting_for="sleep", wake_at=timezone.now() + dt.timedelta(days=1),
        timeout_ms=1_000, created_at=NOW,
    )  # fmt: skip
    return CeleryTask.objects.create(
        task_id=f"walk-{uuid.uuid4()}", org_id=world.org.id, step_run_id=step.id, run_id=step.run_id, name="a.b",
        state="sent", created_at=NOW, taken_at=NOW,
    )  # fmt: skip


def _worker(_: World) -> Worker:
    return Worker.objects.create(
        id=uuid.uuid4(), name="walk", queues=["headrace.io"], slots=1, active=0, unclaimed=0, started_at=NOW,
        seen_at=timezone.now(),  # one that is silent for minutes is deleted
    )  # fmt: skip


def _retention_rule(world: World) -> RetentionRule:
    RetentionRule.objects.filter(organization=world.org).delete()
    return RetentionRule.objects.create(organization=world.org, subject="events", days=3_650, changed_by="walk")


ROWS: dict[type[Model], Callable[[World], Any]] = {
    User: lambda _: User.objects.create_user(f"walk-{uuid.uuid4().hex[:8]}"),
    Group: lambda _: Group.objects.create(name=f"walk-{uuid.uuid4().hex[:8]}"),
    TaskResult: lambda _: TaskResult.objects.create(task_id=uuid.uuid4().hex, status="SUCCESS"),
    GroupResult: lambda _: GroupResult.objects.create(group_id=uuid.uuid4().hex, date_created=NOW, date_done=NOW),
    PeriodicTask: lambda world: world.task(),
    CrontabSchedule: lambda _: CrontabSchedule.objects.create(minute="59", hour="23", day_of_month="31"),
    IntervalSchedule: lambda _: IntervalSchedule.objects.create(every=976, period="days"),
    SolarSchedule: lambda _: SolarSchedule.objects.get_or_create(event="sunset", latitude=1, longitude=2)[0],
    ClockedSchedule: lambda _: ClockedSchedule.objects.create(clocked_time=NOW),
    Organization: lambda world: world.org,
    AccessKey: lambda world: world.key(),
    AuditEntry: lambda world: audit.record(world.org.id, audit.of_command(), "walk.entry"),
    Secret: _secret,
    Flow: lambda world: world.flow,
    FlowVersion: lambda world: world.flow.versions.get(),
    Step: lambda world: Step.objects.get(version__flow=world.flow),
    Trigger: lambda world: world.flow.triggers.filter(kind="cron").get(),
    CronFire: lambda world: CronFire.objects.create(
        org_id=world.org.id, flow=world.flow, schedule=f"walk {uuid.uuid4()}", fire_at=NOW, outcome="missed"
    ),
    EventSchema: lambda world: EventSchema.objects.create(
        organization=world.org, name=f"walk/{uuid.uuid4().hex[:8]}", schema={"type": "object"}
    ),
    Run: lambda world: Run.objects.get(id=world.run_id),
    StepRun: _step_run,
    Attempt: _attempt,
    Event: lambda world: Event.objects.create(org_id=world.org.id, name="walk/y", data={}, ts=NOW, matched_at=NOW),
    Worker: _worker,
    ObservedTask: lambda world: ObservedTask.objects.create(
        id=f"walk-{uuid.uuid4()}", org_id=world.org.id, name="a.b", state="sent", seen_at=timezone.now()
    ),
    CeleryTask: _celery_task,
    LeaderLease: lambda _: LeaderLease.objects.create(name=f"walk-{uuid.uuid4().hex[:8]}", holder=uuid.uuid4(), expires_at=NOW),
    Wait: _wait,
    FanOut: lambda world: FanOut.objects.create(
        org_id=world.org.id, run_id=world.run_id, step_run_id=uuid.uuid4(), kind="map", total=1, open=0, ended=1,
        failed=0, parallelism=1, body_sinks=1, changed_at=NOW,
    ),
    TriggerOutcome: lambda world: TriggerOutcome.objects.create(
        id=uuid6.uuid7(), org_id=world.org.id, flow_id=world.flow.id, code="paused", reason="r", created_at=NOW
    ),
    ThrottleOverride: _override,
    ThrottleChange: _change,
    BulkOperation: lambda world: world.operation("stopped"),
    DeadLetter: lambda world: world.letter(),
    DeadLetterGroup: lambda world: world.letter().group,
    AlertRule: lambda world: AlertRule.objects.create(
        name=f"walk-{uuid.uuid4().hex[:8]}", metric="zombies", threshold=1_000_000, org_id=world.org.id
    ),
    AlertChannel: _channel,
    Alert: _alert,
    RetentionRule: _retention_rule,
    RetentionState: lambda _: RetentionState.objects.get(id=1),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(live_db: None) -> Iterator[World]:
    made = World()
    yield made
    leave_nothing(made.org)
    ThrottleOverride.objects.filter(name__startswith="walk-").delete()
    PeriodicTask.objects.filter(name__startswith="walk ").delete()
    LeaderLease.objects.filter(name__startswith="walk-").delete()
    Worker.objects.filter(name="walk").delete()
    StepRun.objects.filter(org_id=made.org.id, key="walk-watched").delete()
    for model in (ObservedTask, CeleryTask, Wait, FanOut, Alert, AlertChannel, AlertRule):
        model._default_manager.filter(org_id=made.org.id).delete()


def address_of(model: type[Model]) -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/"


def permissions_of(model: type[Model], *verbs: str) -> list[str]:
    return [f"{model._meta.app_label}.{verb}_{model._meta.model_name}" for verb in verbs]


def login(kind: str, model: type[Model], world: World) -> Client:
    """A viewer of the organization. `all`: everything with this model, and nothing with any other."""
    verbs = {"view": ("view",), "change": ("view", "change"), "all": ("view", "add", "change", "delete")}
    return staff(permissions_of(model, *verbs.get(kind, ())), superuser=kind == "superuser", of=world.org)


MODELS = sorted(REGISTRY, key=lambda model: model._meta.label)
LABELS = [model._meta.label for model in MODELS]
KINDS = ["superuser", "view", "change", "all"]
