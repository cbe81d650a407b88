"""`/api/observed`: the application's own Celery tasks, outside of the promises that hold for flows."""

from __future__ import annotations

import datetime as dt
from typing import Any

from ninja import Router
from pydantic import Field

from workflows.api.edge.auth import ApiKeyAuth, ApiRequest
from workflows.api.schemas.runs import Out
from workflows.presenters.observed import observed_out
from workflows.selectors import observed

router = Router(auth=ApiKeyAuth(), tags=["observed"], by_alias=True)


class ObservedErrorOut(Out):
    name: str
    message: str


class ObservedOut(Out):
    id: str = Field(description="Celery's id.")
    name: str
    state: str = Field(
        description="sent, started, retrying, succeeded, failed, revoked, ignored, rejected, lost (the broker says so) "
        "or unknown (nothing was heard for an hour)."
    )
    queue: str | None
    worker: str | None
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    retries: int
    starts: int = Field(description="How often a worker has begun with it.")
    arguments: str | None = Field(description="Only with HEADRACE_OBSERVE_ARGUMENTS=1.")
    error: ObservedErrorOut | None
    sent_at: dt.datetime | None
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    seen_at: dt.datetime
    waited: float | None = Field(description="Seconds from its sending to its start.")
    duration: float | None = Field(description="Seconds from its last start to its end.")


class ObservedListOut(Out):
    tasks: list[ObservedOut]
    next_cursor: str | None


class ObservedDetailOut(ObservedOut):
    family: list[ObservedOut] = Field(description="The other tasks of its chain, group or chord; 500 at most.")


@router.get("", response=ObservedListOut)
def list_observed(
    request: ApiRequest, state: str = "", name: str = "", limit: int = 50, cursor: str = ""
) -> dict[str, Any]:
    """Observed tasks, those with the latest signs first, page by page."""
    page = observed.observed_page(request.organization, state=state, name=name, limit=limit, cursor=cursor)
    return {"tasks": [observed_out(task) for task in page.tasks], "nextCursor": page.next_cursor or None}


@router.get("/{path:task_id}", response=ObservedDetailOut)
def get_observed(request: ApiRequest, task_id: str) -> dict[str, Any]:
    """An observed task, with the others of its chain, group or chord."""
    task, *family = observed.observed_family(request.organization, task_id)
    return {**observed_out(task), "family": [observed_out(each) for each in family]}
