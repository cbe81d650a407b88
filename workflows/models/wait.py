"""What waiting steps wait for."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from workflows.models.payload_fields import PayloadField, PayloadTextField
from workflows.sealing import shapes

KINDS = ("event", "approval", "run")


class ModelWait(models.Model):
    """A table whose changes wake a step that waits for a row of it (`step.wait_for_model`). Gone when the step has
    ended."""

    step_run_id = models.UUIDField()
    org_id = models.UUIDField()
    table_name = models.CharField(max_length=255)
    looked_at = models.DateTimeField()
    changed_at = models.DateTimeField(null=True, blank=True, help_text="When a row changed after the last look.")
    expires_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["step_run_id", "table_name"], name="model_wait_identity"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["table_name"], name="model_wait_by_table"),
            models.Index(fields=["table_name"], name="model_wait_unchanged", condition=Q(changed_at=None)),
            models.Index(fields=["changed_at"], name="model_wait_changed", condition=~Q(changed_at=None)),
        ]


class Wait(models.Model):
    """What one waiting step waits for. It is taken once: by what it waits for or by its timeout, whichever is first.

    The row is gone when the step's outcome is recorded; in between it says what that will be, so that a process that
    dies there loses nothing.
    """

    class Kind(models.TextChoices):
        EVENT = "event", "event"
        APPROVAL = "approval", "approval"
        RUN = "run", "run"

    step_run_id = models.UUIDField(primary_key=True)
    org_id = models.UUIDField()
    run_id = models.UUIDField()
    kind = models.CharField(max_length=10, choices=Kind.choices)
    event_name = models.CharField(max_length=300, blank=True, help_text="A name, or a pattern such as order/*.")
    match_path = models.CharField(
        max_length=200, blank=True, help_text="Within the event: what must equal the hashed value."
    )
    value_hash = models.CharField(max_length=32, blank=True)
    condition = PayloadTextField(blank=True)
    since = models.DateTimeField(help_text="Events received from here on count.")
    looked_back = models.BooleanField(default=False, help_text="Events from before the wait was stored were looked at.")
    child_id = models.UUIDField(null=True, blank=True, help_text="The run that is waited for.")
    options = PayloadField(shape=shapes.wait_options, default=dict)
    remind_at = models.DateTimeField(null=True, blank=True, help_text="When its people are told (again).")
    reminders = models.PositiveIntegerField(db_default=0, help_text="How often they were told.")
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    taken_at = models.DateTimeField(null=True, blank=True)
    taken_by = models.CharField(max_length=10, blank=True, help_text="event, answer, run or timeout.")
    event_id = models.UUIDField(null=True, blank=True)
    answer = PayloadField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=KINDS), name="wait_kind"),
            models.CheckConstraint(
                condition=Q(taken_at=None, taken_by="") | (~Q(taken_at=None) & ~Q(taken_by="")), name="wait_taken"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["org_id", "event_name", "match_path", "value_hash"],
                name="wait_by_event",
                condition=Q(kind="event", taken_at=None),
            ),
            models.Index(fields=["child_id"], name="wait_by_child", condition=Q(kind="run", taken_at=None)),
            models.Index(fields=["expires_at"], name="wait_timeout", condition=Q(taken_at=None) & ~Q(expires_at=None)),
            models.Index(fields=["remind_at"], name="wait_reminder", condition=Q(taken_at=None) & ~Q(remind_at=None)),
            models.Index(fields=["org_id", "-step_run_id"], name="wait_approvals", condition=Q(kind="approval")),
            models.Index(fields=["taken_at"], name="wait_taken_at", condition=~Q(taken_at=None)),
            models.Index(fields=["created_at"], name="wait_not_looked_back", condition=Q(looked_back=False)),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.event_name}".strip()
