"""What became of events and requests that did not start a run of their own, and the starts that rate limits count."""

from __future__ import annotations

from typing import ClassVar

import uuid6
from django.db import models
from django.db.models import Q

CODES = ("rate_limited", "singleton", "debounced", "batched", "duplicate", "paused", "invalid")


class TriggerOutcome(models.Model):
    """Why an event (or a request) has no run of its own of a flow. Nothing is dropped without such a row."""

    class Code(models.TextChoices):
        RATE_LIMITED = "rate_limited", "dropped by the flow's rate_limit"
        SINGLETON = "singleton", "another run was live"
        DEBOUNCED = "debounced", "followed by another within the debounce"
        BATCHED = "batched", "part of a batch"
        DUPLICATE = "duplicate", "an idempotency key stands for an earlier run"
        PAUSED = "paused", "the flow was paused, and skips what arrives"
        INVALID = "invalid", "does not fit what the flow asks for"

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    org_id = models.UUIDField()
    flow_id = models.UUIDField()
    event_id = models.UUIDField(null=True, blank=True)
    code = models.CharField(max_length=20, choices=Code.choices)
    reason = models.CharField(max_length=500, blank=True)
    run_id = models.UUIDField(null=True, blank=True, help_text="The run that stands in its place, or that it joined.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [models.CheckConstraint(condition=Q(code__in=CODES), name="trigger_outcome_code")]
        indexes: ClassVar = [
            models.Index(fields=["event_id"], name="trigger_outcome_by_event", condition=~Q(event_id=None)),
            models.Index(fields=["org_id", "-id"], name="trigger_outcome_by_org"),
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.event_id or ''}".strip()


class RunStart(models.Model):
    """A run that a flow's `rate_limit` counts, until its period is over."""

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    flow_id = models.UUIDField()
    key = models.CharField(max_length=64)
    run_id = models.UUIDField()
    at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["flow_id", "key", "at"], name="run_start_by_key")]

    def __str__(self) -> str:
        return str(self.run_id)
