"""Where the steps of a flow stand in a drawing: columns by what they need; each container has a drawing of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from workflows.definitions.compiled import CompiledFlow, CompiledStep

WIDTH, HEIGHT = 168, 44
GAP_X, GAP_Y = 52, 14
MARGIN = 8
MOST_DRAWN = 150
SHOWN_CHARACTERS = 19


@dataclass(frozen=True, kw_only=True)
class Node:
    """A step. `kind`: "" for a common one, `fallback`, or `undo`."""

    key: str
    shown: str
    type: str
    kind: str
    title: str
    x: int
    y: int

    @property
    def text_x(self) -> int:
        return self.x + 12

    @property
    def key_y(self) -> int:
        return self.y + 18

    @property
    def type_y(self) -> int:
        return self.y + 34


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A line from one step to the next. `kind`: "" or `dashed` (taken under a condition)."""

    path: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The steps of the flow's top, or of a container. `left_out`: so many more are not drawn."""

    title: str
    label: str
    nodes: list[Node]
    edges: list[Edge]
    width: int
    height: int
    left_out: int


def drawings(flow: CompiledFlow) -> list[Drawing]:
    """The drawing of the flow, then one for each container, in the order of the definition."""
    inside: dict[str, list[CompiledStep]] = {"": []}
    for step in flow.steps.values():
        inside.setdefault(step.container, []).append(step)
    return [_drawing(title, steps) for title, steps in inside.items() if steps]


def _drawing(title: str, steps: Sequence[CompiledStep]) -> Drawing:
    shown = list(steps[:MOST_DRAWN])
    parents = {step.key: _parents(step, {each.key for each in shown}, shown) for step in shown}
    depths = _depths(parents)
    rows: dict[int, int] = {}
    places: dict[str, tuple[int, int]] = {}
    edges: list[Edge] = []
    for step in shown:
        places[step.key] = _place(rows, depths[step.key])
        for parent in parents[step.key]:
            between = [_place(rows, column) for column in range(depths[parent] + 1, depths[step.key])]
            path = _line([places[parent], *between, places[step.key]]) if parent in places else ""
            edges.append(Edge(path=path, kind="dashed" if _is_conditional(step, parent, shown) else ""))
    columns, most = max(rows, default=0) + 1, max(rows.values(), default=1)
    return Drawing(
        title=title,
        label=_label(title, shown, parents),
        nodes=[_node(step, places[step.key]) for step in shown],
        edges=edges,
        width=2 * MARGIN + columns * WIDTH + (columns - 1) * GAP_X,
        height=2 * MARGIN + most * HEIGHT + (most - 1) * GAP_Y,
        left_out=len(steps) - len(shown),
    )


def _parents(step: CompiledStep, here: set[str], shown: Sequence[CompiledStep]) -> list[str]:
    """The steps that a line leads from: those that it needs, the one that it stands in for, those that it undoes."""
    if step.fallback_for in here:
        return [str(step.fallback_for)]
    if step.is_compensation:
        return [each.key for each in shown if step.key in (*each.on_failure, *each.on_cancel)]
    return [key for key in step.needs if key in here]


def _depths(parents: dict[str, list[str]]) -> dict[str, int]:
    """The column of each step: one behind the last that it needs. (The definition has no cycle.)"""
    depths: dict[str, int] = {}
    for first in parents:
        open_keys = [first]
        while open_keys:
            key = open_keys[-1]
            missing = [each for each in parents[key] if each not in depths and each not in open_keys]
            if missing:
                open_keys += missing
                continue
            depths[key] = max((depths.get(each, -1) + 1 for each in parents[key]), default=0)
            open_keys.pop()
    return depths


def _is_conditional(step: CompiledStep, parent: str, shown: Sequence[CompiledStep]) -> bool:
    before = next(each for each in shown if each.key == parent)
    return bool(
        step.condition is not None or step.fallback_for or step.is_compensation or step.key in before.branch_targets
    )


def _place(rows: dict[int, int], column: int) -> tuple[int, int]:
    """The next free place of a column: of a step, or of a line that goes by it, so that it crosses no step."""
    row = rows.get(column, 0)
    rows[column] = row + 1
    return MARGIN + column * (WIDTH + GAP_X), MARGIN + row * (HEIGHT + GAP_Y)


def _line(places: Sequence[tuple[int, int]]) -> str:
    """From the right side of the first place to the left side of the last, straight through those between."""
    parts: list[str] = []
    for (x, y), (end_x, end_y) in pairwise(places):
        x1, y1, x2, y2 = x + WIDTH, y + HEIGHT // 2, end_x, end_y + HEIGHT // 2
        bend = (x2 - x1) // 2
        parts.append(f"{'L' if parts else 'M'}{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}")
    return "".join(parts)


def _node(step: CompiledStep, place: tuple[int, int]) -> Node:
    kind = "undo" if step.is_compensation else "fallback" if step.fallback_for else "container" if step.body else ""
    inside = f", with {len(step.body)} steps inside" if step.body else ""
    when = f", if {step.condition.source}" if step.condition is not None else ""
    cut = step.key if len(step.key) <= SHOWN_CHARACTERS else f"{step.key[: SHOWN_CHARACTERS - 1]}…"
    return Node(
        key=step.key, shown=cut, type=step.type.name, kind=kind, title=f"{step.key}: {step.type.name}{inside}{when}",
        x=place[0], y=place[1],
    )  # fmt: skip


def _label(title: str, shown: Sequence[CompiledStep], parents: dict[str, list[str]]) -> str:
    """The drawing in words."""
    where = f"Inside {title}" if title else "The flow"
    keys = [step.key for step in shown]
    is_chain = all(parents[after] == [before] for before, after in pairwise(keys))
    if is_chain:
        return f"{where}: {', then '.join(keys)}"
    return f"{where}: " + "; ".join(
        f"{key} after {' and '.join(parents[key])}" if parents[key] else f"{key} at once" for key in keys
    )
