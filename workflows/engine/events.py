"""Events: stored first, matched after their commit; each match makes a run in the transaction that marks the event.

Matching is by name (exact, or `prefix/*`) and by the trigger's CEL filter, one pass for a group of events.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
import structlog
import uuid6
from django.db import DatabaseError, transaction
from django.db.models import Q

from workflows.engine import cancel_on, catalog, idempotency, stopping
from workflows.engine.dispatch import DISPATCHER
from workflows.engine.trigger import NewRun, trigger
from workflows.errors import ExpressionError, IdempotencyConflict, WorkflowsError
from workflows.expressions import compile_expression
from workflows.models import CancelRule, Event, Trigger
from workflows.payload import MAX_EVENT_BYTES, dump

log = structlog.get_logger(__name__)
LEFT_OVER_AFTER_S = 2.0
GROUP = 500
GIVE_UP_AFTER_S = 600.0
_PASSING = (IdempotencyConflict, DatabaseError, psycopg.Error, LookupError, ValueError)
"""A lock that another transaction holds, a connection, a version that this process can't load: it is tried again."""


@dataclass(frozen=True, kw_only=True)
class NewEvent:
    """An event as it was received. `ts`: when it happened, now if the sender does not say."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    user: dict[str, Any] = field(default_factory=dict)
    ts: dt.datetime | None = None
    external_id: str = ""
    id: UUID = field(default_factory=uuid6.uuid7)


def receive(org_id: UUID, events: Sequence[NewEvent]) -> list[UUID]:
    """Store the events, all or none, and match them after the commit. An id that is stored already is left alone.

    Raises InvalidOutput or PayloadTooLarge for data that can't be stored.
    """
    for event in events:
        dump({"data": event.data, "user": event.user}, what=f"The event {event.name}", limit_bytes=MAX_EVENT_BYTES)
    now = dt.datetime.now(dt.UTC)
    with transaction.atomic():
        Event.objects.bulk_create(
            [
                Event(
                    id=event.id,
                    org_id=org_id,
                    name=event.name,
                    data=event.data,
                    user=event.user,
                    ts=event.ts or now,
                    external_id=event.external_id,
                )
                for event in events
            ],
            ignore_conflicts=True,
        )
        ids = [event.id for event in events]
        transaction.on_commit(lambda: match(ids), robust=True)
    return ids


def match(event_ids: Sequence[UUID]) -> int:
    """Match stored events that nobody has matched yet. Returns how many runs were made."""
    made = 0
    with transaction.atomic():
        events = list(
            Event.objects.select_for_update(skip_locked=True).filter(id__in=event_ids, matched_at=None).order_by("id")
        )
        cancelled: list[UUID] = []
        matched: list[UUID] = []
        for event in sorted(events, key=lambda event: (event.received_at, event.id)):
            try:
                with transaction.atomic():
                    stopped = cancel_on.cancel_by(event, _names(event), _facts(event))
                    made += _match_one(event)
            except _PASSING as error:
                age_s = (dt.datetime.now(dt.UTC) - event.received_at).total_seconds()
                log.warning("event can't be matched now", name=event.name, event_id=str(event.id), error=str(error))
                matched += [event.id] if age_s > GIVE_UP_AFTER_S else []
                continue
            cancelled += stopped
            matched.append(event.id)
        Event.objects.filter(id__in=matched).update(matched_at=dt.datetime.now(dt.UTC))
        if cancelled:
            transaction.on_commit(lambda: stopping.settle(cancelled, start=DISPATCHER.submit), robust=True)
        if made:
            transaction.on_commit(lambda: _cancel_again(events), robust=True)
    return made


def match_left_over() -> int:
    """Match the events whose process died after their commit, or that could not be matched then."""
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=LEFT_OVER_AFTER_S)
    left = Event.objects.filter(matched_at=None, received_at__lt=before).order_by("id")
    ids = list(left.values_list("id", flat=True)[:GROUP])
    return match(ids) if ids else 0


def _cancel_again(starters: Sequence[Event]) -> None:
    """An event that cancels what these have started may have been matched before their runs were there to be seen.

    Whoever commits second sees the other: it, by these runs; or these, by its `matched_at`.
    """
    cancelled: list[UUID] = []
    for org_id in {event.org_id for event in starters}:
        names = list(CancelRule.objects.filter(organization_id=org_id).values_list("event_name", flat=True).distinct())
        if not names:
            continue
        wanted = Q(name__in=names)
        for name in names:
            wanted |= Q(name__startswith=name.removesuffix("*")) if name.endswith("*") else Q()
        since = min(event.received_at for event in starters if event.org_id == org_id)
        later = Event.objects.filter(wanted, org_id=org_id, received_at__gte=since).exclude(matched_at=None)
        for event in later.order_by("received_at")[:GROUP]:
            cancelled += cancel_on.cancel_by(event, _names(event), _facts(event))
    stopping.settle(cancelled, start=DISPATCHER.submit)


def _names(event: Event) -> list[str]:
    """The event's name, and the patterns that it fits."""
    return [event.name, *(f"{event.name[:i]}/*" for i, character in enumerate(event.name) if character == "/"), "*"]


def _facts(event: Event) -> dict[str, Any]:
    """What expressions read of an event."""
    return {
        "id": str(event.id),
        "name": event.name,
        "data": event.data,
        "user": event.user,
        "ts": int(event.ts.timestamp() * 1000),
    }


def _match_one(event: Event) -> int:
    names = _names(event)
    triggers = Trigger.objects.filter(
        organization_id=event.org_id, kind=Trigger.Kind.EVENT, enabled=True, event_name__in=names
    ).select_related("flow")
    made = 0
    for found in triggers:
        if found.flow.current_id is None or not _passes(found, event):
            continue
        compiled = catalog.flow_of(found.flow.current_id)
        facts = _facts(event)
        try:
            with transaction.atomic():
                trigger(
                    compiled,
                    [NewRun(input=event.data, event_id=event.id, event=facts, keys=_keys(event))],
                    org_id=event.org_id,
                    kind="event",
                    event_name=event.name,
                    user_id=str(event.user.get("id", ""))[:200],
                )
            made += 1
        except IdempotencyConflict:
            raise
        except WorkflowsError as error:
            log.warning("event does not start its flow", name=event.name, flow=found.flow.slug, error=str(error))
    return made


def _keys(event: Event) -> tuple[tuple[str, float], ...]:
    """An event that its sender sends again, under the same id, starts no second run."""
    return (idempotency.events(event.external_id),) if event.external_id else ()


def _passes(found: Trigger, event: Event) -> bool:
    if not found.condition:
        return True
    try:
        return compile_expression(found.condition).is_true({"event": _facts(event)})
    except ExpressionError as error:
        log.warning("event filter fails", name=event.name, flow=found.flow.slug, error=str(error))
        return False
