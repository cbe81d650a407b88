"""The graph of a run's steps, as shapes of an SVG: laid out by depth, the status of each step as its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workflows.selectors.runs import RunDetail

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 156, 34, 44, 14, 8
MAX_NODES = 300
MAX_TEXT, MAX_SAID = 18, 23


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A step: where its box lies."""

    key: str
    status: str
    type: str
    x: int
    y: int

    @property
    def text(self) -> str:
        return _short(self.key, MAX_TEXT)

    @property
    def said(self) -> str:
        return _short(f"{self.status} · {self.type}", MAX_SAID)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The boxes, and the curves between them (as paths of an SVG, with the status of the step that they leave)."""

    nodes: list[Node]
    edges: list[tuple[str, str]]
    width: int
    height: int


def graph(detail: RunDetail) -> Graph | None:
    """None for a run that has no graph: its code decides what comes next, or there are too many steps to draw."""
    if detail.flow is None or detail.flow.driver is not None or not 1 < len(detail.steps) <= MAX_NODES:
        return None
    rows = {step.step_run.key: step.step_run for step in detail.steps}
    needs = {
        step.step_run.key: [key for key in (step.compiled.needs if step.compiled else ()) if key in rows]
        for step in detail.steps
    }
    depth = depths(needs)
    lines: dict[int, int] = {}
    nodes = {}
    for key, row in rows.items():
        line = lines[depth[key]] = lines.get(depth[key], -1) + 1
        x, y = MARGIN + depth[key] * (WIDTH + GAP_X), MARGIN + line * (HEIGHT + GAP_Y)
        nodes[key] = Node(key=key, status=row.status, type=row.type, x=x, y=y)
    edges = [(_curve(nodes[need], node), nodes[need].status) for key, node in nodes.items() for need in needs[key]]
    width = 2 * MARGIN + (max(depth.values()) + 1) * (WIDTH + GAP_X) - GAP_X
    height = 2 * MARGIN + (max(lines.values()) + 1) * (HEIGHT + GAP_Y) - GAP_Y
    return Graph(nodes=list(nodes.values()), edges=edges, width=width, height=height)


def depths(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """By step: the length of the longest way to it. The steps are in an order in which needs come first, or later."""
    depth = dict.fromkeys(needs, 0)
    for _ in needs:  # a step that stands before one that it needs takes another round
        deeper = {key: max((depth[need] + 1 for need in found), default=0) for key, found in needs.items()}
        if deeper == depth:
            break
        depth = deeper
    return depth


def _curve(start: Node, end: Node) -> str:
    x1, y1, x2, y2 = start.x + WIDTH, start.y + HEIGHT // 2, end.x, end.y + HEIGHT // 2
    middle = (x1 + x2) // 2
    return f"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"
