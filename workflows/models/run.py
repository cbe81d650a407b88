"""Executions: runs, their steps and attempts. `workflows/engine/state/transitions/` is the only writer of a status.

No foreign key points into these tables, and every row carries the run's uuid7, by whose time they can be partitioned
(ADR 0003).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

import uuid6
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import ExpressionWrapper, F, Q

from workflows.models.payload_fields import PayloadField
from workflows.sealing import shapes

LIVE_RUN = ["queued", "running"]
LIVE_STEP = ["pending", "ready", "running", "waiting"]
AT_WORK = ["ready", "running"]
"""Of steps: while one has such a status, its run is busy, and shown as *waiting* otherwise."""
DECIDED = frozenset({"completed", "failed", "skipped"})
"""Of steps: the need of a successor is decided by them."""
ENDED_STEP = DECIDED | {"cancelled"}

STARTED_BY = ("api", "cli", "cron", "event", "invoke", "manual", "on_failure", "task", "webhook")
"""What starts runs: the values of `Run.trigger`."""


def first_id(at_s: float) -> UUID:
    """The smallest uuid7 of a moment (epoch seconds): what was made since then has larger ones."""
    return UUID(int=(int(at_s * 1000) & ((1 << 48) - 1)) << 80)


class Run(models.Model):
    """One execution of a flow version."""

    class Status(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        COMPLETED = "completed", "completed"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    org_id = models.UUIDField()
    flow = models.ForeignKey(
        "headrace_workflows.Flow", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False
    )
    version = models.ForeignKey(
        "headrace_workflows.FlowVersion", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False
    )
    event_id = models.UUIDField(null=True, blank=True)
    event_name = models.CharField(max_length=200, blank=True)
    trigger = models.CharField(max_length=20, default="manual")
    user_id = models.CharField(max_length=200, blank=True)
    status = models.CharField(max_length=10, choices=Status.choices)
    priority = models.IntegerField(default=0, help_text="Seconds of head start, −600 … 600.")
    tags = ArrayField(
        models.CharField(max_length=64), default=list, db_default=[], blank=True,
        help_text="Words by which people find it again (`workflows/edge/tags.py`).",
    )  # fmt: skip
    gather_key = models.CharField(
        max_length=64, db_default="", blank=True, help_text="While it gathers events (debounce, batch): for what."
    )
    gathered = models.IntegerField(db_default=0, help_text="How many events it has gathered.")
    newest_at = models.DateTimeField(
        null=True, blank=True, help_text="While it is debounced: when the event was received whose data it has."
    )
    singleton_key = models.CharField(
        max_length=64, db_default="", blank=True, help_text="While it is live, no other run of the flow has it."
    )
    input = PayloadField(shape=shapes.run_input)
    output = PayloadField(null=True, blank=True)
    error = PayloadField(
        shape=shapes.error, null=True, blank=True, help_text="Set as soon as the run is bound to fail."
    )
    sinks_left = models.IntegerField()
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_reason = models.TextField(blank=True)
    timeout_at = models.DateTimeField(
        null=True, blank=True, help_text="When it is cancelled unless it has started (ended)."
    )
    finish_ms = models.PositiveBigIntegerField(null=True, blank=True, help_text="How long it may take from its start.")
    has_compensations = models.BooleanField(
        db_column="has_hooks", db_default=False, help_text="Steps may have to be undone before it ends."
    )
    follow_up = models.BooleanField(
        db_default=False, help_text="Where it fails, its flow's on_failure flow is to start."
    )
    origin_id = models.UUIDField(
        null=True, blank=True, help_text="The run that it repeats, or whose failure it handles."
    )
    origin_kind = models.CharField(max_length=20, db_default="", blank=True)
    repair_root_id = models.UUIDField(null=True, blank=True, help_text="Of a repair: the run that failed first.")
    repair_number = models.IntegerField(
        db_default=0, help_text="Of a repair: its place among those of that run, from 1."
    )
    parent_id = models.UUIDField(null=True, blank=True, help_text="The run that started it.")
    parent_policy = models.CharField(max_length=10, db_default="", blank=True)
    awaited = models.BooleanField(db_default=False, help_text="The run that started it waits for it.")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["queued", "running", "completed", "failed", "cancelled"]), name="run_status"
            ),
            models.CheckConstraint(condition=Q(sinks_left__gte=0), name="run_sinks_left"),
            models.CheckConstraint(condition=Q(priority__gte=-600, priority__lte=600), name="run_priority"),
            models.CheckConstraint(
                condition=Q(status__in=LIVE_RUN, ended_at=None) | (~Q(status__in=LIVE_RUN) & ~Q(ended_at=None)),
                name="run_ended_at",
            ),
            models.CheckConstraint(
                condition=Q(origin_kind__in=["", "replay", "resume", "fork", "on_failure"]), name="run_origin_kind"
            ),
            models.CheckConstraint(
                condition=Q(repair_root_id=None, repair_number=0)
                | Q(repair_number__gte=1, repair_root_id__isnull=False),
                name="run_repair_number",
            ),
            # One repair follows another: two that begin at the same time want the same number (ADR 14).
            models.UniqueConstraint(
                fields=["repair_root_id", "repair_number"],
                name="run_repair_once",
                condition=~Q(repair_root_id=None),
            ),
            models.UniqueConstraint(fields=["flow", "gather_key"], name="run_gathers", condition=~Q(gather_key="")),
            models.UniqueConstraint(
                fields=["flow", "singleton_key"],
                name="run_singleton",
                condition=Q(status__in=LIVE_RUN) & ~Q(singleton_key=""),
            ),
            models.CheckConstraint(condition=Q(parent_policy__in=["", "cancel", "abandon"]), name="run_parent_policy"),
            models.CheckConstraint(condition=Q(tags__len__lte=20), name="run_tags"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["org_id", "-id"], name="run_by_org"),
            models.Index(fields=["flow", "-id"], name="run_by_flow"),
            models.Index(fields=["event_id"], name="run_by_event", condition=~Q(event_id=None)),
            models.Index(
                fields=["org_id", "status", "created_at"], name="run_live_by_age", condition=Q(status__in=LIVE_RUN)
            ),
            models.Index(fields=["org_id", "status", "ended_at"], name="run_ended", condition=~Q(ended_at=None)),
            models.Index(
                fields=["timeout_at"], name="run_timeout", condition=Q(status__in=LIVE_RUN) & ~Q(timeout_at=None)
            ),
            models.Index(
                fields=["id"],
                name="run_unsettled",
                condition=Q(status__in=LIVE_RUN) & (Q(error__isnull=False) | Q(cancel_requested_at__isnull=False)),
            ),
            models.Index(fields=["id"], name="run_follow_up", condition=Q(follow_up=True, status="failed")),
            # Of columns that stay as they are from the start of a run (or from its end): an update of a run writes an
            # entry in each of them, as in all others, and none of them alone makes it do so (ADR 13).
            models.Index(fields=["org_id", "-priority", "-id"], name="run_by_priority"),
            models.Index(
                F("org_id"),
                ExpressionWrapper(F("ended_at") - F("created_at"), output_field=models.DurationField()).desc(),
                F("id").desc(),
                name="run_by_duration",
                condition=~Q(ended_at=None),
            ),
            models.Index(fields=["org_id", "user_id", "-id"], name="run_by_user", condition=~Q(user_id="")),
            models.Index(fields=["org_id", "event_name", "-id"], name="run_by_event_name", condition=~Q(event_name="")),
            models.Index(fields=["org_id", "trigger", "-id"], name="run_by_trigger"),
            models.Index(
                fields=["org_id", "status", "-id"],
                name="run_unsuccessful",
                condition=Q(status__in=["failed", "cancelled"]),
            ),
            models.Index(fields=["origin_id"], name="run_by_origin", condition=~Q(origin_id=None)),
            models.Index(fields=["parent_id"], name="run_by_parent", condition=~Q(parent_id=None)),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def is_live(self) -> bool:
        return self.status in LIVE_RUN

    @property
    def duration(self) -> dt.timedelta | None:
        return self.ended_at - self.created_at if self.ended_at else None


def _output(row: Mapping[str, Any], value: Any) -> Any:
    return shapes.output(value, row["type"])


class StepRun(models.Model):
    """One step of a run."""

    class Status(models.TextChoices):
        PENDING = "pending", "pending"
        READY = "ready", "ready"
        RUNNING = "running", "running"
        WAITING = "waiting", "waiting"
        COMPLETED = "completed", "completed"
        FAILED = "failed", "failed"
        SKIPPED = "skipped", "skipped"
        CANCELLED = "cancelled", "cancelled"

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    org_id = models.UUIDField()
    run = models.ForeignKey(
        Run, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="step_runs"
    )
    version_id = models.UUIDField()
    step_id = models.UUIDField(null=True, blank=True, help_text="Empty for steps that code discovers.")
    key = models.CharField(max_length=100)
    path = models.TextField(default="", blank=True, help_text="Where in nested maps and loops; empty at the top.")
    index = models.IntegerField(null=True, blank=True, help_text="Of its item, within its container.")
    container_id = models.UUIDField(null=True, blank=True, help_text="The step run of the container that it stands in.")
    position = models.IntegerField(default=0)
    type = models.CharField(max_length=50)
    queue = models.CharField(max_length=50)
    priority = models.IntegerField(default=0, help_text="The run's: seconds of head start.")
    status = models.CharField(max_length=10, choices=Status.choices)
    attempt = models.IntegerField(default=1, help_text="The current try, from 1.")
    losses = models.IntegerField(default=0, help_text="How often its worker was lost.")
    solitary_losses = models.IntegerField(
        db_default=0, help_text="How often that was while nothing else ran in the same process: these count against it."
    )
    server_retry_waits = models.IntegerField(
        db_column="told_waits", default=0, help_text="Waits that the other side asked for; they cost no attempt."
    )
    needs_total = models.IntegerField(default=0)
    needs_left = models.IntegerField(default=0)
    needs_met = models.IntegerField(
        default=0, help_text="Needs that were not skipped; far below zero once a branch was not taken."
    )
    is_sink = models.BooleanField(default=True)
    timeout_ms = models.IntegerField()
    lease_token = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    worker_id = models.UUIDField(null=True, blank=True)
    deadline_at = models.DateTimeField(null=True, blank=True)
    wake_at = models.DateTimeField(null=True, blank=True)
    wake_seq = models.IntegerField(default=0, help_text="How often it woke from a sleep.")
    waiting_for = models.CharField(max_length=50, blank=True)
    dispatched_at = models.DateTimeField(null=True, blank=True)
    dispatch_count = models.IntegerField(default=0)
    is_compensation = models.BooleanField(
        db_column="is_hook", db_default=False, help_text="Undoes another step of a run that stops."
    )
    reason = models.CharField(max_length=200, db_default="", blank=True, help_text="Why it was skipped or cancelled.")
    takes_items = models.BooleanField(
        db_default=False, help_text="Of a container of a resumed run: items that were done are taken over."
    )
    progress = PayloadField(
        shape=shapes.progress, null=True, blank=True, help_text="What its handler reported: {percent, message, at}."
    )
    kept_logs = PayloadField(
        shape=shapes.kept_logs,
        null=True,
        blank=True,
        help_text="What its current try has logged before it waited: {try, lines}.",
    )
    memoized_from = models.UUIDField(null=True, blank=True, help_text="The step run whose outcome was taken over.")
    created_at = models.DateTimeField()
    ready_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    output = PayloadField(row_shape=_output, null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["run", "position", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "key", "path"], name="step_run_identity"),
            models.CheckConstraint(
                condition=Q(status__in=[*LIVE_STEP, "completed", "failed", "skipped", "cancelled"]),
                name="step_run_status",
            ),
            models.CheckConstraint(condition=Q(needs_left__gte=0), name="step_run_needs_left"),
            models.CheckConstraint(
                condition=~Q(status="running") | (~Q(lease_token=None) & ~Q(lease_until=None)), name="step_run_lease"
            ),
            models.CheckConstraint(condition=~Q(status="waiting") | ~Q(waiting_for=""), name="step_run_waiting_for"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["container_id", "index"], name="step_run_item", condition=~Q(container_id=None)),
            models.Index(fields=["wake_at"], name="step_run_wake", condition=Q(status="waiting")),
            models.Index(fields=["lease_until"], name="step_run_running", condition=Q(status="running")),
            models.Index(
                fields=["queue", "dispatched_at"], name="step_run_ready", condition=Q(status="ready", waiting_for="")
            ),
            models.Index(fields=["id"], name="step_run_parked", condition=Q(status="ready", waiting_for="limit")),
            models.Index(fields=["id"], name="step_run_unmarked", condition=Q(status="pending", needs_left=0)),
            models.Index(fields=["org_id", "id"], name="step_run_with_logs", condition=~Q(kept_logs=None)),
        ]

    def __str__(self) -> str:
        return self.key


class Attempt(models.Model):
    """One try of a step: its timings and, where it failed, its error. Rows are only ever added."""

    class Status(models.TextChoices):
        COMPLETED = "completed", "completed"
        FAILED = "failed", "failed"
        LOST = "lost", "lost"
        CANCELLED = "cancelled", "cancelled"

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    org_id = models.UUIDField()
    run = models.ForeignKey(
        Run, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="attempts"
    )
    step_run = models.ForeignKey(
        StepRun, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="attempts"
    )
    number = models.IntegerField()
    status = models.CharField(max_length=10, choices=Status.choices)
    worker_id = models.UUIDField(null=True, blank=True)
    ready_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField()
    input = PayloadField(null=True, blank=True)
    error = PayloadField(shape=shapes.error, null=True, blank=True)
    logs = PayloadField(
        shape=shapes.logs, null=True, blank=True, help_text="The lines that the handler logged: {at, level, message}."
    )

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["completed", "failed", "lost", "cancelled"]), name="attempt_status"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["run", "step_run"], name="attempt_by_run"),
            models.Index(fields=["org_id", "id"], name="attempt_with_logs", condition=~Q(logs=None)),
        ]

    def __str__(self) -> str:
        return f"{self.number}"


class IdempotencyKey(models.Model):
    """The run that a key stands for, until it expires."""

    pk = models.CompositePrimaryKey("org_id", "flow_id", "key")
    org_id = models.UUIDField()
    flow_id = models.UUIDField()
    key = models.CharField(max_length=200)
    run_id = models.UUIDField()
    expires_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="idempotency_expires")]

    def __str__(self) -> str:
        return self.key
