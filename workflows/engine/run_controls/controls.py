"""What decides whether and when a run is made: debounce, batch, singleton and rate_limit of its flow.

Everything happens in the transaction that makes the runs, under locks by flow and key, and so is exact over all
processes. A run that gathers events is a delayed run that exists from the first of them on. Order: gathering, then
`singleton`, then `rate_limit`; idempotency keys have been looked at before.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from django.utils import timezone

from throttling.errors import ThrottlingError
from throttling.limits import key_text
from workflows.definitions.compiled import CompiledFlow
from workflows.engine.run_controls.keys import why_unusable
from workflows.engine.sql import run_controls as sql
from workflows.engine.sql import services as services_sql
from workflows.engine.state import sealed
from workflows.engine.state.records import Candidate
from workflows.engine.state.transitions import runs as run_transitions
from workflows.errors import ExpressionError, InvalidInput
from workflows.models import TriggerOutcome
from workflows.payload import dump

MAX_BATCH_BYTES = 4 * 1024 * 1024
MAX_GATHER_KEY = 64
"""Characters of the column."""
NOT_KEPT = "It does not fit what the flow asks for. (What exactly is not kept: payloads are stored encrypted.)"
Code = Literal["rate_limited", "singleton", "debounced", "batched", "duplicate", "paused", "invalid"]


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a wanted run is not made; `run_id`: the one that stands in its place, or that its event has joined."""

    code: Code
    reason: str
    run_id: UUID | None = None
    event_id: UUID | None = None
    retry_after_s: float | None = None


@dataclass(kw_only=True)
class Decision:
    """Which runs to make, why not the others, and the live runs that were cancelled for new ones (to be settled)."""

    make: list[Candidate] = field(default_factory=list)
    refused: dict[UUID, Refusal] = field(default_factory=dict)
    cancelled: list[UUID] = field(default_factory=list)


def decide(flow: CompiledFlow, org_id: UUID, wanted: Sequence[Candidate]) -> Decision:
    """Apply a flow's controls to runs that are wanted. Raises InvalidInput for a key that can't be used."""
    controls, decision = flow.controls, Decision(make=list(wanted))
    keys = {
        name: [_key(flow, name, each.facts) for each in wanted]
        for name in ("debounce", "batch", "singleton", "rate_limit")
        if getattr(controls, name) is not None
    }
    locked = [f"{name}:{key}" for name, found in keys.items() for key in found]
    services_sql.lock_controls(flow=flow.flow_id, keys=locked)
    if controls.debounce:
        _debounce(flow, decision, keys["debounce"])
    if controls.batch:
        _batch(flow, decision, [f"batch:{key}"[:MAX_GATHER_KEY] for key in keys["batch"]])  # apart from a debounce's
    by_id = {each.id: position for position, each in enumerate(wanted)}
    if controls.singleton:
        _singleton(flow, org_id, decision, {each.id: keys["singleton"][by_id[each.id]] for each in decision.make})
    if controls.rate_limit:
        _rate_limit(flow, decision, {each.id: keys["rate_limit"][by_id[each.id]] for each in decision.make})
    return decision


def _key(flow: CompiledFlow, name: str, facts: Mapping[str, Any]) -> str:
    """The value of a control's key, hashed; of one without a key, the same for all."""
    expression = flow.controls.keys.get(name)
    if expression is None:
        return "*"
    try:
        text = key_text(expression.evaluate(facts))
    except (ExpressionError, ThrottlingError) as error:
        reason = why_unusable(error, expression.source)
        raise InvalidInput(f"The key of the flow's {name} can't be used: {reason}") from None
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _groups(decision: Decision, keys: Sequence[str]) -> dict[str, list[Candidate]]:
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for key, candidate in zip(keys, decision.make, strict=True):
        groups[key].append(candidate)
    return groups


def _debounce(flow: CompiledFlow, decision: Decision, keys: Sequence[str]) -> None:
    spec = flow.controls.debounce
    assert spec is not None
    groups, now = _groups(decision, keys), timezone.now()
    decision.make = []
    for key, group in sorted(groups.items()):
        _, _, last = max((each.received_at or now, position, each) for position, each in enumerate(group))
        rows = sql.debounce_run(
            received_at=last.received_at or now,
            flow=flow.flow_id,
            key=key,
            input=sealed.run_input(last.text, flow.org_id),
            event_id=last.event_id,
            event_name=last.event_name,
            user_id=last.user_id,
            priority=last.priority,
            tags=last.tags,
            period_s=spec.period / 1000,
            timeout_s=spec.timeout / 1000 if spec.timeout else None,
            start_ms=flow.start_ms,
        )
        run_id = rows[0].id if rows else last.id
        for each in group if rows else [each for each in group if each is not last]:
            decision.refused[each.id] = _joined("debounced", each, run_id)
        if rows:
            continue
        sql.stop_gathering(flow=flow.flow_id, key=key)
        last.gather_key, last.gathered = key, len(group)
        last.newest_at = last.received_at or now
        last.run_at = timezone.now() + dt.timedelta(milliseconds=spec.period)
        decision.make.append(last)


