"""How long things are kept: `/api/organization/retention`."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

from ninja import Router
from pydantic import Field

from workflows.api.edge import operations
from workflows.api.edge.auth import ApiKeyAuth, ApiRequest, who
from workflows.api.schemas.requests import Body
from workflows.api.schemas.runs import Out
from workflows.errors import Forbidden
from workflows.models import Organization
from workflows.presenters.retention import retention_out
from workflows.selectors.upkeep.retention import retention
from workflows.services.retention import rules

router = Router(auth=ApiKeyAuth(), tags=["organization"], by_alias=True)


OF_OPERATORS = "Of all organizations together: null unless the key is an operator's."


class RuleIn(Body):
    days: float | str | None = Field(description="From an hour (0.0417) to 3650; null or `forever`: for ever.")
    organization: Literal["this", "all"] = Field("this", description="`all` needs an operator's key.")
    seen: str | None = Field(None, description="As it was read: a rule that was changed since is left (409).")


class SeenOut(Out):
    this: str
    all: str


class RuleOut(Out):
    subject: str
    days: float | None = Field(description="Null: for ever.")
    source: str = Field(description="Who says so: organization, installation, environment or default.")
    default: float | None
    by_organization: bool = Field(description="Whether an organization may have a rule of its own.")
    meaning: str
    oldest: dt.datetime | None = Field(description="The oldest there is, of runs and events.")
    seen: SeenOut = Field(description="To be given back with a change of the rule for `this` or for `all`.")


class PassOut(Out):
    began_at: dt.datetime | None
    ended_at: dt.datetime | None
    deleted: dict[str, int] | None = Field(description=f"Rows by table. {OF_OPERATORS}")


class RetentionOut(Out):
    rules: list[RuleOut]
    on: bool
    rows_per_second: int
    dry_run_until: dt.datetime | None = Field(description="Until then nothing is deleted by itself.")
    announcement: str = Field(description="What is to be told while the first deletion lies ahead; else empty.")
    would_delete: dict[str, int] | None = Field(description=f"By subject: what the dry run has counted. {OF_OPERATORS}")
    last_pass: PassOut
    next_pass_at: dt.datetime | None
    deleted: dict[str, int] | None = Field(description=f"Rows by table since the installation. {OF_OPERATORS}")
    held: dict[str, int] | None = Field(
        description=f"By reason: expired runs and events that the last pass kept. {OF_OPERATORS}"
    )
    runs_being_deleted: int = Field(description="Of the organization: runs whose steps are still to be deleted.")


def _whose(request: ApiRequest, organization: str) -> Organization | None:
    """The organization that a rule is for; None for all, which only an operator may change."""
    if organization == "this":
        return request.organization
    if not request.auth.operator:
        raise Forbidden(
            "This rule holds for all organizations: it takes an operator's key "
            "(`manage.py organization key api --operator`)."
        )
    operations.written_in(request, None)
    return None


@router.get("/retention", response=RetentionOut)
def get_retention(request: ApiRequest) -> dict[str, Any]:
    """How long everything is kept, what that means, and how far deleting is."""
    return retention_out(retention(request.organization), of_installation=request.auth.operator)


@router.put("/retention/{subject}", response=RetentionOut)
def set_retention(request: ApiRequest, subject: str, payload: RuleIn) -> dict[str, Any]:
    """Keep a subject for so many days: in the organization, or (`organization: all`) in all without a rule."""
    rules.set_rule(_whose(request, payload.organization), subject, payload.days, by=who(request), seen=payload.seen)
    return retention_out(retention(request.organization), of_installation=request.auth.operator)


@router.delete("/retention/{subject}", response=RetentionOut)
def clear_retention(
    request: ApiRequest, subject: str, organization: Literal["this", "all"] = "this", seen: str | None = None
) -> dict[str, Any]:
    """Take a rule back: the one for all, the environment or the default holds again."""
    rules.clear_rule(_whose(request, organization), subject, by=who(request), seen=seen)
    return retention_out(retention(request.organization), of_installation=request.auth.operator)
