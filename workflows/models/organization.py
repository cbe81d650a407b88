"""Tenants, their keys and their secrets."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, ClassVar

import uuid6
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from workflows.models.encryption import decrypt, encrypt


class Organization(models.Model):
    """A tenant: everything else belongs to exactly one."""

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    slug = models.SlugField(max_length=100, unique=True)
    name = models.CharField(max_length=200)
    skips_arrivals = models.BooleanField(db_default=False, help_text="While it is paused, what arrives starts nothing.")
    redaction = ArrayField(
        models.CharField(max_length=200),
        db_default=[],
        blank=True,
        help_text="Fields whose values nobody is shown: names or paths, like password or data.card.number.",
    )
    encrypts_payloads = models.BooleanField(
        db_default=False, default=False, editable=False, help_text="Payloads are stored encrypted."
    )
    hashes_keys = models.BooleanField(
        db_default=False,
        default=False,
        editable=False,
        help_text="Idempotency keys that flows compute are stored hashed.",
    )
    events_per_s = models.PositiveIntegerField(
        null=True, blank=True, help_text="Quota: events and runs from outside in a second. Empty: any number."
    )
    concurrent_steps = models.PositiveIntegerField(
        null=True, blank=True, help_text="Quota: steps at once; its own limit can't be higher. Empty: any number."
    )
    stored_bytes_most = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        help_text="Quota: bytes of payloads; above it nothing new is taken in. Empty: any number.",
    )
    stored_bytes = models.PositiveBigIntegerField(db_default=0, default=0, editable=False)
    stored_bytes_at = models.DateTimeField(null=True, blank=True, editable=False)
    is_full = models.BooleanField(db_default=False, default=False, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["slug"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(events_per_s=None) | Q(events_per_s__gt=0), name="organization_events_per_s"
            ),
            models.CheckConstraint(
                condition=Q(concurrent_steps=None) | Q(concurrent_steps__gt=0), name="organization_concurrent_steps"
            ),
            models.CheckConstraint(
                condition=Q(stored_bytes_most=None) | Q(stored_bytes_most__gt=0), name="organization_stored_bytes"
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class AccessKey(models.Model):
    """A key for the REST API or for sending events. Only its hash is stored."""

    class Kind(models.TextChoices):
        API = "api", "API key"
        EVENT = "event", "event key"

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="access_keys")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, help_text="The key's first characters, to recognise it by.")
    digest = models.CharField(max_length=64, unique=True)
    operator = models.BooleanField(default=False, help_text="May change limits that hold for all organizations.")
    scopes = ArrayField(
        models.CharField(max_length=50), db_default=[], blank=True, help_text="Of an API key; empty: every right."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="From then on it is refused.")
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="To the minute.")
    replaces = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="successors",
        help_text="The key that it was issued in the place of.",
    )  # fmt: skip
    revoked_at = models.DateTimeField(null=True, blank=True)
    is_expired = False
    """As Postgres' clock says, where the row was read for a request."""

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(kind__in=["api", "event"]), name="access_key_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"

    @staticmethod
    def digest_of(key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()

    @classmethod
    def issue(
        cls, organization: Organization, kind: str, name: str, *, operator: bool = False, **more: Any
    ) -> tuple[AccessKey, str]:
        """A new key: the row and the key itself, which is shown this once. `more`: other fields of the row."""
        key = f"hr_{kind}_{secrets.token_urlsafe(24)}"
        row = cls.objects.create(
            organization=organization,
            kind=kind,
            name=name,
            prefix=key[:14],
            digest=cls.digest_of(key),
            operator=operator,
            **more,
        )
        return row, key


class Secret(models.Model):
    """A value for `${ secrets.NAME }` in outbound fields; stored encrypted, masked wherever it would show."""

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="secrets")
    name = models.CharField(max_length=100)
    ciphertext = models.BinaryField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "name"], name="secret_name"),
            models.CheckConstraint(
                condition=models.Q(name__regex=r"^[A-Za-z_][A-Za-z0-9_]*$"), name="secret_name_form"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def value(self) -> str:
        """The clear text. Raises ConfigurationFailure where no key opens it."""
        return decrypt(bytes(self.ciphertext), f"the secret {self.name}")

    @value.setter
    def value(self, clear_text: str) -> None:
        self.ciphertext = encrypt(clear_text)
