"""What a flow is: versions, steps, triggers."""

from __future__ import annotations

from typing import ClassVar

import uuid6
from django.contrib.postgres.fields import ArrayField
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q

from workflows.models.organization import Organization


class Flow(models.Model):
    """A workflow of an organization, addressed by its slug."""

    class Kind(models.TextChoices):
        DECLARATIVE = "declarative", "declarative"
        CODE = "code", "Python"

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="flows")
    slug = models.SlugField(max_length=100)
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    kind = models.CharField(max_length=20, choices=Kind.choices, default=Kind.DECLARATIVE)
    skips_arrivals = models.BooleanField(db_default=False, help_text="While it is paused, what arrives starts nothing.")
    current = models.ForeignKey(
        "FlowVersion",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="The published version that new runs take.",
    )
    archived_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Since then it starts nothing. Its slug stays its own: publishing brings it back.",
    )
    deletion_asked_at = models.DateTimeField(
        null=True, blank=True, help_text="Since then it is being deleted with all its history, in batches."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar = ["slug"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "slug"], name="flow_slug"),
            models.CheckConstraint(
                condition=Q(deletion_asked_at=None) | ~Q(archived_at=None), name="flow_deleted_is_archived"
            ),
        ]
        permissions: ClassVar = [("stop_flow", "Can pause, drain and resume flows")]
        indexes: ClassVar = [
            models.Index(fields=["deletion_asked_at"], name="flow_to_delete", condition=~Q(deletion_asked_at=None)),
        ]

    def __str__(self) -> str:
        return self.slug


class FlowVersion(models.Model):
    """One immutable state of a flow; a run stays on the version it started with."""

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    flow = models.ForeignKey(Flow, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    definition = models.JSONField(encoder=DjangoJSONEncoder)
    checksum = models.CharField(max_length=64, help_text="Of the definition as canonical JSON.")
    source = models.TextField(
        blank=True, db_default="", help_text="The YAML that it was published from, with its comments; empty for JSON."
    )
    published_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["flow", "-number"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["flow", "number"], name="flow_version_number")]

    def __str__(self) -> str:
        return f"{self.flow.slug} v{self.number}"


class Step(models.Model):
    """A step of a version. Its runs are created from these rows by one statement."""

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    version = models.ForeignKey(FlowVersion, on_delete=models.CASCADE, related_name="steps")
    key = models.CharField(max_length=100)
    type = models.CharField(max_length=50)
    position = models.PositiveIntegerField()
    config = models.JSONField(default=dict)
    needs = ArrayField(models.CharField(max_length=100), default=list)
    condition = models.TextField(blank=True)
    critical = models.BooleanField(default=True)
    is_sink = models.BooleanField()
    container = models.CharField(
        max_length=100, db_default="", blank=True, help_text="The map, batch, loop or group that it stands in."
    )
    is_compensation = models.BooleanField(
        db_column="is_hook", default=False, help_text="Undoes another step; runs only where that is asked for."
    )
    queue = models.CharField(max_length=50)
    timeout_ms = models.PositiveIntegerField()

    class Meta:
        ordering: ClassVar = ["version", "position"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["version", "key"], name="step_key"),
            models.UniqueConstraint(fields=["version", "position"], name="step_position"),
            models.CheckConstraint(condition=Q(timeout_ms__gt=0), name="step_timeout"),
        ]

    def __str__(self) -> str:
        return self.key


class DiscoveredStep(models.Model):
    """A step that a flow in Python has asked for: what its runs are admitted, timed and retried by.

    One row for each name of a version: the first call of that name decides.
    """

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    version = models.ForeignKey(FlowVersion, on_delete=models.CASCADE, related_name="discovered_steps")
    name = models.CharField(max_length=90)
    options = models.JSONField(help_text="{type, timeout, retry, throttling}, as in a definition.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["version", "name"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["version", "name"], name="discovered_step_name")]

    def __str__(self) -> str:
        return self.name


class CancelRule(models.Model):
    """An event that cancels live runs of a flow (`cancel_on`)."""

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="cancel_rules")
    flow = models.ForeignKey(Flow, on_delete=models.CASCADE, related_name="cancel_rules")
    event_name = models.CharField(max_length=200)
    match = models.CharField(max_length=200, blank=True, help_text="A path that must be equal in both events.")
    condition = models.TextField(blank=True)
    timeout_ms = models.PositiveBigIntegerField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["flow", "id"]
        indexes: ClassVar = [models.Index(fields=["organization", "event_name"], name="cancel_rule_by_event")]

    def __str__(self) -> str:
        return self.event_name


