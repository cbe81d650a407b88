"""The graph of a definition: needs, successors, branches, cycles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from workflows.definitions.schema import StepSpec


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Who needs whom, by step key; in the order of the definition."""

    needs: Mapping[str, tuple[str, ...]]
    successors: Mapping[str, tuple[str, ...]]
    branches: Mapping[str, frozenset[str]]
    """Of a `conditional`: the steps that stand in any of its branches."""

    @property
    def sinks(self) -> frozenset[str]:
        return frozenset(key for key, after in self.successors.items() if not after)

    def ancestors(self, key: str) -> frozenset[str]:
        seen: set[str] = set()
        open_keys = [*self.needs[key]]
        while open_keys:
            current = open_keys.pop()
            if current not in seen:
                seen.add(current)
                open_keys.extend(self.needs.get(current, ()))
        return frozenset(seen)


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


def build(steps: Iterable[StepSpec]) -> Graph:
    """Resolve `needs`. Unknown needs are kept, for `validate` to report.

    Without `needs` a step needs the one before it; a step in a branch of a `conditional` needs that one instead, and
    needs it in any case.
    """
    steps = list(steps)
    branches = {step.id: targets for step in steps if (targets := branch_targets(step))}
    needs: dict[str, tuple[str, ...]] = {}
    previous: str | None = None
    for step in steps:
        deciders = tuple(key for key, targets in branches.items() if step.id in targets)
        if step.needs is not None:
            own = step.needs
        elif deciders:
            own = ()
        else:
            own = (previous,) if previous else ()
        needs[step.id] = tuple(dict.fromkeys((*own, *deciders)))
        previous = step.id
    successors: dict[str, list[str]] = {step.id: [] for step in steps}
    for key, needed in needs.items():
        for need in needed:
            successors.setdefault(need, []).append(key)
    return Graph(
        needs=needs,
        successors={key: tuple(after) for key, after in successors.items()},
        branches=branches,
    )


def find_cycle(needs: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """One cycle as a path that ends where it began, or None. Iterative: a chain may have a thousand steps."""
    done: set[str] = set()
    for root in needs:
        path: list[str] = []
        on_path: set[str] = set()
        stack: list[tuple[str, bool]] = [(root, False)]
        while stack:
            key, leaving = stack.pop()
            if leaving:
                path.pop()
                on_path.discard(key)
                done.add(key)
                continue
            if key in on_path:
                return [*path[path.index(key) :], key]
            if key in done or key not in needs:
                continue
            path.append(key)
            on_path.add(key)
            stack.append((key, True))
            stack.extend((need, False) for need in needs[key])
    return None
