"""Containers at work: what a map, batch, loop or group has to do, and how far it is."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from workflows.models.payload_fields import PayloadField
from workflows.sealing import shapes


class FanOut(models.Model):
    """The state of one container's step run. Its items are opened in order, `parallelism` at a time."""

    step_run_id = models.UUIDField(primary_key=True)
    org_id = models.UUIDField()
    run_id = models.UUIDField()
    kind = models.CharField(max_length=10)
    total = models.IntegerField(help_text="Items; a loop adds one for each round, a batch two for one that it halves.")
    parallelism = models.IntegerField()
    next_index = models.IntegerField(default=0, help_text="The first item that has not been looked at.")
    open = models.IntegerField(default=0, help_text="Items under way.")
    ended = models.IntegerField(default=0)
    failed = models.IntegerField(default=0, help_text="Elements of items that failed.")
    max_failures = models.IntegerField(null=True, blank=True, help_text="One more stops it; empty: none does.")
    pause_ms = models.PositiveIntegerField(default=0, help_text="Between the end of an item and the next one.")
    body_sinks = models.IntegerField(help_text="How many last steps an item has.")
    options = models.JSONField(default=dict)
    bytes = models.BigIntegerField(db_default=0, help_text="Of the outputs of the steps in it, as they are stored.")
    stopping = models.BooleanField(default=False)
    concluded = models.BooleanField(db_default=False, help_text="What it came to is recorded.")
    changed_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(open__gte=0, open__lte=F("total")), name="fan_out_open"),
            models.CheckConstraint(condition=Q(ended__lte=F("total")), name="fan_out_ended"),
            models.CheckConstraint(condition=Q(parallelism__gte=1), name="fan_out_parallelism"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["run_id"], name="fan_out_by_run"),
            models.Index(
                fields=["changed_at"],
                name="fan_out_over",
                condition=Q(concluded=False) & (Q(stopping=True) | Q(ended=F("total"))),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.ended}/{self.total}"


class Item(models.Model):
    """One item of a container: its value, and what became of it."""

    class Status(models.TextChoices):
        PENDING = "pending", "pending"
        OPEN = "open", "open"
        COMPLETED = "completed", "completed"
        FAILED = "failed", "failed"
        SPLIT = "split", "split into halves"

    pk = models.CompositePrimaryKey("container_id", "index")
    container_id = models.UUIDField()
    index = models.IntegerField()
    position = models.IntegerField(help_text="Of its first element in the list; results are in this order.")
    size = models.IntegerField(default=1, help_text="How many elements of the list it has.")
    value = PayloadField(null=True)
    status = models.CharField(max_length=10, choices=Status.choices)
    sinks_left = models.IntegerField(default=0)
    error = PayloadField(shape=shapes.error, null=True, blank=True)
    plan = models.JSONField(
        null=True, blank=True, help_text="Of a resumed run: what is taken over of its steps, and what runs."
    )

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["pending", "open", "completed", "failed", "split"]), name="item_status"
            ),
        ]

    def __str__(self) -> str:
        return f"[{self.index}] {self.status}"
