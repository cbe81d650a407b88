"""Cron triggers: each fire time fires once, by the trigger's policies.

A fire time is a row, unique for flow, schedule, zone and time, inserted in the transaction that makes its run. So it
does not matter how often, and by how many, a trigger is looked at: celery-beat has a row for each (visible in its
admin), and the leader looks every second, which also covers a beat that is down and the times that beat does not see.
"""

from __future__ import annotations

import datetime as dt
import importlib
import json
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from workflows.definitions import cron
from workflows.edge.unavailable import may_pass
from workflows.engine.maintenance import sweeps
from workflows.engine.pipeline import dispatcher
from workflows.engine.pipeline.trigger import NewRun, trigger
from workflows.engine.run_controls import stopping
from workflows.engine.state import flow_cache
from workflows.engine.state.transitions import runs as run_transitions
from workflows.errors import FlowPaused, WorkflowsError
from workflows.models import CronFire, Flow, Organization, Run, Trigger
from workflows.models.event import SYSTEM
from workflows.this_process.celery_app import has_beat_rows

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

log = structlog.get_logger(__name__)
BATCH = 100
TASK = "headrace.cron_tick"
PREFIX = "headrace flow "
FIRES = "cron triggers"
QUEUED = "queued cron fires"
Outcome = CronFire.Outcome


def tick(now: dt.datetime | None = None) -> bool:
    """Fire what is due, and start what waited for its turn. True where there is more."""
    moment = now or timezone.now()
    due = Trigger.objects.filter(kind=Trigger.Kind.CRON, enabled=True, next_fire_at__lte=moment, flow__archived_at=None)
    rows = sweeps.fair_page(FIRES, due, by="next_fire_at", limit=BATCH, org="organization_id")
    sweeps.isolated(
        sweeps.Items(name=FIRES, work=lambda some: fire(some[0].id, moment), key=sweeps.row_id, org=sweeps.row_org),
        rows,
    )
    sweeps.guarded(QUEUED, _start_queued)
    return len(rows) == BATCH


def fire(trigger_id: UUID, now: dt.datetime | None = None) -> int:
    """Fire what is due of one trigger. Returns how many fire times were new. Idempotent."""
    moment = now or timezone.now()
    with transaction.atomic():
        found = (
            Trigger.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("flow", "organization")
            .filter(id=trigger_id, kind=Trigger.Kind.CRON, enabled=True)
            .first()
        )
        if found is None or found.flow.current_id is None or found.flow.archived_at is not None:
            return 0
        schedule, zone = found.config["schedule"], found.config["timezone"]
        times = cron.due(schedule, zone, found.fires_from or moment, moment)
        planned = cron.plan(times, moment, found.config["catch_up"])
        new = sum(_fire_once(found, at) for at in planned.fire)
        CronFire.objects.bulk_create([_row(found, at, Outcome.MISSED) for at in planned.missed], ignore_conflicts=True)
        if times:
            found.fires_from = times[-1]
        set_next(found, moment)
        found.save(update_fields=["fires_from", "next_fire_at"])
    return new


def set_next(found: Trigger, now: dt.datetime) -> None:
    """When it is to be looked at next; nothing where it never fires again."""
    found.fires_from = found.fires_from or now
    ahead = cron.upcoming(found.config["schedule"], found.config["timezone"], found.fires_from, 1)
    found.next_fire_at = ahead[0] if ahead else None


def _row(found: Trigger, at: dt.datetime, outcome: str) -> CronFire:
    return CronFire(
        org_id=found.organization_id,
        flow_id=found.flow_id,
        schedule=f"{found.config['schedule']} {found.config['timezone']}",
        fire_at=at,
        outcome=outcome,
    )


