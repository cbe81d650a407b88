"""Bulk operations: what a person asked for over a filter, done by the leader at a pace."""

from __future__ import annotations

from typing import ClassVar

import uuid6
from django.db import models
from django.db.models import Q

from workflows.models.payload_fields import PayloadField


class BulkOperation(models.Model):
    """One action over everything that a filter matched when it was asked for. `services/bulk.py` writes it."""

    class Status(models.TextChoices):
        RUNNING = "running", "running"
        STOPPED = "stopped", "stopped"
        COMPLETED = "completed", "completed"

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    org_id = models.UUIDField()
    action = models.CharField(max_length=50)
    filter = PayloadField(default=dict)
    options = PayloadField(default=dict)
    per_second = models.FloatField(help_text="At most so many a second.")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.RUNNING)
    matched = models.PositiveIntegerField(help_text="How many the filter matched.")
    matched_at_least = models.BooleanField(
        default=False, db_default=False, help_text="It matched at least so many: no more were counted."
    )
    done = models.PositiveIntegerField(default=0)
    passed_over = models.PositiveIntegerField(default=0, help_text="What had changed meanwhile, or was refused.")
    repaired_before = models.PositiveIntegerField(
        default=0, db_default=0, help_text="What somebody else had repaired or dealt with: nothing was left to do."
    )
    problems = PayloadField(default=list, help_text="The first 100 refusals: {id, reason}.")
    cursor = models.UUIDField(null=True, blank=True, help_text="The last item that was looked at.")
    upto = models.UUIDField(help_text="What was made later does not belong to it.")
    paced_from = models.DateTimeField(null=True, blank=True, help_text="Since when the pace counts …")
    paced_count = models.PositiveIntegerField(default=0, help_text="… and how many items were looked at since then.")
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["running", "stopped", "completed"]), name="operation_status"
            ),
            models.CheckConstraint(condition=Q(per_second__gt=0), name="operation_pace"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["id"], name="operation_running", condition=Q(status="running")),
            models.Index(fields=["org_id", "-id"], name="operation_by_org"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.id}"

    @property
    def counted(self) -> str:
        """How many it matched, in words."""
        return f"at least {self.matched:,}" if self.matched_at_least else f"{self.matched:,}"

    @property
    def looked_at(self) -> int:
        """How many it has come to so far."""
        return self.done + self.passed_over + self.repaired_before


class OperationChange(models.Model):
    """The audit trail of a bulk operation: who started, stopped or resumed it, and when."""

    operation = models.ForeignKey(BulkOperation, on_delete=models.CASCADE, related_name="changes")
    what = models.CharField(max_length=20)
    by = models.CharField(max_length=200)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"{self.what} by {self.by}"
