"""`/api/approvals`: what waits for a person's decision, and deciding it."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from ninja import Router
from pydantic import Field

from workflows.api.edge.auth import ApiKeyAuth, ApiRequest
from workflows.api.schemas.answers import ApprovalsOut, DecisionOut
from workflows.api.schemas.requests import Body
from workflows.services import approvals
from workflows.services.approvals import Decider

router = Router(auth=ApiKeyAuth(), tags=["approvals"], by_alias=True)


class DecisionIn(Body):
    """The decision, and why."""

    decision: Literal["approve", "reject"]
    comment: str = Field("", max_length=4_000)
    as_operator: bool = Field(
        False, description="An operator's key decides in the place of the approvers; the answer says so."
    )


@router.get("", response=ApprovalsOut)
def list_approvals(request: ApiRequest) -> dict[str, Any]:
    """What waits for a decision, newest first (200 at most)."""
    found = approvals.waiting(request.organization)
    return {
        "approvals": [
            {**approvals.facts(each.wait), "flow": each.run.flow.slug, "workflow": each.run.flow.slug} for each in found
        ]
    }


@router.post("/{uuid:step_run_id}", response=DecisionOut)
def decide(request: ApiRequest, step_run_id: UUID, payload: DecisionIn) -> dict[str, Any]:
    """Approve or reject; the first decision counts. Answers the step's output."""
    key = request.auth
    by = Decider(name=f"key:{key.name}", roles=frozenset({f"key:{key.name}"}), everything=key.operator)
    return approvals.decide(
        request.organization,
        step_run_id,
        approve=payload.decision == "approve",
        comment=payload.comment,
        by=by,
        as_operator=payload.as_operator,
    )
