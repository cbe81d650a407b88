"""Live overrides of policies, and their history. `throttling/overrides.py` writes both."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from throttling.defaults import NO_SIZE, SIZES
from throttling.limits import MAX_WEIGHT, MIN_WEIGHT


class ThrottleOverride(models.Model):
    """Values that replace the shipped or configured ones at once, on all workers. Empty fields change nothing."""

    class Scope(models.TextChoices):
        GLOBAL = "global", "all steps"
        RUNS = "runs", "all runs"
        TYPE = "type", "a step type"
        FLOW = "flow", "a flow"
        ORG = "org", "an organization"
        LIMIT = "limit", "a shared named limit"
        PAUSE = "pause", "nothing starts"
        DRAIN = "drain", "no run starts"

    class Algorithm(models.TextChoices):
        WINDOW = "window", "exact sliding window"
        GCRA = "gcra", "evenly spaced, with a burst (GCRA)"

    scope = models.CharField(max_length=10, choices=Scope.choices)
    type = models.CharField("step type", max_length=50, blank=True)
    flow_id = models.UUIDField(null=True, blank=True)
    org_id = models.UUIDField("organization", null=True, blank=True, help_text="Empty: for all organizations.")
    name = models.CharField(max_length=100, blank=True, help_text="Of a shared limit, as `throttling.limit` names it.")
    concurrency = models.PositiveIntegerField(null=True, blank=True, help_text="At most so many at once.")
    rate_limit = models.PositiveIntegerField(null=True, blank=True, help_text="At most so many starts …")
    rate_period_ms = models.PositiveBigIntegerField(null=True, blank=True, help_text="… in so many milliseconds.")
    rate_algorithm = models.CharField(max_length=10, choices=Algorithm.choices, default=Algorithm.WINDOW)
    rate_burst = models.PositiveIntegerField(default=1, help_text="Of GCRA: so many may start together.")
    key = models.CharField(max_length=500, blank=True, help_text="CEL: a limit of its own for each value.")
    max_attempts = models.PositiveIntegerField(null=True, blank=True)
    backoff = models.CharField(
        max_length=20,
        blank=True,
        choices=[(kind, kind) for kind in ("exponential", "long_exponential", "fixed", "none")],
    )
    delay_ms = models.PositiveBigIntegerField(null=True, blank=True)
    max_delay_ms = models.PositiveBigIntegerField(null=True, blank=True)
    weight = models.FloatField(
        null=True,
        blank=True,
        help_text="Of an organization: its share where it has to wait, 0.01 … 100; operators set it.",
    )
    note = models.CharField(max_length=500, blank=True, help_text="Why.")
    changed_by = models.CharField(max_length=200, editable=False)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar = ["scope", "type", "name", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["scope", "type", "flow_id", "org_id", "name"], name="throttle_override_place",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=Q(scope__in=["global", "runs", "type", "flow", "org", "limit", "pause", "drain"]),
                name="throttle_override_scope",
            ),
            models.CheckConstraint(
                condition=Q(concurrency=None) | Q(concurrency__gt=0), name="throttle_override_concurrency"
            ),
            models.CheckConstraint(
                condition=Q(rate_limit=None, rate_period_ms=None) | Q(rate_limit__gt=0, rate_period_ms__gt=0),
                name="throttle_override_rate",
            ),
            models.CheckConstraint(
                condition=Q(weight=None) | Q(weight__gte=MIN_WEIGHT, weight__lte=MAX_WEIGHT),
                name="throttle_override_weight",
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        subject = self.type or self.name or (str(self.flow_id) if self.flow_id else "")
        return f"{self.scope} {subject}".strip() + (f" for {self.org_id}" if self.org_id else "")


class DefaultSize(models.Model):
    """The limits of whole runs where `HEADRACE_SIZE` names none: one row, written when the database was made."""

    size = models.CharField(max_length=10, choices=[(size, size) for size in (*SIZES, NO_SIZE)], db_default=NO_SIZE)

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=Q(id=1), name="throttle_default_size_one")]

    def __str__(self) -> str:
        return self.size


class ThrottleChange(models.Model):
    """One change of an override: who, when, before and after. Its id is the revision of the policies."""

    at = models.DateTimeField(auto_now_add=True)
    by = models.CharField(max_length=200)
    place = models.CharField(max_length=300)
    org_id = models.UUIDField(null=True, blank=True)
    before = models.JSONField(null=True, blank=True)
    after = models.JSONField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.place} by {self.by}"
