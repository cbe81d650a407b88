"""What a repeated run takes over of an earlier one, and what it runs. Pure.

A step keeps its outcome where it has one that counts, where nothing it needs runs again, and where it was not undone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from uuid import UUID

from workflows.definitions.compiled import CompiledFlow, CompiledStep
from workflows.engine.state import needs


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
    takes_items: bool = False
    """Of a container that runs: the items that were done are taken over."""


def plan(
    flow: CompiledFlow,
    past: Mapping[str, Past],
    *,
    undone: Collection[str] = (),
    again: Collection[str] = (),
    container: str = "",
) -> list[Planned]:
    """What each step of the new run starts as. `again`: the steps from which to run; `undone`: those whose outcome was
    reverted. Of a `container` its steps, of one item."""
    keys = list(flow.steps[container].body) if container else flow.top
    kept: dict[str, bool] = {}
    for key in _in_order(flow, keys):
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
    for key in keys:  # their addresses belonged to the earlier run
        if flow.steps[key].reads_callbacks and not all(kept.get(each, not container) for each in flow.callbacks):
            _drop(flow, kept, key)
    return [_planned(flow, key, past, kept) for key in keys]


def with_items(
    flow: CompiledFlow, planned: Sequence[Planned], past: Mapping[str, Past], *, undone: Collection[str], edited: bool
) -> list[Planned]:
    """The plan of a resume within the same version: containers take over the items that were done, unless they were
    undone, or what their steps read may be another now (a step that runs again, or an edited input)."""
    source = {each.key: each.source for each in planned}

    def may(key: str) -> bool:
        step = flow.steps[key]
        if source[key] is not None or not step.body or key not in past or key in undone:
            return False
        inner = [each for each in flow.steps.values() if each.container and flow.outermost(each.key) == key]
        changed = edited and any(each.reads_input for each in inner)
        waits = any(source.get(each, key) is None for each in flow.callbacks)
        stale = waits and any(each.reads_callbacks for each in inner)
        return not changed and not stale and all(source[need] is not None for need in step.needs)

    return [replace(each, takes_items=may(each.key)) for each in planned]


def _in_order(flow: CompiledFlow, keys: Sequence[str]) -> list[str]:
    """The steps, each after all that it needs."""
    return list(TopologicalSorter({key: flow.steps[key].needs for key in keys}).static_order())


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
    """What the outcome of a step adds to the `needs_met` of its successor, as recording it did."""
    return needs.weight(step, successor, status=before.status, not_taken=step.branch_targets - before.then)
