"""What the pages of events show: the stream with what each event made, and which flows hear one."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Q

from workflows.edge.values import identifier, refuse_unstorable
from workflows.engine.events.names import patterns
from workflows.engine.pipeline.facts import facts_of
from workflows.errors import ExpressionError, InvalidInput
from workflows.expressions import compile_expression
from workflows.models import Event, EventSchema, Organization, Run, Trigger, TriggerOutcome
from workflows.selectors.run_lists import narrowed
from workflows.selectors.runs import page_by_id

SHOWN = 50
SEARCHED = 10_000
SCHEMAS_SHOWN = 200
MOST_HEARD = 5_000
MOST_NEW = 100
"""More new events are not counted."""
MOST_LISTENERS = 100
KINDS = {"": "all", "rejected": "refused by their schema", "unheard": "that nobody listened to"}


@dataclass(kw_only=True)
class EventRow:
    """An event in the stream, without its payload. `outcomes`: by code, of how many flows it has no run of its own."""

    event: Event
    runs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def outcome_counts(self) -> list[tuple[str, int]]:
        return sorted(self.outcomes.items())

    @property
    def state(self) -> str:
        """One word for what became of it."""
        if self.event.rejected:
            return "rejected"
        if self.event.matched_at is None:
            return "pending"
        if self.event.unheard:
            return "unheard"
        return "matched"


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Some events, newest first, and the cursor of the next page. `searched_to`: older ones were not looked at yet."""

    rows: list[EventRow]
    following: str
    searched_to: dt.datetime | None = None


def stream(organization: Organization, *, name: str = "", kind: str = "", cursor: str = "") -> Stream:
    """A page of events. Those that were refused have no index: so many of the newest are looked through at a time.

    Raises InvalidInput for what can't be read.
    """
    if kind not in KINDS:
        raise InvalidInput(f"kind {kind!r} is unknown; use {', '.join(filter(None, KINDS))}, or nothing.")
    refuse_unstorable(name=name)
    found = Event.objects.filter(org_id=organization.id)
    last: Event | None = None
    if kind == "rejected":
        ids = found.filter(id__lt=identifier(cursor, "cursor")) if cursor else found
        last = ids.only("id", "received_at").order_by("-id")[SEARCHED - 1 : SEARCHED].first()
        found = (found.filter(id__gte=last.id) if last else found).exclude(rejected="")
    elif kind == "unheard":
        found = found.filter(unheard=True)
    if name:
        found = narrowed(found.filter(name=name), "-received_at")
    events, following = page_by_id(found.defer("data", "user"), limit=SHOWN, cursor=cursor)
    rows = _with_results(organization, events)
    if last is None or following:
        return Stream(rows=rows, following=following)
    return Stream(rows=rows, following=str(last.id), searched_to=last.received_at)


def _with_results(organization: Organization, events: Sequence[Event]) -> list[EventRow]:
    rows = {event.id: EventRow(event=event) for event in events}
    runs = Run.objects.filter(event_id__in=rows, org_id=organization.id)
    for made_by in runs.values_list("event_id", flat=True):
        if made_by is not None:
            rows[made_by].runs += 1
    outcomes = TriggerOutcome.objects.filter(event_id__in=rows, org_id=organization.id)
    for joined, code in outcomes.values_list("event_id", "code"):
        if joined is not None:
            rows[joined].outcomes[code] += 1
    return list(rows.values())


def count_new(organization: Organization, after: UUID) -> int:
    """How many events came after this one, counted up to MOST_NEW."""
    newer = Event.objects.filter(org_id=organization.id, id__gt=after).order_by("id")
    return len(newer.values_list("id")[:MOST_NEW])


@dataclass(frozen=True, kw_only=True)
class Listener:
    """A trigger that hears an event's name now. `verdict`: whether its condition holds for the event, in words."""

    flow: str
    trigger: str
    pattern: str
    condition: str
    verdict: str
    holds: bool


def listeners(organization: Organization, event: Event) -> list[Listener]:
    """The triggers that hear the event's name as they are now (they may have been others when it came)."""
    heard = Q(kind=Trigger.Kind.EVENT, event_name__in=patterns(event.name))
    if event.trigger_id:
        heard |= Q(id=event.trigger_id)
    found = Trigger.objects.select_related("flow").filter(heard, organization=organization)
    facts = facts_of(event)
    rows = []
    for each in found.order_by("flow__slug", "position")[:MOST_LISTENERS]:
        verdict, holds = _verdict(each, facts)
        rows.append(
            Listener(
                flow=each.flow.slug,
                trigger=each.key,
                pattern=each.event_name,
                condition=each.condition,
                verdict=verdict,
                holds=holds,
            )
        )
    return rows


def _verdict(trigger: Trigger, facts: dict[str, Any]) -> tuple[str, bool]:
    if trigger.flow.archived_at is not None:
        return "the flow is archived", False
    if not trigger.enabled:
        return "the trigger is off", False
    if trigger.flow.current_id is None:
        return "nothing of the flow is published", False
    if not trigger.condition:
        return "it has no condition", True
    try:
        holds = compile_expression(trigger.condition, owner=trigger.organization_id).is_true({"event": facts})
    except ExpressionError as error:
        return f"its condition can't be evaluated: {error}", False
    return ("its condition holds", True) if holds else ("its condition is false", False)


def listens_in(events: Sequence[str], organization: Organization) -> dict[str, list[str]]:
    """By event name, the slugs of the flows that hear it, from their first MOST_HEARD triggers."""
    found: dict[str, list[str]] = defaultdict(list)
    names: dict[str, list[str]] = defaultdict(list)
    for name in events:
        for pattern in patterns(name):
            names[pattern].append(name)
    triggers = Trigger.objects.filter(
        organization=organization, kind=Trigger.Kind.EVENT, event_name__in=names, flow__archived_at=None
    )
    for pattern, slug in triggers.order_by("flow__slug").values_list("event_name", "flow__slug")[:MOST_HEARD]:
        for name in names[pattern]:
            if found[name][-1:] != [slug]:  # they come by their slugs
                found[name].append(slug)
    return found


def schemas(organization: Organization, search: str) -> tuple[list[EventSchema], bool]:
    """The first schemas of events with this in their names, and whether there are more."""
    refuse_unstorable(search=search)
    found = EventSchema.objects.filter(organization=organization, name__icontains=search).defer("schema")
    rows = list(found.order_by("name")[: SCHEMAS_SHOWN + 1])
    return rows[:SCHEMAS_SHOWN], len(rows) > SCHEMAS_SHOWN


def schema(organization: Organization, name: str) -> EventSchema | None:
    """The schema of an event name."""
    refuse_unstorable(name=name)
    return EventSchema.objects.filter(organization=organization, name=name).first()
