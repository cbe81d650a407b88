"""Events received."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

import uuid6
from django.db import models
from django.db.models.functions import Now

from workflows.models.organization import Organization
from workflows.models.payload_fields import PayloadField, PayloadTextField

SYSTEM = "headrace/"
"""The names of events that the system sends begin so; nobody else may send such a one."""
_TIME = ((1 << 48) - 1) << 80
_CHANCE = ((1 << 12) - 1) << 64 | ((1 << 62) - 1)
"""The bits of a uuid7 that neither its time nor its form gives."""


def event_id(moment: UUID, identity: UUID) -> UUID:
    """The id of an event that is sent once however often it is tried: a uuid7 of the millisecond of `moment` (another
    uuid7), whose other bits are those of `identity`. Lists, counts and retention take ids for the order of time."""
    return UUID(int=(moment.int & _TIME) | 7 << 76 | 2 << 62 | (identity.int & _CHANCE))


class Event(models.Model):
    """An occurrence that was received; matched against the event triggers after its commit."""

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    org_id = models.UUIDField()
    name = models.CharField(max_length=200)
    data = PayloadField(default=dict)
    user = PayloadField(default=dict)
    external_id = models.CharField(max_length=200, blank=True, help_text="The sender's id of the event.")
    trigger_id = models.UUIDField(null=True, blank=True, help_text="The webhook trigger at whose address it came.")
    ts = models.DateTimeField(help_text="When it happened, by its sender.")
    received_at = models.DateTimeField(db_default=Now(), help_text="By the clock of the database.")
    matched_at = models.DateTimeField(null=True, blank=True)
    rejected = PayloadTextField(db_default="", blank=True, help_text="Why it was refused by its schema.")
    unheard = models.BooleanField(
        db_default=False, help_text="When it was matched, no trigger, wait or cancel_on listened to its name."
    )

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [models.CheckConstraint(condition=~models.Q(name=""), name="event_name_given")]
        indexes: ClassVar = [
            models.Index(fields=["org_id", "-id"], name="event_by_org"),
            models.Index(fields=["org_id", "name", "received_at"], name="event_by_name"),
            models.Index(fields=["org_id", "id"], name="event_unmatched_by_org", condition=models.Q(matched_at=None)),
            models.Index(fields=["org_id", "-id"], name="event_unheard", condition=models.Q(unheard=True)),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.id}"


class SystemFeed(models.Model):
    """How far a kind of system events of an organization has been told; there is one where somebody listens."""

    pk = models.CompositePrimaryKey("org_id", "source")
    org_id = models.UUIDField()
    source = models.CharField(max_length=30)
    emitted_until = models.DateTimeField(db_column="told_until")

    def __str__(self) -> str:
        return f"{self.source} until {self.emitted_until}"


class EventSchema(models.Model):
    """The form that the data of events of a name must have; others are refused, and kept as rejected."""

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="event_schemas")
    name = models.CharField(max_length=200)
    schema = models.JSONField(help_text="JSON Schema, draft 2020-12, of the event's data.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["organization", "name"], name="event_schema_name")]

    def __str__(self) -> str:
        return self.name
