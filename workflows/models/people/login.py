"""Tries to log in, for the brake (`workflows/edge/logins.py`)."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class LoginTry(models.Model):
    """A try that did not succeed (yet). Hashes only: people type passwords into the field for the name."""

    account = models.CharField(max_length=64)
    origin = models.CharField(max_length=64, help_text="The address, or the browser that this account knows.")
    at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["origin", "at"], name="login_try_by_origin"),
            models.Index(fields=["at"], name="login_try_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S}"
