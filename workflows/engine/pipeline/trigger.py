"""Triggering: runs and all their steps, by one statement, in the caller's transaction; dispatched after its commit."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import structlog
import uuid6
from django.db import connection, transaction

from throttling.policy import MAX_HEAD_START_S
from workflows import this_process
from workflows.definitions.compiled import CompiledFlow
from workflows.duration import MAX_MS
from workflows.edge import tags
from workflows.engine.pipeline import admit, dispatcher, hints
from workflows.engine.pipeline.facts import event_facts, organization_facts, user_of
from workflows.engine.run_controls import controls, idempotency, stopping
from workflows.engine.run_controls.controls import Refusal
from workflows.engine.sql import intake as intake_sql
from workflows.engine.sql import run_controls as idempotency_sql
from workflows.engine.sql import trigger as sql
from workflows.engine.state.records import NO_LINEAGE, Candidate, Lineage, ReadyStep
from workflows.engine.state.transitions import runs as run_transitions
from workflows.errors import ExpressionError, InvalidInput, MissingField, ParentCancelled, RunNotFound
from workflows.expressions import EDGE_UNITS, Budget
from workflows.payload import MAX_EVENT_BYTES, Json, dump

log = structlog.get_logger(__name__)
SLACK_BYTES = 1024
NONE: frozenset[UUID] = frozenset()


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """One run to be made. `input` is the event's data, or what a person sends; without `priority` the flow's counts."""

    input: Json
    priority: int | None = None
    event_id: UUID | None = None
    event: Mapping[str, Any] | None = None
    """What expressions read of the event that starts it."""
    event_name: str = ""
    user_id: str = ""
    extra: Mapping[str, Json] = field(default_factory=dict)
    """Added to an input that is an object, after it was checked."""
    received_at: dt.datetime | None = None
    """When the event that starts it was received."""
    run_at: dt.datetime | None = None
    """When it starts; now, where neither it nor the call says."""
    tags: Sequence[str] = ()
    """Besides those of the flow; of a run that repeats another, all of them: those of that one."""
    keys: tuple[tuple[str, float], ...] = ()
    """Idempotency keys besides the flow's own, with their windows in seconds."""
    id: UUID = field(default_factory=uuid6.uuid7)


@dataclass(frozen=True, kw_only=True)
class Triggered:
    """The answer: a run per wanted one, and those of them that were made before (idempotency)."""

    run_ids: list[UUID]
    existing_ids: frozenset[UUID] = frozenset()
    pruned_ids: frozenset[UUID] = frozenset()
    """Those of the earlier ones that have ended and are deleted (retention): their keys outlive them."""
    refused: Mapping[UUID, Refusal] = field(default_factory=dict)
    """By id of the wanted run: why it was not made. Its place in `run_ids` has the run that stands in for it."""

    @property
    def existing(self) -> bool:
        """Whether the first run was made before."""
        return bool(self.run_ids) and self.run_ids[0] in self.existing_ids

    @property
    def pruned(self) -> bool:
        """Whether the first run was made before, has ended and is deleted."""
        return bool(self.run_ids) and self.run_ids[0] in self.pruned_ids


def trigger(
    flow: CompiledFlow,
    runs: Sequence[NewRun],
    *,
    org_id: UUID,
    kind: str = "manual",
    user_id: str = "",
    event_name: str = "",
    run_at: dt.datetime | None = None,
    force: bool = False,
    lineage: Lineage = NO_LINEAGE,
    limit_bytes: int = MAX_EVENT_BYTES,
    charge: Callable[[int], None] | None = None,
) -> Triggered:
    """Make runs of a version, within the caller's transaction where there is one; dispatch them after the commit.

    A run is not made where an earlier run has its idempotency key (unless by `force`), or where the flow's controls
    refuse it (debounce, batch, singleton, rate_limit). Replays, resumes and forks are checked by neither.
    `charge`: called once with how many runs repeat no earlier one, after their check and before any is stored; what it
    raises refuses all. (It may call a store: then the caller has no transaction open.)
    Raises InvalidInput (by the flow's input_schema, or for tags), PayloadTooLarge, or IdempotencyConflict where another
    open transaction holds a key.
    """
    said = {run.id: _said(flow, run, org_id, event_name, user_id, limit_bytes, lineage) for run in runs}
    keyed = not lineage.repeats and (flow.idempotency is not None or any(run.keys for run in runs))
    controlled = flow.controls.any and not lineage.repeats
    wanted = [_wanted(flow, run, org_id, event_name, user_id, force) for run in runs] if keyed else []
    if charge is not None and (count := len(runs) - idempotency.count_known(flow, org_id, wanted)):
        charge(count)
    together = connection.in_atomic_block or keyed or controlled or lineage.parent_policy == "cancel"
    with transaction.atomic() if together else contextlib.nullcontext():  # else one statement, a transaction by itself
        if lineage.parent_policy == "cancel":
            _check_parent(org_id, lineage.parent_id)
        stands_for, stored = idempotency.reserve_keys(flow, org_id, wanted) if keyed else ({}, ())
        new: Sequence[Candidate] = [
            _candidate(flow, run, said[run.id], org_id, event_name, user_id, run_at, controlled=controlled)
            for run in runs
            if stands_for.get(run.id, run.id) == run.id
        ]
        new, refused = _controlled(flow, org_id, new) if controlled and new else (new, {})
        if refused and keyed:
            _give_keys_back(flow, org_id, stored, refused)
        if refusals := [*refused.values(), *_duplicates(runs, stands_for)]:
            controls.record_refusals(flow.flow_id, org_id, refusals)
        ready = _insert(flow, org_id, new, kind=kind, lineage=lineage)
        dispatcher.start_after_commit(ready)
        if _starts_soon(new) or any(each.code == "batched" for each in refused.values()):
            dispatcher.hint_after_commit()
    return _answer(runs, new, stands_for, refused)


