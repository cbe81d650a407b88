"""Matching stored events: by name (exact, `prefix/*`) and by the trigger's filter, in one pass for a group.

A group is matched together: one look at the triggers, one insert per trigger. Where that fails, it is halved until the
bad event stands alone, so that it harms no other; and a flow that a bad event can't start keeps no other flow from it.
Events that can't be matched now are left to rescue.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from uuid import UUID

import structlog
from django.db import transaction

from workflows.definitions.compiled import CompiledFlow
from workflows.edge.unavailable import is_database_away, may_pass
from workflows.engine.events import cancel_on
from workflows.engine.events.names import may_fit, patterns
from workflows.engine.maintenance import sweeps
from workflows.engine.pipeline import dispatcher
from workflows.engine.pipeline.facts import facts_of, user_id_of
from workflows.engine.pipeline.trigger import NewRun, checked_start, trigger
from workflows.engine.run_controls import controls, idempotency, stopping
from workflows.engine.run_controls.controls import Refusal
from workflows.engine.sql import events as sql
from workflows.engine.sql.events import ListeningTriggersRow, TakeUnmatchedRow
from workflows.engine.state import flow_cache
from workflows.engine.waits import resolve, waits
from workflows.errors import EncryptionKeyMissing, FlowPaused, InvalidInput, WorkflowsError
from workflows.expressions import compile_expression
from workflows.expressions.equality import MISSING, hash_of, value_at
from workflows.models import Event, Trigger
from workflows.sealing.envelope import check_open

log = structlog.get_logger(__name__)
LEFT_OVER_AFTER_S = 2.0
GROUP = 500
BATCH = 2_000
LEFT_OVER = "left-over events"


def match(event_ids: Sequence[UUID]) -> int:
    """Match stored events that nobody has matched yet. Returns how many runs were made.

    An event that can't be matched now is left to rescue.
    """
    return _in_one_transaction(event_ids, _match_apart)


def match_left_over() -> int:
    """Match the events whose process died after their commit, or that could not be matched then. Returns how many."""
    rows = sql.left_over_events(
        late_s=LEFT_OVER_AFTER_S, each=GROUP, batch=BATCH, put_off=sweeps.ledger().put_off(LEFT_OVER)
    )
    return sweeps.isolated(
        sweeps.Items(
            name=LEFT_OVER,
            work=lambda some: _in_one_transaction([row.id for row in some], _match_all),
            key=sweeps.row_id,
            org=sweeps.row_org,
            group=GROUP,
            give_up=lambda row, _: _in_one_transaction([row.id], _match_what_can_be),
            stays=lambda error: isinstance(error, EncryptionKeyMissing),
        ),
        [sweeps.Row(row.id, row.org_id) for row in rows],
    )


@dataclass(kw_only=True)
class _Effect:
    """What events did: how many runs they made, which they cancelled, and the step runs whose waits they ended.

    `unheard`: the events that nobody listens to.
    """

    made: int = 0
    cancelled: list[UUID] = field(default_factory=list)
    met: list[UUID] = field(default_factory=list)
    unheard: set[UUID] = field(default_factory=set)

    def add(self, more: _Effect) -> None:
        self.made += more.made
        self.cancelled += more.cancelled
        self.met += more.met
        self.unheard |= more.unheard


Matched = tuple[list[UUID], _Effect]
"""The events that are matched now, and what they did."""


def _in_one_transaction(event_ids: Sequence[UUID], how: Callable[[list[Event]], Matched]) -> int:
    with transaction.atomic():
        found = [Event.from_db("default", TakeUnmatchedRow._fields, row) for row in sql.take_unmatched(ids=event_ids)]
        if not found:
            return 0
        events = sorted(found, key=lambda event: (event.received_at, event.id))
        matched, effect = how(events)
        sql.mark_matched(ids=matched, unheard=effect.unheard)
        if effect.cancelled:
            dispatcher.after_commit(lambda: stopping.stop_runs(effect.cancelled))
        if effect.met:
            dispatcher.after_commit(lambda: resolve.resolve(effect.met))
        if effect.made:
            dispatcher.after_commit(lambda: _cancel_again(events))
    return effect.made


def _match_all(events: list[Event]) -> Matched:
    """All of the events, or an error."""
    return [event.id for event in events], _match_together(events)


def _match_apart(events: list[Event]) -> Matched:
    """All of the events together; in halves where that fails, so that a bad one harms no other."""
    if not events:
        return [], _Effect()
    try:
        with transaction.atomic():
            return _match_all(events)
    except BaseException as error:
        if is_database_away(error):
            raise
        if len(events) == 1:
            log.warning("event can't be matched now", name=events[0].name, event_id=str(events[0].id), error=str(error))
            return [], _Effect()
        log.info("a group of events is matched in halves", events=len(events), reason=str(error))
    middle = len(events) // 2
    matched, effect = _match_apart(events[:middle])
    more, further = _match_apart(events[middle:])
    effect.add(further)
    return [*matched, *more], effect


def _match_what_can_be(events: list[Event]) -> Matched:
    """Events that are given up: each flow that can be started is, and what fails is left out."""
    return [event.id for event in events], _match_together(events, giving_up=True)


def _match_together(events: list[Event], *, giving_up: bool = False) -> _Effect:
    effect = _Effect()
    for org_id, group in groupby(sorted(events, key=lambda event: event.org_id), key=lambda event: event.org_id):
        of_org = list(group)
        if not giving_up:
            check_open([(event.data, event.user) for event in of_org])
        names = {name for event in of_org for name in patterns(event.name)}
        heard: set[UUID] = set()
        addressed = {event.trigger_id for event in of_org if event.trigger_id}
        for found in sql.listening_triggers(org=org_id, names=names, addressed=addressed):
            hearing = [event for event in of_org if _hears(found, event)]
            heard.update(event.id for event in hearing)
            wanted = [event for event in hearing if _passes(found, event)]
            if wanted and found.skips_arrivals:
                _skip(found, wanted)
            elif wanted and found.version_id is not None:
                effect.made += _start(found, found.version_id, wanted, giving_up=giving_up)
        awaited = {row.name: row for row in sql.awaited_names(org=org_id, names=names)}
        effect.unheard.update(
            event.id
            for event in of_org
            if event.id not in heard and not (awaited and awaited.keys() & patterns(event.name))
        )
        if any(row.is_awaited for row in awaited.values()):
            with _left_out(giving_up, "waits"):
                effect.met += waits.meet(org_id, of_org)
        if any(row.cancels for row in awaited.values()):
            with _left_out(giving_up, "cancel_on"):
                for event in of_org:
                    effect.cancelled += cancel_on.cancel_by(event, patterns(event.name), facts_of(event))
    return effect


@contextlib.contextmanager
def _left_out(giving_up: bool, what: str) -> Iterator[None]:
    """What fails in here is left out of events that are given up; of others it is an error."""
    if not giving_up:
        yield
        return
    try:
        with transaction.atomic():
            yield
    except BaseException as error:
        if is_database_away(error):
            raise
        log.error("an event is given up", left_out=what, error=sweeps.reason_of(error))


def _skip(found: ListeningTriggersRow, events: Sequence[Event]) -> None:
    """The flow is paused, and what arrives starts nothing."""
    if found.version_id is not None:
        _record_refusals(
            found, [Refusal(code="paused", reason=str(FlowPaused()), event_id=event.id) for event in events]
        )


def _record_refusals(found: ListeningTriggersRow, refusals: Sequence[Refusal]) -> None:
    controls.record_refusals(found.flow_id, found.org_id, refusals)


def _hears(found: ListeningTriggersRow, event: Event) -> bool:
    if found.kind == Trigger.Kind.WEBHOOK:  # a delivery from before its trigger was removed counts
        return found.id == event.trigger_id and (found.removed_at is None or event.received_at <= found.removed_at)
    return found.event_name in patterns(event.name)


def _start(found: ListeningTriggersRow, version_id: UUID, events: Sequence[Event], *, giving_up: bool) -> int:
    """A run for each event; those that can't start the flow are left out, and the log and the event say why."""
    try:
        return _start_together(found, flow_cache.flow_of(version_id), events)
    except BaseException as error:
        if is_database_away(error) or (may_pass(error) and not giving_up):
            raise
        if len(events) == 1:
            log.warning("event does not start its flow", name=events[0].name, flow=found.flow_slug, error=str(error))
            reason = str(error) if isinstance(error, WorkflowsError) else sweeps.reason_of(error)
            _record_refusals(found, [Refusal(code="invalid", reason=reason, event_id=events[0].id)])
            return 0
    return sum(_start(found, version_id, [event], giving_up=giving_up) for event in events)


