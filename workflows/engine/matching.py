"""Matching stored events: by name (exact, `prefix/*`) and by the trigger's filter, in one pass for a group.

A group is matched together: one look at the triggers, one insert per trigger. Where that fails, each event is matched
by itself, so that a bad one harms no other. Events that can't be matched now are left to rescue.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from uuid import UUID

import psycopg
import structlog
from django.db import DatabaseError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from workflows.definitions.compiled import CompiledFlow
from workflows.engine import cancel_on, catalog, controls, idempotency, meeting, stopping, waits
from workflows.engine.controls import Refusal
from workflows.engine.dispatch import DISPATCHER
from workflows.engine.terms import MISSING, hash_of, value_at
from workflows.engine.trigger import NewRun, checked_start, trigger
from workflows.engine.waits import facts_of, patterns
from workflows.errors import ExpressionError, FlowPaused, IdempotencyConflict, InvalidInput, WorkflowsError
from workflows.expressions import compile_expression
from workflows.models import CancelRule, Event, Trigger

log = structlog.get_logger(__name__)
LEFT_OVER_AFTER_S = 2.0
GROUP = 500
GIVE_UP_AFTER_S = 600.0
_PASSING = (IdempotencyConflict, DatabaseError, psycopg.Error, LookupError, ValueError)
"""A lock that another transaction holds, a connection, a version that this process can't load: it is tried again."""


def match(event_ids: Sequence[UUID]) -> int:
    """Match stored events that nobody has matched yet. Returns how many runs were made."""
    with transaction.atomic():
        found = Event.objects.select_for_update(skip_locked=True).filter(id__in=event_ids, matched_at=None)
        events = sorted(found.order_by("id"), key=lambda event: (event.received_at, event.id))
        matched, effect = _match_group(events)
        Event.objects.filter(id__in=matched).update(matched_at=Now())
        if effect.cancelled:
            transaction.on_commit(lambda: stopping.settle(effect.cancelled, start=DISPATCHER.submit), robust=True)
        if effect.met:
            transaction.on_commit(lambda: meeting.resolve(effect.met, start=DISPATCHER.submit), robust=True)
        if effect.made:
            transaction.on_commit(lambda: _cancel_again(events), robust=True)
    return effect.made


def match_left_over() -> int:
    """Match the events whose process died after their commit, or that could not be matched then."""
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=LEFT_OVER_AFTER_S)
    left = Event.objects.filter(matched_at=None, received_at__lt=before).order_by("id")
    ids = list(left.values_list("id", flat=True)[:GROUP])
    return match(ids) if ids else 0


@dataclass(kw_only=True)
class _Effect:
    """What events did: how many runs they made, which they cancelled, and the step runs whose waits they ended."""

    made: int = 0
    cancelled: list[UUID] = field(default_factory=list)
    met: list[UUID] = field(default_factory=list)

    def add(self, more: _Effect) -> None:
        self.made += more.made
        self.cancelled += more.cancelled
        self.met += more.met


def _match_group(events: list[Event]) -> tuple[list[UUID], _Effect]:
    """The events that are matched now, and what they did."""
    if len(events) > 1:
        try:
            with transaction.atomic():
                return [event.id for event in events], _match_together(events)
        except (*_PASSING, WorkflowsError) as error:
            log.info("a group of events is matched one by one", events=len(events), reason=str(error))
    matched: list[UUID] = []
    effect = _Effect()
    for event in events:
        try:
            with transaction.atomic():
                effect.add(_match_together([event]))
        except _PASSING as error:
            age_s = (dt.datetime.now(dt.UTC) - event.received_at).total_seconds()
            log.warning("event can't be matched now", name=event.name, event_id=str(event.id), error=str(error))
            matched += [event.id] if age_s > GIVE_UP_AFTER_S else []
            continue
        matched.append(event.id)
    return matched, effect


def _match_together(events: list[Event]) -> _Effect:
    effect = _Effect()
    for org_id, group in groupby(sorted(events, key=lambda event: event.org_id), key=lambda event: event.org_id):
        of_org = list(group)
        names = {name for event in of_org for name in patterns(event.name)}
        at_address = {event.trigger_id for event in of_org if event.trigger_id}
        listening = Q(kind=Trigger.Kind.EVENT, event_name__in=names)
        if at_address:
            listening |= Q(kind=Trigger.Kind.WEBHOOK, id__in=at_address)
        triggers = Trigger.objects.filter(listening, organization_id=org_id, enabled=True)
        for found in triggers.select_related("flow__organization"):
            wanted = [event for event in of_org if _hears(found, event) and _passes(found, event)]
            if wanted and (found.flow.skips_arrivals or found.flow.organization.skips_arrivals):
                _skip(found, wanted)
            elif wanted and found.flow.current_id is not None:
                effect.made += _start(found, found.flow.current_id, wanted)
        effect.met += waits.meet(org_id, of_org)
        if CancelRule.objects.filter(organization_id=org_id, event_name__in=names).exists():
            for event in of_org:
                effect.cancelled += cancel_on.cancel_by(event, patterns(event.name), facts_of(event))
    return effect


