"""An organization's members and quotas as JSON."""

from __future__ import annotations

from typing import Any

from workflows.models import Membership, Organization
from workflows.selectors.tenancy.members import Members
from workflows.selectors.tenancy.quotas import Quota


def member_out(row: Membership) -> dict[str, Any]:
    """A member with its role."""
    return {"member": row.member, "role": row.role, "addedBy": row.added_by or None, "createdAt": row.created_at}


def quota_out(quota: Quota) -> dict[str, Any]:
    """A quota, what is used of it, and whether it is reached; `most` is null for any number."""
    return {
        "name": quota.name,
        "what": quota.what,
        "most": quota.most,
        "used": quota.used,
        "measuredAt": quota.at,
        "reached": quota.is_reached,
    }


def organization_out(organization: Organization, members: Members, quotas: list[Quota]) -> dict[str, Any]:
    """An organization, how many members it has, and its quotas."""
    return {
        "id": organization.id,
        "slug": organization.slug,
        "name": organization.name,
        "createdAt": organization.created_at,
        "members": members.total,
        "quotas": [quota_out(each) for each in quotas],
    }
