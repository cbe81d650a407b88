"""Alert rules, the channels that alerts go to, and the alerts themselves."""

from __future__ import annotations

from typing import ClassVar

import uuid6
from django.db import models
from django.db.models import Q

from workflows.models.encryption import decrypt, encrypt
from workflows.models.payload_fields import PayloadTextField


class Severity(models.TextChoices):
    INFO = "info", "info"
    WARNING = "warning", "warning"
    CRITICAL = "critical", "critical"


RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


class Metric(models.TextChoices):
    """What a rule looks at, by organization."""

    DEAD_LETTERS = "dead_letters", "dead letters within the window"
    QUEUE_DEPTH = "queue_depth", "steps that are ready and have not started"
    WAITING_RUNS = "waiting_runs", "runs that have not started"
    FAILURE_RATE = "failure_rate", "share of the runs ended within the window that failed"
    RETRY_RATE = "retry_rate", "share of the steps tried within the window that were tried again"
    THROTTLING_OVERHEAD = "throttling_overhead", "longest wait of a step for its start within the window, in seconds"
    RETRIES = "retries", "most retries of one step within the window"
    PROCESSING_TIME = "processing_time", "average duration of the runs ended within the window, in seconds"
    ZOMBIES = "zombies", "running steps whose worker is lost and that nobody has taken over"
    THROUGHPUT = "throughput", "runs ended per minute within the window"
    PRIORITY_TARGET = "priority_target", "longest wait for a start, as a share of what its priority level allows"
    OBSERVED_FAILURES = "observed_failures", "observed Celery tasks that failed or were lost within the window"
    UNCONFIGURED = "auth_or_configuration", "failures for good by credentials or configuration within the window"


class AlertRule(models.Model):
    """A threshold on a metric, looked at every minute for each organization."""

    class Comparison(models.TextChoices):
        ABOVE = ">", "above"
        AT_LEAST = ">=", "at least"
        BELOW = "<", "below"

    name = models.SlugField(max_length=100, unique=True)
    metric = models.CharField(max_length=30, choices=Metric.choices)
    comparison = models.CharField(max_length=2, choices=Comparison.choices, default=Comparison.ABOVE)
    threshold = models.FloatField()
    window_s = models.PositiveIntegerField(default=300, help_text="Seconds to look back.")
    min_runs = models.PositiveIntegerField(default=0, help_text="Rates count only with so many runs (or steps).")
    severity = models.CharField(max_length=10, choices=Severity.choices, default=Severity.WARNING)
    org_id = models.UUIDField("organization", null=True, blank=True, help_text="Empty: each organization by itself.")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(comparison__in=[">", ">=", "<"]), name="alert_rule_comparison"),
            models.CheckConstraint(condition=Q(window_s__gte=60, window_s__lte=86_400), name="alert_rule_window"),
        ]

    def __str__(self) -> str:
        return self.name


class AlertChannel(models.Model):
    """Where alerts go: an address in the form of apprise (Slack, mail, webhooks and a hundred more)."""

    name = models.CharField(max_length=100, unique=True)
    ciphertext = models.BinaryField(editable=False)
    min_severity = models.CharField(max_length=10, choices=Severity.choices, default=Severity.INFO)
    org_id = models.UUIDField("organization", null=True, blank=True, help_text="Empty: alerts of all organizations.")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def url(self) -> str:
        """The address, in clear: it often holds a token."""
        return decrypt(bytes(self.ciphertext), f"the alert channel {self.name}")

    @url.setter
    def url(self, clear_text: str) -> None:
        self.ciphertext = encrypt(clear_text)


class Alert(models.Model):
    """A rule that holds, from its firing to its recovery; or (without a rule) a failure of a flow that wants it."""

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    org_id = models.UUIDField()
    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, null=True, blank=True, related_name="alerts")
    severity = models.CharField(max_length=10, choices=Severity.choices)
    title = models.CharField(max_length=300)
    message = PayloadTextField()
    value = models.FloatField(null=True, blank=True)
    execution = models.UUIDField(null=True, blank=True, help_text="A run that shows it.")
    step = models.CharField(max_length=100, blank=True)
    fired_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="When it held last.")
    recovered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["rule", "org_id"], condition=Q(recovered_at=None) & ~Q(rule=None), name="alert_fires_once"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["org_id", "-id"], name="alert_by_org")]

    def __str__(self) -> str:
        return self.title


class AlertNotification(models.Model):
    """A message about an alert to one channel; it is tried until it has been delivered, for about an hour."""

    class Status(models.TextChoices):
        PENDING = "pending", "pending"
        SENT = "sent", "sent"
        GIVEN_UP = "given_up", "given up"

    class Kind(models.TextChoices):
        FIRED = "fired", "fired"
        RECOVERED = "recovered", "recovered"

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="notifications")
    channel = models.CharField(max_length=100, help_text="The name of the channel, or `environment` or `sentry`.")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    tries = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField()
    error = models.TextField(blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["alert", "channel", "kind"], name="alert_notification_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["due_at"], name="alert_notification_due", condition=Q(status="pending")),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.channel}"
