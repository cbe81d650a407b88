"""What a login keeps for itself on the pages of an organization."""

from __future__ import annotations

from typing import ClassVar

import uuid6
from django.conf import settings
from django.db import models

from workflows.models.organization import Organization
from workflows.models.payload_fields import PayloadTextField


class SavedView(models.Model):
    """A list of runs with its filters, order and columns, by a name that its login gave it."""

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=80)
    query = models.CharField(max_length=2_000, blank=True, help_text="The query of the address of the list.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "user", "name"], name="saved_view_name"),
            models.CheckConstraint(condition=~models.Q(name=""), name="saved_view_named"),
        ]

    def __str__(self) -> str:
        return self.name


class Example(models.Model):
    """An input that a login sent from the test page: of a flow (its slug), or events (their name)."""

    class Kind(models.TextChoices):
        FLOW = "flow", "flow"
        EVENT = "event", "event"

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    name = models.CharField(max_length=200)
    digest = models.CharField(max_length=64, help_text="Of the text: the same one is remembered once.")
    text = PayloadTextField(owner="organization_id", help_text="JSON, as it was written.")
    used_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["-used_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "user", "kind", "name", "digest"], name="example_remembered_once"
            ),
            models.CheckConstraint(condition=models.Q(kind__in=["flow", "event"]), name="example_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"