def _answer(
    runs: Sequence[NewRun],
    new: Sequence[Candidate],
    stands_for: Mapping[UUID, UUID],
    refused: Mapping[UUID, Refusal],
) -> Triggered:
    instead = {run_id: each.run_id for run_id, each in refused.items() if each.run_id}
    ids = [instead.get(owner, owner) for owner in (stands_for.get(run.id, run.id) for run in runs)]
    existing = frozenset(ids) - {run.id for run in new}
    deleted = _deleted(existing) if stands_for else NONE
    return Triggered(run_ids=ids, existing_ids=existing, pruned_ids=deleted, refused=refused)


def _deleted(run_ids: Collection[UUID]) -> frozenset[UUID]:
    """Those of earlier runs that are not there any more."""
    if not run_ids:
        return frozenset()
    return frozenset(run_ids) - {row.id for row in intake_sql.stored_runs(ids=run_ids)}


def _candidate(
    flow: CompiledFlow,
    run: NewRun,
    said: _Said,
    org_id: UUID,
    event_name: str,
    user_id: str,
    run_at: dt.datetime | None,
    *,
    controlled: bool,
) -> Candidate:
    return Candidate(
        id=run.id,
        facts=_facts(run, org_id, event_name, user_id) if controlled else {},
        text=said.text,
        event_id=run.event_id,
        event_name=run.event_name or event_name,
        user_id=run.user_id or user_id,
        priority=priority_of(flow, run, org_id=org_id, event_name=event_name, user_id=user_id),
        tags=said.tags,
        run_at=run.run_at or run_at,
        received_at=run.received_at,
    )


def _controlled(
    flow: CompiledFlow, org_id: UUID, new: Sequence[Candidate]
) -> tuple[Sequence[Candidate], dict[UUID, Refusal]]:
    """The runs that the flow's controls let be made, and why the others are not. Raises InvalidInput."""
    if any(each.run_at for each in new) and (flow.controls.debounce or flow.controls.batch):
        raise InvalidInput("The flow gathers events (debounce, batch), which decides when it runs: give no delay.")
    decision = controls.decide(flow, org_id, new)
    if decision.cancelled:
        dispatcher.after_commit(lambda: stopping.stop_runs(decision.cancelled))
    return decision.make, decision.refused


def _insert(
    flow: CompiledFlow, org_id: UUID, new: Sequence[Candidate], *, kind: str, lineage: Lineage
) -> list[ReadyStep]:
    """The runs, by one statement for all that start at the same time. Returns their steps that are ready."""
    ready: list[ReadyStep] = []
    for run_at in dict.fromkeys(each.run_at for each in new):
        group = [each for each in new if each.run_at == run_at]
        ready += run_transitions.insert(flow, org_id, group, trigger=kind, run_at=run_at, lineage=lineage)
    if len(new) == 1 and not lineage.awaited:
        this_process.own(admit.Families).note_alone(new[0].id)
    return ready


def _starts_soon(new: Sequence[Candidate]) -> bool:
    """Whether a timer that starts one of the runs is due before the leader looks."""
    now = dt.datetime.now(dt.UTC)
    return any(each.run_at and hints.is_soon((each.run_at - now).total_seconds()) for each in new)


def _duplicates(runs: Sequence[NewRun], stands_for: Mapping[UUID, UUID]) -> list[Refusal]:
    """A refusal for each event whose idempotency key an earlier run has."""
    return [
        Refusal(code="duplicate", reason=f"The run {owner} has its key.", run_id=owner, event_id=run.event_id)
        for run in runs
        if run.event_id and (owner := stands_for.get(run.id, run.id)) != run.id
    ]


def _give_keys_back(
    flow: CompiledFlow, org_id: UUID, wanted: Sequence[idempotency.Wanted], refused: Mapping[UUID, Refusal]
) -> None:
    """Give the keys of a refused run, as they are stored, to the run that it was refused for, or to none."""
    keys = [(key, each.run_id) for each in wanted if each.run_id in refused for key, _ in each.keys]
    moved = [(key, run_id, instead) for key, run_id in keys if (instead := refused[run_id].run_id)]
    gone = [(key, run_id) for key, run_id in keys if not refused[run_id].run_id]
    if moved:
        names, unmade, owners = zip(*moved, strict=True)
        idempotency_sql.point_keys_to(org=org_id, flow=flow.flow_id, keys=names, unmade=unmade, runs=owners)
    if gone:
        sql.forget_keys(
            org=org_id, flow=flow.flow_id, keys=[key for key, _ in gone], runs=[run_id for _, run_id in gone]
        )


