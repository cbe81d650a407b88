"""The nodes of an expression's tree. A chain (`a + b + …`) is one flat node, so that its length costs no depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

INT_MIN, INT_MAX, UINT_MAX = -(2**63), 2**63 - 1, 2**64 - 1


class Unsigned(int):
    """A `uint` of CEL; plain whole numbers are its `int`."""


@dataclass(frozen=True, slots=True)
class Literal:
    value: Any


@dataclass(frozen=True, slots=True)
class Name:
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Path:
    """Reads one part after the other: `a.b['c'][0]`. Each part is (is it a field name, the name or a node)."""

    root: Node
    parts: tuple[tuple[bool, Any], ...]


@dataclass(frozen=True, slots=True)
class Has:
    """Whether the field is there: `has(a.b)`."""

    operand: Node
    field: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function, or with `target` a method."""

    function: str
    target: Node | None
    arguments: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Unary:
    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Chain:
    """Operators of one precedence, from left to right."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Logic:
    """`&&` or `||` over two or more operands."""

    operator: str
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """`condition ? value : …`, the cases in order and the last value."""

    cases: tuple[tuple[Node, Node], ...]
    otherwise: Node


@dataclass(frozen=True, slots=True)
class ListOf:
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapOf:
    pairs: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True)
class Comprehension:
    """A macro over a list or the keys of a map: `range.kind(variable, arguments…)`."""

    kind: str
    range: Node
    variable: str
    arguments: tuple[Node, ...]


Node = Literal | Name | Path | Has | Call | Unary | Chain | Logic | Choice | ListOf | MapOf | Comprehension


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below a node."""
    match node:
        case Path():
            yield node.root
            yield from (part for is_field, part in node.parts if not is_field)
        case Has() | Unary():
            yield node.operand
        case Call():
            if node.target is not None:
                yield node.target
            yield from node.arguments
        case Chain():
            yield node.first
            yield from (operand for _, operand in node.rest)
        case Logic():
            yield from node.operands
        case Choice():
            for condition, value in node.cases:
                yield condition
                yield value
            yield node.otherwise
        case ListOf():
            yield from node.items
        case MapOf():
            for key, value in node.pairs:
                yield key
                yield value
        case Comprehension():
            yield node.range
            yield from node.arguments
