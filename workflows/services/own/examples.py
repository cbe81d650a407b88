"""The inputs that a login tried from the test page: the last ten of each flow and event name."""

from __future__ import annotations

import hashlib
import uuid

from django.db import transaction
from django.utils import timezone

from workflows.models import Example, Organization
from workflows.payload import text_fault

KEPT = 10
MAX_BYTES = 64 * 1024
"""A larger one is not remembered."""


def of(organization: Organization, user_id: int, kind: str, name: str) -> list[Example]:
    """The examples of a flow or an event name, the last one first."""
    return list(Example.objects.filter(organization=organization, user_id=user_id, kind=kind, name=name)[:KEPT])


def remember(organization: Organization, user_id: int, *, kind: str, name: str, text: str) -> None:
    """Keep a text that was sent; the same one is kept once, the oldest ones go."""
    if len(text.encode()) > MAX_BYTES or text_fault(text) or len(name) > 200:
        return
    digest = hashlib.sha256(text.encode()).hexdigest()
    with transaction.atomic():
        Example.objects.update_or_create(
            organization=organization, user_id=user_id, kind=kind, name=name, digest=digest,
            defaults={"text": text, "used_at": timezone.now()},
        )  # fmt: skip
        mine = Example.objects.filter(organization=organization, user_id=user_id, kind=kind, name=name)
        old: list[uuid.UUID] = list(mine.values_list("id", flat=True)[KEPT:])
        Example.objects.filter(id__in=old).delete()
