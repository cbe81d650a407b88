"""How long history is kept, how far deleting it is, and what is left of runs that were deleted."""

from __future__ import annotations

from typing import ClassVar

import uuid6
from django.db import models
from django.db.models import Q

from workflows.models.organization import Organization

MIN_DAYS = 1 / 24
MAX_DAYS = 3_650.0


class RetentionRule(models.Model):
    """How long a subject of `engine/retention/subjects.py` is kept: for one organization, or for all without a rule."""

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, null=True, blank=True, related_name="retention_rules",
        help_text="Empty: for all organizations that have no rule of their own.",
    )  # fmt: skip
    subject = models.CharField(max_length=30, help_text="What is kept: completed, failed, cancelled, events, …")
    days = models.FloatField(null=True, blank=True, help_text="From its end; 0.05 … 3650. Empty: for ever.")
    changed_by = models.CharField(max_length=200, editable=False)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar = ["organization", "subject"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "subject"], name="retention_rule_place", nulls_distinct=False
            ),
            models.CheckConstraint(
                condition=Q(days=None) | Q(days__gte=MIN_DAYS, days__lte=MAX_DAYS), name="retention_rule_days"
            ),
        ]

    def __str__(self) -> str:
        kept = "for ever" if self.days is None else f"{self.days:g} days"
        return f"{self.subject}: {kept}"

    @property
    def seen(self) -> str:
        """What a change says of the rule that its author has seen."""
        return self.changed_at.isoformat()


class RetentionState(models.Model):
    """How far deleting is: one row. `engine/retention/progress.py` writes it."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    dry_until = models.DateTimeField(
        null=True, blank=True, help_text="Until then nothing is deleted by itself, only counted: the database had rows."
    )
    announced_at = models.DateTimeField(null=True, blank=True, help_text="When the first deletion was announced.")
    would_delete = models.JSONField(default=dict, db_default={}, help_text="By subject: what the dry run has counted.")
    began_at = models.DateTimeField(null=True, blank=True, help_text="When the last pass began.")
    ended_at = models.DateTimeField(null=True, blank=True, help_text="When it ended; empty while it goes on.")
    next_at = models.DateTimeField(null=True, blank=True, help_text="When the next pass is due.")
    deleted = models.JSONField(default=dict, db_default={}, help_text="By table: rows deleted since the installation.")
    last_pass = models.JSONField(default=dict, db_default={}, help_text="By table: rows deleted in the last pass.")
    held = models.JSONField(default=dict, db_default={}, help_text="By reason: expired runs that the last pass left.")

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=Q(id=1), name="retention_state_one")]

    def __str__(self) -> str:
        return "how far deleting is"


class PrunedRun(models.Model):
    """A run that was deleted, until its steps and attempts are too: nobody sees the run any more."""

    run_id = models.UUIDField(primary_key=True)
    org_id = models.UUIDField()
    pruned_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["pruned_at", "run_id"], name="pruned_run_by_time")]

    def __str__(self) -> str:
        return str(self.run_id)


class PrunedCount(models.Model):
    """How many runs that ended in a minute were deleted: the statistics of the last week count them on."""

    pk = models.CompositePrimaryKey("org_id", "status", "minute")
    org_id = models.UUIDField()
    status = models.CharField(max_length=10)
    minute = models.DateTimeField()
    runs = models.PositiveIntegerField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["minute"], name="pruned_count_by_minute")]

    def __str__(self) -> str:
        return f"{self.status} {self.minute:%Y-%m-%d %H:%M}: {self.runs}"


class ImportedRun(models.Model):
    """A run that was brought back from an export: it is kept until then, however old it is."""

    run_id = models.UUIDField(primary_key=True)
    org_id = models.UUIDField()
    kept_until = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["kept_until"], name="imported_run_by_time")]

    def __str__(self) -> str:
        return str(self.run_id)
