"""A new run that takes over outcomes of an earlier one: a resume, or a fork from any step.

What is taken over is decided by a pure plan: a step keeps its outcome where it has one that counts, where nothing it
needs runs again, and where it was not undone. Everything else runs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any
from uuid import UUID

import uuid6
from django.db import transaction

from workflows.definitions.compiled import CompiledFlow, CompiledStep
from workflows.engine import recording, store
from workflows.engine.dispatch import DISPATCHER
from workflows.engine.rows import ReadyStep
from workflows.engine.trigger import SLACK_BYTES, Lineage, of_flow, of_lineage
from workflows.errors import InvalidInput
from workflows.models import Run, StepRun
from workflows.payload import MAX_EVENT_BYTES, Json, dump

VETO = -1_000_000


@dataclass(frozen=True, kw_only=True)
class Past:
    """What became of a step in the earlier run. `then`: the branches that a `conditional` took."""

    id: UUID
    type: str
    status: str
    then: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A step of the new run. `source`: the step run whose outcome it takes over; None: it runs."""

    key: str
    status: str
    needs_left: int = 0
    needs_met: int = 0
    source: UUID | None = None


def plan(
    flow: CompiledFlow, past: Mapping[str, Past], *, undone: Collection[str] = (), again: Collection[str] = ()
) -> list[Planned]:
    """What each step of the new run starts as. `again`: the steps from which to run; `undone`: those whose outcome was
    reverted. Pure."""
    kept: dict[str, bool] = {}
    for key in _in_order(flow):
        step, before = flow.steps[key], past.get(key)
        kept[key] = (
            before is not None
            and before.type == step.type.name
            and key not in again
            and key not in undone
            and _counts(step, before)
            and all(kept[need] for need in step.needs)
        )
    for primary, chain in flow.chains.items():  # where a fallback runs again, its primary is tried first again
        if primary in kept and not all(kept[each] for each in chain):
            _drop(flow, kept, primary)
    return [_planned(flow, key, past, kept) for key in flow.top]


def _in_order(flow: CompiledFlow) -> list[str]:
    """The steps, each after all that it needs."""
    return list(TopologicalSorter({key: flow.steps[key].needs for key in flow.top}).static_order())


def _counts(step: CompiledStep, before: Past) -> bool:
    return before.status in {"completed", "skipped"} or (before.status == "failed" and not step.stops_run)


def _drop(flow: CompiledFlow, kept: dict[str, bool], key: str) -> None:
    if kept[key]:
        kept[key] = False
        for successor in flow.steps[key].successors:
            _drop(flow, kept, successor)


def _planned(flow: CompiledFlow, key: str, past: Mapping[str, Past], kept: Mapping[str, bool]) -> Planned:
    if kept[key]:
        return Planned(key=key, status=past[key].status, source=past[key].id)
    step = flow.steps[key]
    decided = [need for need in step.needs if kept[need]]
    met = sum(_weight(flow.steps[need], key, past[need]) for need in decided)
    left = len(step.needs) - len(decided)
    return Planned(key=key, status="pending" if left else "ready", needs_left=left, needs_met=met)


def _weight(step: CompiledStep, successor: str, before: Past) -> int:
    """What the outcome of a step adds to the `needs_met` of its successor (as recording it does)."""
    if successor in step.branch_targets and successor not in before.then and before.status != "skipped":
        return VETO
    if before.status == "skipped":
        return 0
    return int(step.fallback is None or (successor == step.fallback) == (before.status == "failed"))


def past_of(run: Run, flow: CompiledFlow) -> tuple[dict[str, Past], set[str]]:
    """The outcomes of a run's steps, and the steps that were undone, by the version that the run had."""
    rows = StepRun.objects.filter(run_id=run.id, path="").only("id", "key", "type", "status", "is_hook")
    chosen = dict(StepRun.objects.filter(run_id=run.id, type="conditional", path="").values_list("key", "output"))
    past, ran = {}, set()
    for row in rows:
        if row.is_hook:
            ran |= {row.key} if row.status in {"completed", "failed"} else set()
        else:
            then = (chosen.get(row.key) or {}).get("then", ())
            past[row.key] = Past(id=row.id, type=row.type, status=row.status, then=frozenset(then))
    undone = {step.key for step in flow.steps.values() if ran.intersection((*step.on_failure, *step.on_cancel))}
    return past, undone


def fork(
    run: Run,
    flow: CompiledFlow,
    steps: list[Planned],
    *,
    value: Json,
    extra: Mapping[str, Any],
    lineage: Lineage,
    limit_bytes: int = MAX_EVENT_BYTES,
) -> UUID:
    """Make the planned run, in the caller's transaction where there is one; dispatch it after the commit.

    `extra` is added to an input that is an object, after the check. Returns its id.

    Raises InvalidInput or PayloadTooLarge.
    """
    problems = flow.input_problems(value)
    if problems:
        raise InvalidInput("; ".join(problems))
    whole = {**value, **extra} if isinstance(value, dict) else value
    new_id = uuid6.uuid7()
    rows = store.fetch(
        "insert_fork",
        {
            **of_flow(flow, run.org_id),
            **of_lineage(flow, lineage),
            "id": new_id,
            "input": dump(whole, what="The input", limit_bytes=limit_bytes + SLACK_BYTES),
            "priority": run.priority,
            "event_id": run.event_id,
            "event_name": run.event_name,
            "trigger": run.trigger,
            "user_id": run.user_id,
            "sinks": sum(1 for step in steps if step.source is None and flow.steps[step.key].is_sink),
            "steps": json.dumps([_row(step) for step in steps]),
        },
    )
    ready = [ReadyStep.of(row) for row in rows]
    if ready:
        transaction.on_commit(lambda: DISPATCHER.submit(ready), robust=True)
    else:  # everything is taken over; only the output is rendered again
        transaction.on_commit(lambda: recording.finish([new_id]), robust=True)
    return new_id


def _row(step: Planned) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": step.key, "status": step.status, "needs_left": step.needs_left, "needs_met": step.needs_met,
    }  # fmt: skip
    return row if step.source is None else {**row, "source": str(step.source)}
