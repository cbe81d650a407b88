"""Cancel by event (`cancel_on`): an event that arrives cancels the live runs of a flow that it belongs to."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog

from workflows.engine.sql import events as sql
from workflows.engine.state import expression_context
from workflows.engine.state.transitions import runs as run_transitions
from workflows.errors import EncryptionKeyMissing
from workflows.expressions import compile_expression
from workflows.expressions.equality import MISSING, hash_of, keys_of, value_at
from workflows.models import CancelRule, Event
from workflows.sealing.envelope import check_open

log = structlog.get_logger(__name__)
PAGE = 500


def cancel_by(event: Event, names: Sequence[str], facts: dict[str, Any]) -> list[UUID]:
    """Set the cancel flag of every live run that the event cancels, made before it. Returns the runs, to be settled.

    `names`: the event's, and the patterns that it fits. `facts`: what expressions read of it as `async`.
    """
    rules = CancelRule.objects.filter(organization_id=event.org_id, event_name__in=names).select_related("flow")
    cancelled: list[UUID] = []
    for rule in rules:
        found = _candidates(rule, event, facts)
        if rule.condition:
            holding = _holding(rule, found, facts)
            found = [id_ for id_ in found if id_ in holding]
        if found:
            reason = f"by the event {event.name} {event.id}"
            cancelled += run_transitions.request_cancel(event.org_id, found, reason=reason)
    return cancelled


def _candidates(rule: CancelRule, event: Event, facts: dict[str, Any]) -> list[UUID]:
    value = value_at(facts, rule.match) if rule.match else None
    if value is MISSING:
        return []
    since = event.received_at - dt.timedelta(milliseconds=rule.timeout_ms) if rule.timeout_ms else None
    rows = sql.live_runs_where(
        org=event.org_id,
        flow=rule.flow_id,
        event=event.id,
        before=event.received_at,
        since=since,
        path=keys_of(rule.match) if rule.match else None,
        value=json.dumps(value),
    )
    return [row.id for row in rows if row.started_by is None or _is_same(row.started_by, rule.match, value)]


def _is_same(started_by: Any, match: str, value: Any) -> bool:
    """Whether the value at the path of what started a run, which is stored encrypted, is this one."""
    try:
        own = value_at(started_by, match)
        check_open(own)
    except EncryptionKeyMissing as error:  # it is about this run only
        log.warning("nobody can tell whether cancel_on holds", error=str(error))
        return False
    return own is not MISSING and hash_of(own) == hash_of(value)


def _holding(rule: CancelRule, run_ids: Sequence[UUID], facts: dict[str, Any]) -> set[UUID]:
    """The runs for which the rule's expression holds; a field that is not there makes it false."""
    holding: set[UUID] = set()
    try:
        expression = compile_expression(rule.condition, owner=rule.organization_id)
    except BaseException as error:  # a rule of earlier days: it cancels nothing, and keeps no other from it
        log.warning("cancel_on can't be evaluated", flow=rule.flow.slug, error=str(error))
        return holding
    for first in range(0, len(run_ids), PAGE):
        for run_id, loaded in expression_context.load(run_ids[first : first + PAGE], ()).items():
            try:
                if expression.is_true({"event": loaded["event"], "async": facts}):
                    holding.add(run_id)
            except BaseException as error:  # whatever it is, it is about this run only
                log.info("cancel_on does not hold", flow=rule.flow.slug, run_id=str(run_id), error=str(error))
    return holding
