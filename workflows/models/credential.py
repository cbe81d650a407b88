"""OAuth credentials as token servers have renewed them."""

from __future__ import annotations

from typing import ClassVar

import uuid6
from django.db import models

from workflows.models.organization import Organization


class OAuthCredential(models.Model):
    """The tokens that came after a configured refresh token, encrypted, for all workers.

    `workflows/steps/http/oauth.py` alone reads and writes it.

    A configured refresh token that is changed makes another `identity`, and thus begins anew.
    """

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="oauth_credentials")
    identity = models.CharField(max_length=64, help_text="A keyed hash of all that the tokens are asked with.")
    refresh_token = models.BinaryField(null=True, help_text="The one to be used next; empty: the configured one.")
    access_token = models.BinaryField(null=True)
    access_digest = models.CharField(max_length=64, db_default="", help_text="A keyed hash of the access token.")
    expires_at = models.DateTimeField(null=True, help_text="When the access token is no longer used.")
    generation = models.BigIntegerField(db_default=0, help_text="Counts the renewals: a late one changes nothing.")
    lease = models.UUIDField(null=True, help_text="Who asks for new tokens now.")
    leased_until = models.DateTimeField(null=True)
    used_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "identity"], name="oauth_credential_identity"),
        ]

    def __str__(self) -> str:
        return self.identity[:12]