def _start_together(found: ListeningTriggersRow, flow: CompiledFlow, events: Sequence[Event]) -> int:
    runs = [
        NewRun(
            input=event.data,
            event_id=event.id,
            event=facts_of(event),
            event_name=event.name,
            user_id=user_id_of(event.user),
            keys=_keys(found, event),
            received_at=event.received_at,
            run_at=_starts_at(found, event),
        )
        for event in events
    ]
    made = trigger(flow, runs, org_id=found.org_id, kind=found.kind)  # all or nothing
    return len(set(made.run_ids) - made.existing_ids - made.refused.keys())


def _starts_at(found: ListeningTriggersRow, event: Event) -> dt.datetime | None:
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


def _keys(found: ListeningTriggersRow, event: Event) -> tuple[tuple[str, float], ...]:
    """The idempotency keys of an event: its own id, and the value at the trigger's `match`."""
    keys = [idempotency.events(event.external_id, delivered=event.trigger_id is not None)] if event.external_id else []
    path = found.config.get("match")
    value = value_at(facts_of(event), path) if path else MISSING
    if value is not MISSING:
        keys.append(idempotency.matches(path, hash_of(value)))
    return tuple(keys)


def _passes(found: ListeningTriggersRow, event: Event) -> bool:
    if not found.condition:
        return True
    try:
        return compile_expression(found.condition, owner=event.org_id).is_true({"event": facts_of(event)})
    except BaseException as error:  # whatever it is, it is about this flow only
        log.warning("event filter fails", name=event.name, flow=found.flow_slug, error=str(error))
        return False


def _cancel_again(starters: Iterable[Event]) -> None:
    """Cancel the runs of these events where a cancelling event was matched before their runs were committed.

    The one that commits second sees the other: the cancelling event sees the runs, or these see its `matched_at`.
    """
    cancelled: list[UUID] = []
    earliest: dict[UUID, dt.datetime] = {}
    for event in starters:
        earliest[event.org_id] = min(event.received_at, earliest.get(event.org_id, event.received_at))
    for org_id, since in earliest.items():
        names = [row.name for row in sql.cancelling_names(org=org_id)]
        if not names:
            continue
        later = Event.objects.filter(may_fit(names), org_id=org_id, received_at__gte=since).exclude(matched_at=None)
        for event in later.order_by("received_at")[:GROUP]:
            cancelled += cancel_on.cancel_by(event, patterns(event.name), facts_of(event))
    stopping.stop_runs(cancelled)
