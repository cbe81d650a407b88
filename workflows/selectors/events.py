"""Reads of events, for screens and API."""

from __future__ import annotations

from collections import defaultdict
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


def names_with_schema(organization: Organization) -> list[str]:
    """The first MAX_PAGE names that have a schema."""
    found = EventSchema.objects.filter(organization=organization).order_by("name")
    return list(found.values_list("name", flat=True)[:MAX_PAGE])


@dataclass(frozen=True, kw_only=True)
class EventDetail:
    """An event and the runs that it started."""

    event: Event
    runs: list[Run]
    outcomes: list[TriggerOutcome]
    """Why flows that heard it have no run of its own."""
    flows: dict[UUID, str]
    """The slugs of their flows."""

    @property
    def is_unmatched(self) -> bool:
        """Whether the runs that it starts are not made yet."""
        return self.event.matched_at is None and not self.event.rejected


def event_detail(organization: Organization, event_id: UUID) -> EventDetail:
    """Raises EventNotFound."""
    found = event_details(organization, [event_id])
    if not found:
        raise EventNotFound
    return found[0]


def event_details(organization: Organization, event_ids: Sequence[UUID]) -> list[EventDetail]:
    """Those of the events that are there, in this order: four statements, however many they are."""
    events = Event.objects.filter(org_id=organization.id).in_bulk(event_ids)
    most = MAX_PAGE * len(events)
    of_them = {"event_id__in": list(events), "org_id": organization.id}
    runs: dict[UUID | None, list[Run]] = defaultdict(list)
    for run in Run.objects.filter(**of_them).select_related("flow", "version").order_by("id")[:most]:
        runs[run.event_id].append(run)
    outcomes: dict[UUID | None, list[TriggerOutcome]] = defaultdict(list)
    for outcome in TriggerOutcome.objects.filter(**of_them).order_by("id")[:most]:
        outcomes[outcome.event_id].append(outcome)
    heard = {each.flow_id for some in outcomes.values() for each in some}
    slugs = dict(Flow.objects.filter(id__in=heard).values_list("id", "slug"))
    return [
        EventDetail(
            event=events[id_], runs=runs[id_][:MAX_PAGE], outcomes=outcomes[id_][:MAX_PAGE],
            flows={each.flow_id: slugs[each.flow_id] for each in outcomes[id_] if each.flow_id in slugs},
        )
        for id_ in event_ids
        if id_ in events
    ]  # fmt: skip


def count_unmatched(organization: Organization, event_ids: Sequence[UUID]) -> int:
    """How many of these events are still to be matched."""
    return Event.objects.filter(org_id=organization.id, id__in=event_ids, matched_at=None).count()


def is_unmatched(organization: Organization, event_id: UUID) -> bool:
    """Whether there is this event, and the runs that it starts are not made yet."""
    return Event.objects.filter(org_id=organization.id, id=event_id, matched_at=None, rejected="").exists()
