"""Whose a key is. Looked up for each request, so that a revoked key is refused by the next one."""

from __future__ import annotations

from workflows.engine.sql import services as sql
from workflows.models import AccessKey, Organization


def find(key: str) -> AccessKey | None:
    """The key, with its organization; None for one that was never issued. It may be revoked.

    By a prepared statement: the ORM makes its SQL anew each time, which took most of a request.
    """
    digest = AccessKey.digest_of(key)
    for row in sql.access_key(digest=digest):
        organization = Organization.from_db(
            "default",
            ("id", "slug", "name", "skips_arrivals", "events_per_s", "is_full", "created_at"),  # as the model has them
            (
                row.org_id,
                row.org_slug,
                row.org_name,
                row.org_skips_arrivals,
                row.events_per_s,
                row.is_full,
                row.org_created_at,
            ),
        )
        found = AccessKey.from_db(
            "default",
            (
                "id",
                "organization_id",
                "kind",
                "name",
                "prefix",
                "digest",
                "operator",
                "created_at",
                "revoked_at",
            ),
            (
                row.id,
                row.org_id,
                row.kind,
                row.name,
                row.prefix,
                digest,
                row.operator,
                row.created_at,
                row.revoked_at,
            ),
        )
        found.organization = organization
        return found
    return None


def find_valid(key: str, kind: str) -> AccessKey | None:
    """The key where it is of this kind and has not been revoked."""
    found = find(key)
    return found if found is not None and found.kind == kind and found.revoked_at is None else None
