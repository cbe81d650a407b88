"""`/api/organization`: the key's organization, its members and its quotas. People change members, keys do not."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from ninja import Router
from pydantic import Field

from workflows.api.edge.auth import ApiKeyAuth, ApiRequest
from workflows.api.schemas.runs import Out
from workflows.edge.values import check_limit
from workflows.presenters.tenancy import member_out, organization_out, quota_out
from workflows.selectors.tenancy import members, quotas

router = Router(auth=ApiKeyAuth(), tags=["organization"], by_alias=True)


class QuotaOut(Out):
    name: str = Field(description="eventsPerSecond, concurrentSteps or storedBytes.")
    what: str
    most: int | None = Field(description="Null: any number.")
    used: int | None = Field(description="Null where nothing is counted, or the store does not answer.")
    measured_at: dt.datetime | None = Field(description="Of stored bytes: when they were summed last.")
    reached: bool


class MemberOut(Out):
    member: str = Field(description="user:<login>, or group:<team>.")
    role: str = Field(description="viewer, operator, editor or admin.")
    added_by: str | None
    created_at: dt.datetime


class MembersOut(Out):
    members: list[MemberOut]
    total: int


class OrganizationOut(Out):
    id: UUID
    slug: str
    name: str
    created_at: dt.datetime
    members: int = Field(description="How many there are.")
    quotas: list[QuotaOut]


@router.get("", response=OrganizationOut)
def get_organization(request: ApiRequest) -> dict[str, Any]:
    """The key's organization with its quotas."""
    organization = request.organization
    return organization_out(organization, members.members(organization, limit=1), quotas.quotas(organization))


@router.get("/members", response=MembersOut)
def list_members(request: ApiRequest, limit: int = 100) -> dict[str, Any]:
    """Who belongs to the organization, and in which role; those of longest standing."""
    check_limit(limit)
    found = members.members(request.organization, limit=limit)
    return {"members": [member_out(each) for each in found.members], "total": found.total}


@router.get("/quotas", response=list[QuotaOut])
def list_quotas(request: ApiRequest) -> list[dict[str, Any]]:
    """The quotas, and how much of each is used now."""
    return [quota_out(each) for each in quotas.quotas(request.organization)]
