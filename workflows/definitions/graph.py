"""The graph of a definition: needs, successors, branches, cycles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from workflows.definitions.schema import StepSpec


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Who needs whom, by step key; in the order of the definition."""

    needs: Mapping[str, tuple[str, ...]]
    successors: Mapping[str, tuple[str, ...]]
    branches: Mapping[str, frozenset[str]]
    """Of a `conditional`: the steps that stand in any of its branches."""
    fallbacks: Mapping[str, str]
    """By step: the one that runs where it fails."""
    compensations: frozenset[str]
    """The steps that undo others (`on_failure`, `on_cancel`); they stand outside the graph."""
    steps: Mapping[str, StepSpec]

    @cached_property
    def sinks(self) -> frozenset[str]:
        return frozenset(key for key, after in self.successors.items() if not after and key not in self.compensations)

    def chain(self, key: str) -> tuple[str, ...]:
        """The fallbacks of a step, in the order in which they are tried."""
        found: list[str] = []
        while (key := self.fallbacks.get(key, "")) and key not in found:
            found.append(key)
        return tuple(found)

    def before(self, key: str) -> frozenset[str]:
        """The steps whose outputs a step may read: all that must have ended by then; of a compensation all others."""
        return frozenset(self.needs) - {key} if key in self.compensations else self.ancestors(key)

    def ancestors(self, key: str) -> frozenset[str]:
        seen: set[str] = set()
        open_keys = [*self.needs[key]]
        while open_keys:
            current = open_keys.pop()
            if current not in seen:
                seen.add(current)
                open_keys.extend(self.needs.get(current, ()))
        return frozenset(seen)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A step where it stands: within which container ("" at the top), and in the graph of its neighbours."""

    step: StepSpec
    container: str
    graph: Graph
    outside: frozenset[str]
    """The steps outside of its container that have ended when it begins."""

    @property
    def before(self) -> frozenset[str]:
        """The steps whose outputs it may read."""
        return self.graph.before(self.step.id) | self.outside


def walk_steps(
    steps: Iterable[StepSpec], container: str = "", outside: frozenset[str] = frozenset()
) -> Iterator[Placed]:
    """Every step of a definition, a container before what is in it."""
    steps = list(steps)
    graph = build(steps)
    for step in steps:
        placed = Placed(step=step, container=container, graph=graph, outside=outside)
        yield placed
        if step.steps:
            yield from walk_steps(step.steps, step.id, placed.before)


def branch_targets(step: StepSpec) -> frozenset[str]:
    """The step keys named in the branches of a `conditional`; empty for other types and for malformed branches."""
    if step.type != "conditional":
        return frozenset()
    branches = step.config.get("branches")
    listed: list[Any] = (
        [branch.get("then", []) for branch in branches if isinstance(branch, dict)]
        if isinstance(branches, list)
        else []
    )
    listed.append(step.config.get("else", []))
    return frozenset(key for keys in listed for key in _as_list(keys))


def _as_list(keys: Any) -> list[str]:
    if isinstance(keys, str):
        return [keys]
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, list | tuple) else []


def compensations_of(steps: Iterable[StepSpec]) -> frozenset[str]:
    """The steps that others name in `on_failure` or `on_cancel`."""
    return frozenset(key for step in steps for key in (*step.on_failure, *step.on_cancel))


def build(steps: Iterable[StepSpec]) -> Graph:
    """Resolve `needs`. Unknown needs are kept, for `validate` to report.

    Without `needs` a step needs the one before it; a step in a branch of a `conditional` needs that one instead, and
    needs it in any case. A fallback needs its primary only, and who needs the primary needs its fallbacks too.
    """
    steps = list(steps)
    branches = {step.id: targets for step in steps if (targets := branch_targets(step))}
    compensations = compensations_of(steps)
    fallbacks = {step.fallback_for: step.id for step in steps if step.fallback_for and step.fallback_for != step.id}
    needs: dict[str, tuple[str, ...]] = {}
    previous: str | None = None
    for step in steps:
        deciders = tuple(key for key, targets in branches.items() if step.id in targets)
        if step.id in compensations:
            needs[step.id] = ()
            continue
        if step.fallback_for:
            needs[step.id] = (step.fallback_for,)
            continue
        if step.needs is not None:
            own = step.needs
        elif deciders:
            own = ()
        else:
            own = (previous,) if previous else ()
        needs[step.id] = tuple(dict.fromkeys((*own, *deciders)))
        previous = step.id
    by_id = {step.id: step for step in steps}
    graph = Graph(
        needs=needs, successors={}, branches=branches, fallbacks=fallbacks, compensations=compensations, steps=by_id
    )
    for step in steps:
        if not step.fallback_for:
            whole = (key for need in needs[step.id] for key in (need, *graph.chain(need)))
            needs[step.id] = tuple(dict.fromkeys(whole))
    successors: dict[str, list[str]] = {step.id: [] for step in steps}
    for key, needed in needs.items():
        for need in needed:
            successors.setdefault(need, []).append(key)
    return replace(graph, successors={key: tuple(after) for key, after in successors.items()})


def find_cycle(needs: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """One cycle as a path of needs that ends where it began, or None."""
    try:
        TopologicalSorter({key: [need for need in of if need in needs] for key, of in needs.items()}).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return None