def _skip(found: Trigger, events: Sequence[Event]) -> None:
    """The flow is paused, and what arrives starts nothing."""
    if found.flow.current_id is not None:
        refusals = [Refusal(code="paused", reason=str(FlowPaused()), event_id=event.id) for event in events]
        controls.note(catalog.flow_of(found.flow.current_id), found.organization_id, refusals)


def _hears(found: Trigger, event: Event) -> bool:
    if found.kind == Trigger.Kind.WEBHOOK:
        return found.id == event.trigger_id
    return found.event_name in patterns(event.name)


def _start(found: Trigger, version_id: UUID, events: Sequence[Event]) -> int:
    """A run for each event; those whose data does not fit the flow are left out, and the log says why."""
    flow = catalog.flow_of(version_id)
    try:
        return _start_together(found, flow, events)
    except IdempotencyConflict:
        raise
    except WorkflowsError as error:
        if len(events) == 1:
            log.warning("event does not start its flow", name=events[0].name, flow=flow.slug, error=str(error))
            refusal = Refusal(code="invalid", reason=str(error), event_id=events[0].id)
            controls.note(flow, found.organization_id, [refusal])
            return 0
    return sum(_start(found, version_id, [event]) for event in events)


def _start_together(found: Trigger, flow: CompiledFlow, events: Sequence[Event]) -> int:
    runs = [
        NewRun(
            input=event.data,
            event_id=event.id,
            event=facts_of(event),
            event_name=event.name,
            user_id=str(event.user.get("id", ""))[:200],
            keys=_keys(found, event),
            received_at=event.received_at,
            run_at=_starts_at(found, event),
        )
        for event in events
    ]
    with transaction.atomic():
        made = trigger(flow, runs, org_id=found.organization_id, kind=found.kind)
    return len(set(made.run_ids) - made.existing_ids - made.refused.keys())


def _starts_at(found: Trigger, event: Event) -> dt.datetime | None:
    """When the run of an event starts, where its trigger says so. Raises InvalidInput for what is no time."""
    delay_ms, source = found.config.get("delay_ms"), found.config.get("run_at")
    if delay_ms:
        return dt.datetime.now(dt.UTC) + dt.timedelta(milliseconds=delay_ms)
    if not source:
        return None
    value = compile_expression(source, owner=event.org_id).evaluate({"event": facts_of(event)})
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return checked_start(dt.datetime.fromtimestamp(value / 1000, dt.UTC))
        return checked_start(dt.datetime.fromisoformat(str(value)))
    except (ValueError, OverflowError, OSError):
        raise InvalidInput(f"run_at: `{source}` gives {value!r}, which is no time.") from None


def _keys(found: Trigger, event: Event) -> tuple[tuple[str, float], ...]:
    """By what an event is told from those that have come before."""
    keys = [idempotency.events(event.external_id)] if event.external_id else []
    path = found.config.get("match")
    value = value_at(facts_of(event), path) if path else MISSING
    if value is not MISSING:
        keys.append(idempotency.matches(path, hash_of(value)))
    return tuple(keys)


def _passes(found: Trigger, event: Event) -> bool:
    if not found.condition:
        return True
    try:
        return compile_expression(found.condition, owner=event.org_id).is_true({"event": facts_of(event)})
    except ExpressionError as error:
        log.warning("event filter fails", name=event.name, flow=found.flow.slug, error=str(error))
        return False


def _cancel_again(starters: Iterable[Event]) -> None:
    """An event that cancels what these have started may have been matched before their runs were there to be seen.

    Whoever commits second sees the other: it, by these runs; or these, by its `matched_at`.
    """
    cancelled: list[UUID] = []
    earliest: dict[UUID, dt.datetime] = {}
    for event in starters:
        earliest[event.org_id] = min(event.received_at, earliest.get(event.org_id, event.received_at))
    for org_id, since in earliest.items():
        names = list(CancelRule.objects.filter(organization_id=org_id).values_list("event_name", flat=True).distinct())
        if not names:
            continue
        wanted = Q(name__in=names)
        for name in names:
            wanted |= Q(name__startswith=name.removesuffix("*")) if name.endswith("*") else Q()
        later = Event.objects.filter(wanted, org_id=org_id, received_at__gte=since).exclude(matched_at=None)
        for event in later.order_by("received_at")[:GROUP]:
            cancelled += cancel_on.cancel_by(event, patterns(event.name), facts_of(event))
    stopping.settle(cancelled, start=DISPATCHER.submit)