def _joined(code: Code, candidate: Candidate, run_id: UUID) -> Refusal:
    what = {"debounced": "The debounced run", "batched": "The batch"}[code]
    return Refusal(code=code, reason=f"{what} {run_id} has it.", run_id=run_id, event_id=candidate.event_id)


def _batch(flow: CompiledFlow, decision: Decision, keys: Sequence[str]) -> None:
    groups = _groups(decision, keys)
    decision.make = []
    for key, group in sorted(groups.items()):
        _gather(flow, decision, key, group)


def _gather(flow: CompiledFlow, decision: Decision, key: str, group: list[Candidate]) -> None:
    """Fill the run that gathers these events, and begin others for what does not fit."""
    spec = flow.controls.batch
    assert spec is not None
    known = sql.gathering_room(flow=flow.flow_id, key=key)
    room = spec.max_size - known[0].gathered if known else 0
    position = 0
    if room > 0:
        part = group[:room]
        rows = sql.join_batch(
            flow=flow.flow_id,
            key=key,
            events=sealed.elements(_events(part), flow.org_id),
            number=len(part),
            max_size=spec.max_size,
            max_bytes=MAX_BATCH_BYTES,
        )
        if rows:
            position = len(part)
            decision.refused |= {each.id: _joined("batched", each, rows[0].id) for each in part}
    if position == len(group):
        return
    sql.stop_gathering(flow=flow.flow_id, key=key)
    for first in range(position, len(group), spec.max_size):
        part = group[first : first + spec.max_size]
        head = part[0]
        head.text = dump(
            {"events": [each.facts["event"] for each in part]}, what="The batch", limit_bytes=MAX_BATCH_BYTES * 2
        )
        head.gathered = len(part)
        if len(part) < spec.max_size:
            head.gather_key = key
            head.run_at = timezone.now() + dt.timedelta(milliseconds=spec.timeout)
        decision.make.append(head)
        decision.refused |= {each.id: _joined("batched", each, head.id) for each in part[1:]}


def _events(part: Sequence[Candidate]) -> str:
    return dump([each.facts["event"] for each in part], what="The batch", limit_bytes=MAX_BATCH_BYTES * 2)


def _singleton(flow: CompiledFlow, org_id: UUID, decision: Decision, keys: Mapping[UUID, str]) -> None:
    spec = flow.controls.singleton
    assert spec is not None
    live = {row.key: row.id for row in sql.live_singletons(flow=flow.flow_id, keys=set(keys.values()))}
    made: dict[str, Candidate] = {}
    stopped: list[UUID] = []
    for each in decision.make:
        key = each.singleton_key = keys[each.id]
        if spec.mode == "skip":
            there = live.get(key) or (made[key].id if key in made else None)
            if there:
                decision.refused[each.id] = _singled(each, there)
            else:
                made[key] = each
        else:
            if key in made:
                decision.refused[made[key].id] = _singled(made[key], each.id)
            elif key in live:
                stopped.append(live[key])
            made[key] = each
    decision.make = list(made.values())
    if stopped:
        decision.cancelled = run_transitions.request_cancel(org_id, stopped, reason="by a newer run (singleton)")
        sql.release_singletons(ids=stopped)


def _singled(candidate: Candidate, run_id: UUID) -> Refusal:
    reason = f"The run {run_id} is the only one that may be live (singleton)."
    return Refusal(code="singleton", reason=reason, run_id=run_id, event_id=candidate.event_id)


def _rate_limit(flow: CompiledFlow, decision: Decision, keys: Mapping[UUID, str]) -> None:
    spec = flow.controls.rate_limit
    assert spec is not None
    period_s = spec.period / 1000
    rows = sql.recent_run_marks(flow=flow.flow_id, keys=set(keys.values()), period_s=period_s)
    seen = {row.key: row for row in rows}
    counts = {key: row.number for key, row in seen.items()}
    passed: list[Candidate] = []
    for each in decision.make:
        key = keys[each.id]
        if counts.get(key, 0) < spec.limit:
            counts[key] = counts.get(key, 0) + 1
            passed.append(each)
            continue
        wait_s = max(0.0, period_s - (seen[key].oldest_age_s if key in seen else 0.0))
        reason = f"{spec.limit} runs in {period_s:g} s have started already (rate_limit)."
        decision.refused[each.id] = Refusal(
            code="rate_limited", reason=reason, event_id=each.event_id, retry_after_s=wait_s
        )
    decision.make = passed
    if passed:
        sql.mark_runs(flow=flow.flow_id, keys=[keys[each.id] for each in passed], runs=[each.id for each in passed])


def record_refusals(flow_id: UUID, org_id: UUID, refusals: Sequence[Refusal]) -> None:
    """Keep why events and requests have no runs of their own."""
    hides = sealed.is_on(org_id)
    TriggerOutcome.objects.bulk_create(
        TriggerOutcome(
            org_id=org_id,
            flow_id=flow_id,
            event_id=each.event_id,
            code=each.code,
            reason=NOT_KEPT if each.code == "invalid" and hides else each.reason[:500],
            run_id=each.run_id,
        )
        for each in refusals
    )
