"""`/api/events`: what was received, what it started, and the schemas of events."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from ninja import Router
from pydantic import Field

from workflows import presenters
from workflows.api.edge.auth import ApiKeyAuth, ApiRequest
from workflows.api.schemas.answers import EventDetailOut, EventSchemaOut, EventsOut, SchemaRemovedOut
from workflows.api.schemas.requests import Body
from workflows.selectors import events
from workflows.services import events as ingest

router = Router(auth=ApiKeyAuth(), tags=["events"], by_alias=True)


class SchemaIn(Body):
    """The form of the data of events of a name; another one is refused with the path of the error."""

    schema_: dict[str, Any] = Field(alias="schema")


@router.get("", response=EventsOut)
def list_events(
    request: ApiRequest,
    name: str = "",
    rejected: bool = False,
    unheard: bool = False,
    limit: int = 50,
    cursor: str = "",
) -> dict[str, Any]:
    """Events, newest first, page by page; with `rejected` only those that did not fit their schema, with `unheard` only
    those that nobody listened to."""
    page = events.events_page(
        request.organization, name=name, rejected=rejected, unheard=unheard, limit=limit, cursor=cursor
    )
    return {"events": [presenters.event_out(event) for event in page.events], "nextCursor": page.next_cursor or None}


@router.get("/schemas", response=list[EventSchemaOut])
def list_schemas(request: ApiRequest) -> list[dict[str, Any]]:
    """The schemas, by event name."""
    return [presenters.event_schema_out(row) for row in events.event_schemas(request.organization)]


@router.put("/schemas/{path:name}", response=EventSchemaOut)
def put_schema(request: ApiRequest, name: str, payload: SchemaIn) -> dict[str, Any]:
    """Set the schema of an event name."""
    return presenters.event_schema_out(ingest.put_schema(request.organization, name, payload.schema_))


@router.delete("/schemas/{path:name}", response=SchemaRemovedOut)
def delete_schema(request: ApiRequest, name: str) -> dict[str, Any]:
    """Remove a schema: events of the name may have any form again."""
    return {"removed": ingest.delete_schema(request.organization, name)}


@router.get("/{uuid:event_id}", response=EventDetailOut)
def get_event(request: ApiRequest, event_id: UUID) -> dict[str, Any]:
    """An event and the runs that it started; `outcome` says where nobody listened to its name."""
    return presenters.event_detail_out(events.event_detail(request.organization, event_id))
