"""Keys that the environment presets, by the names that Inngest gives them. They hold from the next migration on.

`INNGEST_EVENT_KEY` and `INNGEST_API_KEY` are keys of the organization `default`; `INNGEST_SIGNING_KEY` and
`INNGEST_WEBHOOK_KEY` are secrets of it under these names, for the signatures of webhooks. A changed key takes the place
of the one before. One that is no longer set stays until it is revoked.
"""

from __future__ import annotations

from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from workflows.edge.tables import has_table
from workflows.models import AccessKey, AuditEntry, Organization, Secret
from workflows.services.access import audit
from workflows.this_process.configuration import configuration

log = structlog.get_logger(__name__)
ORGANIZATION = "default"
EVENT_KEY, API_KEY = "INNGEST_EVENT_KEY", "INNGEST_API_KEY"
SECRETS = ("INNGEST_SIGNING_KEY", "INNGEST_WEBHOOK_KEY")


def ship(**_: Any) -> None:
    """Receiver of `post_migrate`: store what the environment presets."""
    given = {name: value for name, value in configuration().preset_keys.items() if value}
    if not given or not has_table(AccessKey):
        return
    with transaction.atomic():
        organization = Organization.objects.get_or_create(slug=ORGANIZATION, defaults={"name": "Default"})[0]
        for name, kind in ((EVENT_KEY, AccessKey.Kind.EVENT), (API_KEY, AccessKey.Kind.API)):
            if name in given:
                _key(organization, kind, name, given[name])
        for name in SECRETS:
            if name in given:
                _secret(organization, name, given[name])


def _key(organization: Organization, kind: str, name: str, value: str) -> None:
    digest = AccessKey.digest_of(value)
    known = AccessKey.objects.filter(digest=digest).first()
    if known is not None and (known.organization_id != organization.id or known.kind != kind):
        log.error("a preset key is in use as another key, and is not taken over; choose another", variable=name)
        return
    AccessKey.objects.filter(organization=organization, name=name, revoked_at=None).exclude(digest=digest).update(
        revoked_at=timezone.now()
    )
    if known is None:
        AccessKey.objects.create(
            organization=organization, kind=kind, name=name, prefix=f"{value[:4]}…", digest=digest,
            operator=kind == AccessKey.Kind.API,
        )  # fmt: skip
        if has_table(AuditEntry):
            actor = audit.Actor(kind=AuditEntry.Actor.SYSTEM, name="environment")
            audit.record(organization.id, actor, "key.preset", kind="key", id=name)
    elif known.revoked_at is not None:
        log.error("a preset key was revoked, and stays so; choose another", variable=name)


def _secret(organization: Organization, name: str, value: str) -> None:
    row = Secret.objects.filter(organization=organization, name=name).first() or Secret(
        organization=organization, name=name
    )
    row.value = value
    row.save()
