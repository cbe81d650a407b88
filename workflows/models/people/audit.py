"""Who changed what: written once, never changed."""

from __future__ import annotations

from typing import ClassVar

import uuid6
from django.db import models


class AuditEntry(models.Model):
    """An action of a person, a key or a command. Postgres refuses every change of it; retention alone deletes."""

    class Actor(models.TextChoices):
        LOGIN = "login", "login"
        KEY = "key", "API key"
        COMMAND = "command", "command"
        SYSTEM = "system", "system"

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    org_id = models.UUIDField("organization", null=True, blank=True, help_text="Empty: of no single organization.")
    at = models.DateTimeField()
    actor_kind = models.CharField(max_length=10, choices=Actor.choices)
    actor = models.CharField(max_length=200)
    verb = models.CharField(max_length=100)
    object_kind = models.CharField(max_length=50, blank=True)
    object_id = models.CharField(max_length=200, blank=True)
    details = models.JSONField(default=dict, blank=True)
    request_id = models.CharField(max_length=100, blank=True)
    origin = models.CharField(max_length=16, blank=True, help_text="A keyed hash of the address it came from.")

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name_plural = "audit entries"
        indexes: ClassVar = [
            models.Index(fields=["org_id", "-id"], name="audit_by_org"),
            models.Index(fields=["at"], name="audit_by_time"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(actor_kind__in=["login", "key", "command", "system"]), name="audit_actor_kind"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor}: {self.verb}"