class _PresentTriggers(models.Manager["Trigger"]):
    """Without the triggers that were removed from their definitions."""

    def get_queryset(self) -> models.QuerySet[Trigger]:
        return super().get_queryset().filter(removed_at=None)


class Trigger(models.Model):
    """What starts a flow by itself. A flow can always be run by hand or by API.

    A row is one trigger over all versions of its flow: publishing changes rows in place
    (`services/flows/trigger_rows.py`). A trigger that is removed keeps its row, and so its address and whether it is
    on, for 30 days.
    """

    class Kind(models.TextChoices):
        EVENT = "event", "event"
        CRON = "cron", "cron"
        WEBHOOK = "webhook", "webhook"
        MANUAL = "manual", "manual"

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="triggers")
    flow = models.ForeignKey(Flow, on_delete=models.CASCADE, related_name="triggers")
    key = models.CharField(
        "id within the flow", max_length=100, help_text="The `id` of its definition; where that has none, a made one."
    )
    named = models.BooleanField(db_default=False, help_text="Its definition says its id.")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    event_name = models.CharField(max_length=200, blank=True)
    condition = models.TextField(blank=True)
    config = models.JSONField(default=dict)
    token = models.CharField(
        max_length=64, blank=True, db_default="", help_text="Of a webhook: its address is /hooks/<token>."
    )
    fires_from = models.DateTimeField(
        null=True, blank=True, help_text="Of a cron: its last fire time that was looked at."
    )
    next_fire_at = models.DateTimeField(null=True, blank=True)
    position = models.PositiveIntegerField(
        null=True, blank=True, help_text="In the definition; of a removed one empty."
    )
    enabled = models.BooleanField(default=True)
    removed_at = models.DateTimeField(null=True, blank=True, help_text="When its definition went without it.")

    objects = _PresentTriggers()
    including_removed: ClassVar[models.Manager[Trigger]] = models.Manager()

    class Meta:
        ordering: ClassVar = ["flow", "position"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=["event", "cron", "webhook", "manual"]), name="trigger_kind"),
            models.CheckConstraint(condition=~Q(kind="event") | ~Q(event_name=""), name="trigger_event_name"),
            models.UniqueConstraint(
                fields=["flow", "position"], name="trigger_position", deferrable=models.Deferrable.DEFERRED
            ),
            models.UniqueConstraint(fields=["flow", "key"], name="trigger_key", deferrable=models.Deferrable.DEFERRED),
            models.CheckConstraint(condition=~Q(key=""), name="trigger_key_given"),
            models.CheckConstraint(
                condition=Q(removed_at=None, position__isnull=False) | Q(removed_at__isnull=False, position=None),
                name="trigger_removed",
            ),
            models.UniqueConstraint(fields=["token"], name="trigger_token", condition=~Q(token="")),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "event_name"], name="trigger_by_event", condition=Q(kind="event")),
            models.Index(fields=["next_fire_at"], name="trigger_next_fire", condition=Q(kind="cron", enabled=True)),
        ]

    def __str__(self) -> str:
        if self.kind == self.Kind.WEBHOOK:
            return f"webhook {self.event_name} at /hooks/{self.token}"
        return f"{self.kind} {self.event_name or self.config.get('schedule', '')}".strip()


class CronFire(models.Model):
    """A fire time of a flow's schedule, and what came of it. There is one row for each, whoever looks."""

    class Outcome(models.TextChoices):
        STARTED = "started", "started"
        QUEUED = "queued", "waits for the run before it"
        SKIPPED = "skipped", "skipped: a run was live"
        MISSED = "missed", "missed, and not caught up"
        REFUSED = "refused", "refused by the flow"

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    org_id = models.UUIDField()
    flow = models.ForeignKey(Flow, on_delete=models.CASCADE, related_name="cron_fires")
    schedule = models.CharField(max_length=200, help_text="The schedule and its time zone.")
    fire_at = models.DateTimeField()
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    run_id = models.UUIDField(null=True, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    config = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["-fire_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["flow", "schedule", "fire_at"], name="cron_fire_once"),
            models.CheckConstraint(
                condition=Q(outcome__in=["started", "queued", "skipped", "missed", "refused"]), name="cron_fire_outcome"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["flow", "fire_at"], name="cron_fire_queued", condition=Q(outcome="queued")),
        ]

    def __str__(self) -> str:
        return f"{self.schedule} {self.fire_at}"
