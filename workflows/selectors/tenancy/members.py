"""The members of an organization, for its page, the API and the command."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.models import Membership, Organization

MOST = 500
EVERY = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Members:
    """The members of longest standing, by name, and how many there are in all."""

    members: list[Membership]
    total: int


def members(organization: Organization, *, limit: int = MOST) -> Members:
    """At most so many members of an organization, in two statements."""
    rows = Membership.objects.filter(organization=organization)
    shown = rows.select_related("user", "group").order_by("created_at", "id")[:limit]
    return Members(members=sorted(shown, key=lambda each: each.member), total=rows.count())
