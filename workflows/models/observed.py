"""Celery tasks: those that steps have sent, and those of the application that are only observed."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from workflows.models.payload_fields import PayloadField
from workflows.sealing import shapes


class CeleryTask(models.Model):
    """A Celery task that a step has sent, until its step has ended: who takes the watch over sees here that it is sent,
    and what it came to. `engine/celery_tasks/` writes it."""

    task_id = models.CharField(primary_key=True, max_length=100, help_text="Of the step run and its attempt.")
    step_run_id = models.UUIDField()
    org_id = models.UUIDField()
    run_id = models.UUIDField()
    name = models.CharField(max_length=255)
    state = models.CharField(max_length=10, help_text="sending, sent or ended.")
    sends = models.PositiveIntegerField(default=0, db_default=0)
    created_at = models.DateTimeField()
    taken_at = models.DateTimeField(help_text="When somebody began to watch it.")
    sent_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.CharField(
        max_length=20, blank=True, default="", db_default="", help_text="What told of its end: message, backend, …"
    )
    end = PayloadField(shape=shapes.task_end, null=True, blank=True, help_text="{state, result} or {state, error}.")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(state__in=["sending", "sent", "ended"]), name="celery_task_state"),
        ]
        indexes: ClassVar = [models.Index(fields=["step_run_id"], name="celery_task_by_step")]

    def __str__(self) -> str:
        return f"{self.name} {self.task_id}"


class ObservedTask(models.Model):
    """A Celery task of the application as its signals have shown it. Outside of all promises: nothing depends on it."""

    class State(models.TextChoices):
        SENT = "sent", "sent"
        STARTED = "started", "started"
        RETRYING = "retrying", "retrying"
        SUCCEEDED = "succeeded", "succeeded"
        FAILED = "failed", "failed"
        REVOKED = "revoked", "revoked"
        IGNORED = "ignored", "ignored"
        REJECTED = "rejected", "rejected"
        LOST = "lost", "lost"

    id = models.CharField(primary_key=True, max_length=255, help_text="Celery's id of the task.")
    org_id = models.UUIDField(null=True, blank=True)
    name = models.CharField(max_length=255, blank=True, default="", db_default="")
    state = models.CharField(max_length=10, choices=State.choices)
    queue = models.CharField(max_length=255, blank=True, default="", db_default="")
    hostname = models.CharField(max_length=255, blank=True, default="", db_default="", help_text="Of its last worker.")
    root_id = models.CharField(max_length=255, blank=True, default="", db_default="")
    parent_id = models.CharField(max_length=255, blank=True, default="", db_default="")
    group_id = models.CharField(max_length=255, blank=True, default="", db_default="")
    retries = models.PositiveIntegerField(default=0, db_default=0)
    starts = models.PositiveIntegerField(default=0, db_default=0, help_text="How often a worker has begun with it.")
    arguments = models.CharField(max_length=1000, blank=True, default="", db_default="")
    error = models.CharField(max_length=255, blank=True, default="", db_default="", help_text="Class of the exception.")
    message = models.CharField(max_length=1000, blank=True, default="", db_default="")
    sent_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField(help_text="The time of its last sign.")

    class Meta:
        ordering: ClassVar = ["-seen_at"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "sent", "started", "retrying", "succeeded", "failed", "revoked", "ignored", "rejected", "lost",
                    ]
                ),
                name="observed_task_state",
            ),
        ]  # fmt: skip
        indexes: ClassVar = [
            models.Index(fields=["-seen_at", "-id"], name="observed_by_time"),
            models.Index(fields=["root_id"], name="observed_by_root", condition=~Q(root_id="")),
            models.Index(fields=["-ended_at"], name="observed_failures", condition=Q(state__in=["failed", "lost"])),
            models.Index(
                fields=["seen_at"], name="observed_open", condition=Q(state__in=["sent", "started", "retrying"])
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name or 'task'} {self.id}"


class ObservationLoss(models.Model):
    """How many observations a process has dropped, by day: what is not shown is at least counted."""

    day = models.DateField(primary_key=True)
    dropped = models.BigIntegerField(default=0, db_default=0)

    def __str__(self) -> str:
        return f"{self.day}: {self.dropped}"
