"""Reads of events, for screens and API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from workflows.edge.values import MAX_PAGE, refuse_unstorable
from workflows.errors import EventNotFound
from workflows.models import Event, EventSchema, Flow, Organization, Run, TriggerOutcome
from workflows.selectors.run_lists import narrowed
from workflows.selectors.runs import page_by_id


@dataclass(frozen=True, kw_only=True)
class EventPage:
    """Some events, and the cursor of the next page (empty at the end)."""

    events: list[Event]
    next_cursor: str


def events_page(
    organization: Organization,
    *,
    name: str = "",
    rejected: bool = False,
    unheard: bool = False,
    limit: int = 50,
    cursor: str = "",
) -> EventPage:
    """One page, newest first; `unheard`: of those that nobody listened to.

    Raises InvalidInput for a bad limit or cursor.
    """
    refuse_unstorable(name=name)
    found = Event.objects.filter(org_id=organization.id)
    if name:
        found = narrowed(found.filter(name=name), "-received_at")
    if rejected:
        found = found.exclude(rejected="")
    if unheard:
        found = found.filter(unheard=True)
    events, next_cursor = page_by_id(found, limit=limit, cursor=cursor)
    return EventPage(events=events, next_cursor=next_cursor)


def event_schemas(organization: Organization) -> list[EventSchema]:
    """The schemas, by event name."""
    return list(EventSchema.objects.filter(organization=organization))


@dataclass(frozen=True, kw_only=True)
class EventDetail:
    """An event and the runs that it started."""

    event: Event
    runs: list[Run]
    outcomes: list[TriggerOutcome]
    """Why flows that heard it have no run of its own."""
    flows: dict[UUID, str]
    """The slugs of their flows."""


def event_detail(organization: Organization, event_id: UUID) -> EventDetail:
    """Raises EventNotFound."""
    event = Event.objects.filter(org_id=organization.id, id=event_id).first()
    if event is None:
        raise EventNotFound
    runs = Run.objects.filter(event_id=event_id, org_id=organization.id).select_related("flow", "version")
    outcomes = list(TriggerOutcome.objects.filter(event_id=event_id, org_id=organization.id).order_by("id")[:MAX_PAGE])
    slugs = dict(Flow.objects.filter(id__in=[each.flow_id for each in outcomes]).values_list("id", "slug"))
    return EventDetail(event=event, runs=list(runs.order_by("id")[:MAX_PAGE]), outcomes=outcomes, flows=slugs)


def count_unmatched(organization: Organization, event_ids: Sequence[UUID]) -> int:
    """How many of these events are still to be matched."""
    return Event.objects.filter(org_id=organization.id, id__in=event_ids, matched_at=None).count()


def is_unmatched(organization: Organization, event_id: UUID) -> bool:
    """Whether there is this event, and the runs that it starts are not made yet."""
    return Event.objects.filter(org_id=organization.id, id=event_id, matched_at=None, rejected="").exists()
