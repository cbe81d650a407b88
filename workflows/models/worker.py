"""Who is at work: live worker processes, the leader that pumps timers and rescues, what its sweeps can't do; and what
was done in each minute."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models

from workflows.models.payload_fields import PayloadTextField

SILENT_AFTER_S = 8.0
"""A worker that was not seen for so long counts as gone: its slots are nobody's."""
FORGOTTEN_AFTER_S = 600.0
"""Its row is deleted then."""


class Worker(models.Model):
    """A process that executes steps; renewed by its heartbeat."""

    id = models.UUIDField(primary_key=True)
    name = models.CharField(max_length=200)
    queues = ArrayField(models.CharField(max_length=50))
    slots = models.PositiveIntegerField(help_text="How many steps it takes at once.")
    capacity = models.PositiveIntegerField(
        default=0, help_text="How many steps it can execute at once, detached ones included."
    )
    lanes = models.JSONField(
        db_default={}, help_text="How many permits it adds to each lane: what a queue's permits are counted by."
    )
    active = models.PositiveIntegerField(help_text="How many it executes now.")
    unclaimed = models.PositiveIntegerField(help_text="Messages that it holds and has not claimed yet.")
    claimed_until = models.JSONField(
        default=dict, help_text="By queue: the latest dispatch time (epoch seconds) among the steps that it claimed."
    )
    code = models.JSONField(db_default={}, help_text="The flows in Python whose code it has: their digests.")
    cpu_cores = models.FloatField(
        null=True, blank=True, help_text="Processor cores that the process used between its last two beats, on average."
    )
    memory_bytes = models.BigIntegerField(null=True, blank=True, help_text="Its resident memory.")
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["name"]
        indexes: ClassVar = [models.Index(fields=["seen_at"], name="worker_seen")]

    def __str__(self) -> str:
        return self.name


class LeaderLease(models.Model):
    """The right to pump timers and to rescue, for a few seconds. Two holders would be harmless."""

    name = models.CharField(primary_key=True, max_length=50)
    holder = models.UUIDField()
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class SweepFailure(models.Model):
    """What a sweep or a job of the engine can't do, until it can. `engine/maintenance/sweeps.py` writes it."""

    class Kind(models.TextChoices):
        FAILS = "fails", "raises"
        OVERRAN = "overran", "took longer than its budget"

    pk = models.CompositePrimaryKey("sweep", "kind", "item")
    sweep = models.CharField(max_length=50)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    item = models.CharField(max_length=100, blank=True, help_text="Empty where the sweep as a whole fails.")
    org_id = models.UUIDField(null=True, blank=True)
    error = PayloadTextField(help_text="The last error.")
    tries = models.PositiveIntegerField(default=1)
    since = models.DateTimeField()
    last_at = models.DateTimeField()
    try_again_at = models.DateTimeField(help_text="The item is left out of the pages of its sweep until then.")
    given_up_at = models.DateTimeField(null=True, blank=True, help_text="Nobody tries it again.")

    class Meta:
        ordering: ClassVar = ["sweep", "kind", "item"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(kind__in=["fails", "overran"]), name="sweep_failure_kind")
        ]

    def __str__(self) -> str:
        return f"{self.sweep} {self.item}".strip()


class MinuteCounts(models.Model):
    """What became of an organization's runs and tries within one minute, for the charts of the overview.

    The leader adds them when a minute is over (`engine/maintenance/measuring.py`). A minute in which nothing happened
    has no row; the row without an organization (the nil id) counts all of them, and is there for every minute.
    """

    pk = models.CompositePrimaryKey("org_id", "at")
    org_id = models.UUIDField()
    at = models.DateTimeField(help_text="The begin of the minute.")
    completed = models.PositiveIntegerField(help_text="Runs that ended so in it.")
    failed = models.PositiveIntegerField()
    cancelled = models.PositiveIntegerField()
    tries = models.PositiveIntegerField(help_text="Tries of steps that were recorded in it.")
    retries = models.PositiveIntegerField(help_text="Those of them that were no first tries.")
    waited_ms = models.BigIntegerField(help_text="What these tries waited between being ready and their start, summed.")
    longest_wait_ms = models.BigIntegerField()
    backlog = models.PositiveIntegerField(
        null=True, blank=True, help_text="Steps that were ready and had not started at its end; empty if not looked at."
    )
    oldest_ms = models.BigIntegerField(null=True, blank=True, help_text="How long the first of them had been ready.")

    class Meta:
        indexes: ClassVar = [models.Index(fields=["at"], name="minute_by_time")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M}"
