"""Dead letters, and the groups in which they are looked at. `dlq/services.py` writes their status."""

from __future__ import annotations

from typing import ClassVar

import uuid6
from django.db import models
from django.db.models import Func, Q
from django.db.models.functions import Now

from workflows.models.payload_fields import PayloadField, PayloadTextField
from workflows.sealing import shapes


class Uuid7(Func):
    """The database's own uuid7: letters are listed by their ids, and so in the order of their failures."""

    function = "headrace_uuid7"
    output_field = models.UUIDField()


class DeadLetterGroup(models.Model):
    """The dead letters of one cause: of an organization, with the same fingerprint."""

    id = models.UUIDField(primary_key=True, editable=False)
    org_id = models.UUIDField()
    fingerprint = models.CharField(max_length=64)
    step_type = models.CharField(max_length=50)
    category = models.CharField(max_length=20)
    error_name = models.CharField(max_length=200)
    message = PayloadTextField(help_text="Normalised: what differs from failure to failure is left out.")
    location = models.CharField(max_length=300, blank=True, help_text="Where in the code: file and function.")
    first_seen = models.DateTimeField()
    assigned_to = models.CharField(max_length=200, blank=True, db_default="")
    snoozed_until = models.DateTimeField(
        null=True, blank=True, help_text="Until then it is not listed and not alerted."
    )
    auto_replay_s = models.PositiveIntegerField(
        null=True, blank=True, help_text="Replay each after so many seconds; 0: never; empty: by its category."
    )

    class Meta:
        ordering: ClassVar = ["-first_seen"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["org_id", "fingerprint"], name="dead_letter_group_fingerprint")
        ]

    def __str__(self) -> str:
        return f"{self.step_type} {self.category}: {self.message[:80]}"


class DeadLetter(models.Model):
    """A failure for good: what was to be done, why it was not, and what became of it."""

    class Status(models.TextChoices):
        FAILED = "failed", "failed"
        REPROCESSED = "reprocessed", "reprocessed"
        IGNORED = "ignored", "ignored"
        HANDLED = "handled", "handled by the flow's code"

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, db_default=Uuid7(), editable=False)
    org_id = models.UUIDField()
    group = models.ForeignKey(
        DeadLetterGroup, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="letters"
    )
    run_id = models.UUIDField(help_text="The run that failed last.")
    first_run_id = models.UUIDField(help_text="The run that failed first: this one, or the one that it repairs.")
    place = models.TextField(help_text="The step that failed, and where in nested maps and loops.")
    step_run_id = models.UUIDField(null=True, blank=True, help_text="Empty where the run failed by itself.")
    flow = models.ForeignKey(
        "headrace_workflows.Flow", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False
    )
    step_key = models.CharField(max_length=100, blank=True)
    step_type = models.CharField(max_length=50)
    category = models.CharField(max_length=20)
    event_name = models.CharField(max_length=200)
    event_id = models.UUIDField(null=True, blank=True)
    event_data = PayloadField(shape=shapes.run_input)
    error_name = models.CharField(max_length=200)
    error_message = PayloadTextField(blank=True)
    error_stack = PayloadTextField(blank=True)
    attempts = models.IntegerField(default=1, db_default=1)
    status = models.CharField(max_length=12, choices=Status.choices, db_default="failed")
    reason = models.TextField(blank=True, db_default="", help_text="Why it is ignored.")
    replay_run_id = models.UUIDField(null=True, blank=True, help_text="The run that repeats its run.")
    repairing = models.BooleanField(db_default=False, help_text="The run that repeats its run has not ended yet.")
    auto_replays = models.IntegerField(db_default=0, help_text="How often it was replayed by itself before.")
    auto_replay_at = models.DateTimeField(null=True, blank=True)
    alert_due = models.BooleanField(db_default=False, help_text="Its flow wants to be alerted of every failure.")
    failed_at = models.DateTimeField(db_default=Now())
    reprocessed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["failed", "reprocessed", "ignored", "handled"]), name="dead_letter_status"
            ),
            # A failure of a repair continues the letter of the step, instead of adding one (ADR 14).
            models.UniqueConstraint(fields=["first_run_id", "place"], name="dead_letter_once"),
            models.UniqueConstraint(fields=["step_run_id"], condition=~Q(step_run_id=None), name="dead_letter_of_step"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["org_id", "status", "-id"], name="dead_letter_by_status"),
            models.Index(fields=["group", "status", "-id"], name="dead_letter_by_group"),
            models.Index(fields=["org_id", "event_name", "-id"], name="dead_letter_by_event"),
            models.Index(fields=["org_id", "failed_at"], name="dead_letter_by_time"),
            models.Index(fields=["run_id"], name="dead_letter_by_run"),
            models.Index(fields=["replay_run_id"], name="dead_letter_by_replay", condition=~Q(replay_run_id=None)),
            models.Index(
                fields=["auto_replay_at"], name="dead_letter_auto_replay",
                condition=Q(status="failed") & ~Q(auto_replay_at=None),
            ),
            models.Index(fields=["id"], name="dead_letter_repairing", condition=Q(repairing=True)),
            models.Index(fields=["id"], name="dead_letter_alert_due", condition=Q(alert_due=True)),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.event_name} {self.id}"


class DeadLetterChange(models.Model):
    """The audit trail: who did what to a dead letter, and with which changes of its payload (JSON Patch, RFC 6902)."""

    letter = models.ForeignKey(DeadLetter, on_delete=models.CASCADE, related_name="changes")
    what = models.CharField(max_length=20)
    by = models.CharField(max_length=200)
    at = models.DateTimeField(auto_now_add=True)
    reason = PayloadTextField(blank=True, owner="letter.org_id")
    run_id = models.UUIDField(null=True, blank=True)
    patch = PayloadField(default=list, owner="letter.org_id")

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"{self.what} by {self.by}"


class DeadLetterComment(models.Model):
    """What somebody found out about a group. Assigning and snoozing leave one too."""

    group = models.ForeignKey(DeadLetterGroup, on_delete=models.CASCADE, related_name="comments")
    by = models.CharField(max_length=200)
    text = models.TextField()
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return self.text[:80]