def _fire_once(found: Trigger, at: dt.datetime) -> bool:
    row = _row(found, at, Outcome.QUEUED)
    row.config = {**{n: found.config.get(n) for n in ("jitter_ms", "delay_ms")}, "schedule": found.config["schedule"]}
    CronFire.objects.bulk_create([row], ignore_conflicts=True)
    if not CronFire.objects.filter(id=row.id).exists():
        return False  # somebody else was first
    overlap = found.config["overlap"]
    live = list(
        Run.objects.filter(flow_id=found.flow_id, trigger="cron", ended_at=None).values_list("id", flat=True)
        if overlap != "allow"
        else ()
    )
    if live and overlap == "skip":
        row.outcome = Outcome.SKIPPED
    elif live and overlap == "queue":
        return True  # it stays queued
    else:
        if live and overlap == "cancel_running":
            cancelled = run_transitions.request_cancel(
                found.organization_id, live, reason=f"the tick of {at.isoformat()}"
            )
            dispatcher.after_commit(lambda: stopping.stop_runs(cancelled))
        _start(row, found.flow)
    row.save(update_fields=["outcome", "run_id", "reason"])
    return True


def _start(row: CronFire, flow: Flow) -> None:
    assert flow.current_id is not None
    later_ms = random.uniform(0, row.config.get("jitter_ms") or 0) + (row.config.get("delay_ms") or 0)
    run_at = timezone.now() + dt.timedelta(milliseconds=later_ms) if later_ms else None
    value = {"cron": row.config["schedule"], "scheduledFor": row.fire_at.isoformat()}
    try:
        if flow.skips_arrivals or flow.organization.skips_arrivals:
            raise FlowPaused
        triggered = trigger(  # all or nothing
            flow_cache.flow_of(flow.current_id),
            [NewRun(input=value)],
            org_id=row.org_id,
            kind="cron",
            event_name=f"{SYSTEM}cron",
            run_at=run_at,
        )
        row.outcome, row.run_id = Outcome.STARTED, triggered.run_ids[0]
        for refusal in triggered.refused.values():
            row.outcome, row.run_id, row.reason = Outcome.REFUSED, refusal.run_id, refusal.reason[:500]
    except BaseException as error:
        if may_pass(error):
            raise  # it may pass: the fire time stays due
        log.warning("a cron trigger does not start its flow", flow=flow.slug, error=str(error))
        reason = str(error) if isinstance(error, WorkflowsError) else sweeps.reason_of(error)
        row.outcome, row.reason = Outcome.REFUSED, reason[:500]


def _start_queued() -> None:
    """`overlap: queue`: the earliest of each flow, once no run of its schedule is live."""
    waiting = (
        CronFire.objects.filter(outcome=Outcome.QUEUED, flow__archived_at=None)
        .order_by("flow_id", "fire_at")
        .distinct("flow_id")
    )
    live = Run.objects.filter(flow_id=OuterRef("flow_id"), trigger="cron", ended_at=None)
    first = CronFire.objects.filter(~Exists(live), id__in=waiting.values("id"))
    sweeps.isolated(
        sweeps.Items(
            name=QUEUED, work=lambda some: _start_one_queued(some[0].id), key=sweeps.row_id, org=sweeps.row_org
        ),
        sweeps.fair_page(QUEUED, first, by="fire_at", limit=BATCH),
    )


def _start_one_queued(row_id: UUID) -> None:
    with transaction.atomic():
        rows = CronFire.objects.select_for_update(skip_locked=True, of=("self",)).select_related("flow")
        row = rows.filter(id=row_id, outcome=Outcome.QUEUED).first()
        if (
            row is None
            or row.flow.archived_at is not None
            or Run.objects.filter(flow_id=row.flow_id, trigger="cron", ended_at=None).exists()
        ):
            return
        _start(row, row.flow)
        row.save(update_fields=["outcome", "run_id", "reason"])


# --- keeping rows in step ------------------------------------------------------------------------------------------


def sync_beat_rows(flow: Flow) -> None:
    """Give each cron trigger of a flow its next fire time, and its row where celery-beat is the clock; called when they
    have changed.

    Those of an archived flow have no row of celery-beat.
    """
    now = timezone.now()
    with_rows = has_beat_rows()
    if with_rows:
        _beat().PeriodicTask.objects.filter(name__startswith=_prefix(flow.id)).delete()
    if flow.archived_at is not None:
        return
    for found in flow.triggers.filter(kind=Trigger.Kind.CRON):
        set_next(found, now)
        found.save(update_fields=["fires_from", "next_fire_at"])
        if with_rows:
            _beat_row(flow, found)


def _beat() -> Any:
    """The models of celery-beat: the lean installation has none."""
    return importlib.import_module("django_celery_beat.models")


def _prefix(flow_id: UUID) -> str:
    return f"{PREFIX}{flow_id} "


