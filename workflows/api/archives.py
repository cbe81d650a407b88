"""Archiving flows, bringing them back, and deleting them."""

from __future__ import annotations

from typing import Any, Literal

from ninja import Router, Status

from workflows.api.edge.auth import ApiKeyAuth, ApiRequest, who
from workflows.api.schemas.runs import ArchivedOut, FlowRemovedOut
from workflows.services.flows import archiving

router = Router(auth=ApiKeyAuth(), tags=["workflows"], by_alias=True)


@router.post("/workflows/{slug}/archive", response=ArchivedOut)
def archive_flow(request: ApiRequest, slug: str) -> dict[str, Any]:
    """Archive a flow: it starts nothing any more; its versions and runs stay. Refused while something of it is open."""
    flow = archiving.archive(request.organization, slug, by=who(request))
    return {"slug": flow.slug, "archived": True}


@router.post("/workflows/{slug}/unarchive", response=ArchivedOut)
def unarchive_flow(request: ApiRequest, slug: str) -> dict[str, Any]:
    """Bring an archived flow back, with the triggers that it had."""
    flow = archiving.unarchive(request.organization, slug, by=who(request))
    return {"slug": flow.slug, "archived": False}


@router.delete("/workflows/{slug}", response={200: FlowRemovedOut, 202: FlowRemovedOut})
def delete_flow(request: ApiRequest, slug: str, history: Literal["keep", "delete"]) -> Status[dict[str, Any]]:
    """Delete a flow: with `history=keep` it is archived; with `history=delete` its versions, runs and dead letters go
    too, for good. 202: a long history is deleted in the background. Refused while something of it is open."""
    removal = archiving.delete(request.organization, slug, history=history, by=who(request))
    status = 200 if removal.is_done else 202
    return Status(status, {"slug": removal.slug, "history": removal.history, "done": removal.is_done})