MAX_DELAY = dt.timedelta(milliseconds=MAX_MS)


def checked_start(at: dt.datetime) -> dt.datetime | None:
    """The start of a delayed run; None for now. Raises InvalidInput for a time without a zone, or too far away."""
    if at.tzinfo is None:
        raise InvalidInput(f"{at.isoformat()} has no time zone; write it as 2026-11-22T10:00:00Z.")
    now = dt.datetime.now(dt.UTC)
    if at > now + MAX_DELAY:
        raise InvalidInput(f"{at.isoformat()} is more than a year away.")
    return at if at > now else None


def _check_parent(org_id: UUID, parent_id: UUID | None) -> None:
    """Raises RunNotFound, or ParentCancelled: its cancel would not reach a child that is made after it."""
    rows = sql.lock_parent(org=org_id, id=parent_id) if parent_id is not None else []
    if not rows:
        raise RunNotFound
    if rows[0].cancelled:
        raise ParentCancelled


def _wanted(
    flow: CompiledFlow, run: NewRun, org_id: UUID, event_name: str, user_id: str, force: bool
) -> idempotency.Wanted:
    facts = _facts(run, org_id, event_name, user_id) if flow.idempotency else {}
    own, forced = idempotency.flows(flow, facts) if flow.idempotency else (None, False)
    return idempotency.Wanted(run_id=run.id, keys=(*run.keys, *([own] if own else ())), force=force or forced)


def _facts(run: NewRun, org_id: UUID, event_name: str, user_id: str = "") -> dict[str, Any]:
    """What expressions may read of a run that is not made yet: what its steps will read."""
    event = run.event or event_facts(
        id_=run.event_id or run.id,
        name=run.event_name or event_name,
        data=run.input,
        user=user_of(run.user_id or user_id),
        ts=dt.datetime.now(dt.UTC),
    )
    return {"event": event, "input": run.input, "org": organization_facts(org_id)}


def priority_of(flow: CompiledFlow, run: NewRun, *, org_id: UUID, event_name: str, user_id: str = "") -> int:
    """Seconds of head start: those given, else the flow's own; a field that is not there makes it 0."""
    if run.priority is not None:
        return run.priority
    if isinstance(flow.priority, int):
        return flow.priority
    try:
        value = flow.priority.evaluate(_facts(run, org_id, event_name, user_id))
    except MissingField:
        return 0
    except ExpressionError as error:
        log.warning("the priority can't be evaluated", flow=flow.slug, error=str(error))
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        log.warning("the priority is no number", flow=flow.slug, expression=flow.priority.source)
        return 0
    return round(max(-MAX_HEAD_START_S, min(MAX_HEAD_START_S, value)))


def tags_of(flow: CompiledFlow, run: NewRun, *, org_id: UUID, event_name: str, user_id: str = "") -> Sequence[str]:
    """The flow's tags, and those that are given. A template that reads a field that is not there, or gives null, adds
    none; one that gives a list adds each of it. Raises InvalidInput for what is no tag, and for too many."""
    if not flow.tags and not run.tags:
        return ()
    found: list[str] = []
    facts: dict[str, Any] = {}
    budget = Budget(EDGE_UNITS)
    for place, tag in enumerate(flow.tags):
        if isinstance(tag, str):
            found.append(tag)
            continue
        facts = facts or _facts(run, org_id, event_name, user_id)
        where = f"tags[{place}] of the flow {flow.slug}"
        try:
            value = tag.render(facts, budget)
        except MissingField:
            continue
        except ExpressionError as error:
            raise InvalidInput(f"{where}: {error}") from None
        found += [tags.check(text, where) for text in _tag_texts(value)]
    return tags.checked([*found, *tags.checked(run.tags)])


def _tag_texts(value: object) -> list[object]:
    """What a template gave, as tags: numbers and truth values are written out."""
    listed = value if isinstance(value, list) else [value]
    return [json.dumps(each) if isinstance(each, bool | int | float) else each for each in listed if each is not None]


class _Said(NamedTuple):
    """What is said of a run that is wanted, checked: its input as JSON text, and its tags."""

    text: str
    tags: Sequence[str]


def _said(
    flow: CompiledFlow, run: NewRun, org_id: UUID, event_name: str, user_id: str, limit_bytes: int, lineage: Lineage
) -> _Said:
    text = _checked(flow, run, limit_bytes)
    if lineage.repeats:
        return _Said(text, run.tags)
    return _Said(text, tags_of(flow, run, org_id=org_id, event_name=event_name, user_id=user_id))


def _checked(flow: CompiledFlow, run: NewRun, limit_bytes: int) -> str:
    problems = flow.input_problems(run.input)
    value = {**run.input, **run.extra} if run.extra and isinstance(run.input, dict) else run.input
    text = dump(value, what="The input", limit_bytes=limit_bytes + (SLACK_BYTES if run.extra else 0))
    if problems:
        raise InvalidInput("; ".join(problems))
    return text
