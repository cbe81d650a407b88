"""How many bytes of payloads an organization stores, by the hour in which their rows were made."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class MeasuredHour(models.Model):
    """An hour whose rows were measured, and when that was last."""

    hour = models.DateTimeField(primary_key=True)
    measured_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["measured_at"], name="measured_hour_by_age")]


class StoredBytes(models.Model):
    """The payloads of an organization's rows of one hour, as Postgres stores them (compressed)."""

    org_id = models.UUIDField()
    hour = models.DateTimeField()
    bytes = models.BigIntegerField()
    measured_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["hour", "org_id"], name="stored_bytes_of_hour")]
        indexes: ClassVar = [models.Index(fields=["org_id"], name="stored_bytes_by_org")]