def _beat_row(flow: Flow, found: Trigger) -> None:
    minute, hour, day, month, _ = found.config["schedule"].split()
    weekday = cron.weekdays_from_sunday(found.config["schedule"])
    if "*" not in (day, weekday):
        day = weekday = "*"  # cron fires on either, beat only on both: it looks every day, and the fire times decide
    times = {"minute": minute, "hour": hour, "day_of_month": day, "month_of_year": month, "day_of_week": weekday,
             "timezone": found.config["timezone"]}  # fmt: skip
    rows = _beat().CrontabSchedule.objects  # there may be several alike: two were made at once, or one by hand
    schedule = rows.filter(**times).order_by("id").first() or rows.create(**times)
    _beat().PeriodicTask.objects.create(
        name=f"{_prefix(flow.id)}{found.position} ({flow.slug})"[:200],
        task=TASK,
        crontab=schedule,
        args=f'["{found.id}"]',
        queue="headrace.tasks",
        enabled=found.enabled,
        description="Kept in step with the flow's trigger; change it there.",
    )


def resume_from_now(found: Trigger) -> None:
    """A trigger that was switched on or off: what it missed while it was off is not caught up."""
    found.fires_from = timezone.now()
    found.save(update_fields=["fires_from"])
    sync_beat_rows(found.flow)


def switch(found: Trigger, *, enabled: bool) -> None:
    """Switch a trigger on or off. What a schedule missed while it was off is not caught up."""
    found.enabled = enabled
    found.save(update_fields=["enabled"])
    if found.kind == Trigger.Kind.CRON:
        resume_from_now(found)


def beat_rows(organizations: QuerySet[Organization] | None = None) -> QuerySet[PeriodicTask]:
    """The rows of celery-beat that are kept in step with triggers; those of some organizations only."""
    rows: QuerySet[PeriodicTask] = _beat().PeriodicTask.objects.filter(name__startswith=PREFIX, task=TASK)
    if organizations is None:
        return rows
    triggers = Trigger.objects.filter(organization__in=organizations, kind=Trigger.Kind.CRON)
    return rows.filter(args__in=[json.dumps([str(found)]) for found in triggers.values_list("id", flat=True)])


def trigger_of(row: PeriodicTask) -> Trigger | None:
    """The trigger that a row of celery-beat is kept in step with; None for every other row."""
    if row.task != TASK or not row.name.startswith(PREFIX):
        return None
    try:
        return Trigger.objects.filter(id=UUID(json.loads(row.args)[0])).select_related("flow").first()
    except (ValueError, TypeError, LookupError):
        return None


def refresh(organization: Organization) -> int:
    """Write all rows of the organization's cron triggers anew. Returns how many triggers there are."""
    flows: Iterable[Flow] = Flow.objects.filter(
        organization=organization, archived_at=None, triggers__kind=Trigger.Kind.CRON, triggers__removed_at=None
    ).distinct()
    with transaction.atomic():
        for flow in flows:
            sync_beat_rows(flow)
    return _crons(organization).count()


def _crons(organization: Organization) -> QuerySet[Trigger]:
    return Trigger.objects.filter(organization=organization, kind=Trigger.Kind.CRON, flow__archived_at=None)


def next_fires(found: Trigger, count: int = 5) -> list[dt.datetime]:
    """The next fire times of a trigger, for screens."""
    return cron.upcoming(found.config["schedule"], found.config["timezone"], timezone.now(), count)


def schedules(organization: Organization) -> list[dict[str, Any]]:
    """The cron triggers with their policies, next fire times and latest outcomes."""
    found = _crons(organization).select_related("flow")
    return [
        {
            "flow": each.flow.slug,
            "workflow": each.flow.slug,
            "schedule": each.config["schedule"],
            "timezone": each.config["timezone"],
            "overlap": each.config["overlap"],
            "catchUp": each.config["catch_up"],
            "enabled": each.enabled,
            "nextFires": next_fires(each) if each.enabled else [],
            "latest": [
                {"fireAt": row.fire_at, "outcome": row.outcome, "runId": str(row.run_id) if row.run_id else None}
                for row in CronFire.objects.filter(flow_id=each.flow_id).order_by("-fire_at")[:5]
            ],
        }
        for each in found
    ]
