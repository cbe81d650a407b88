"""One CEL expression: compiled once, evaluated under a budget (docs/adr/0011-expressions.md)."""

from __future__ import annotations

import datetime as dt
import difflib
import math
import threading
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cachetools import LRUCache

from workflows import this_process
from workflows.errors import ExpressionError, MissingField
from workflows.expressions import program, syntax
from workflows.expressions.nodes import Comprehension, Has, Name, Node, Path, children
from workflows.expressions.values import TYPES, Budget, BudgetSpent, CelError, NoSuchField, TypeName, type_name

NAMES = frozenset({"event", "input", "steps", "run", "org", "secrets", "item", "index", "async", "body", "headers",
                   "callbacks"})  # fmt: skip

EDGE_UNITS = 100_000
"""What filters, keys and transforms of events may cost: about 50 ms."""
STEP_UNITS = 1_000_000
"""What templates, conditions and transforms of steps may cost: about half a second."""
PUBLISHED_CHARACTERS = 8 * 1024
PUBLISHED_NODES = 2_000
PUBLISHED_DEPTH = 32
CACHED_OWNERS = 1_000
CACHED_EXPRESSIONS = 512


@dataclass(frozen=True, kw_only=True)
class Expression:
    """A compiled expression.

    `names` are the top-level names that it reads, `steps` the keys of the steps among them.
    """

    source: str
    names: frozenset[str]
    steps: frozenset[str]
    units: int
    tree: syntax.Tree = field(repr=False, compare=False)
    _program: program.Program = field(repr=False, compare=False)

    def evaluate(self, scope: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """The value in this scope, as JSON. Raises MissingField or ExpressionError, naming the expression.

        `budget`: one that it shares with others.
        """
        inner: dict[str, Any] = {name: scope.get(name) for name in self.names}
        inner[program.BUDGET] = budget = budget or Budget(self.units)
        try:
            value = self._program(inner)
            return value if value is True or value is False else _as_json(value, budget)
        except NoSuchField as error:
            raise MissingField(f"`{self.shown}`: there is no field {error.args[0]!r}") from None
        except (CelError, BudgetSpent) as error:
            raise ExpressionError(f"`{self.shown}`: {error}") from None
        except RecursionError:
            raise ExpressionError(f"`{self.shown}`: a value is nested too deeply") from None

    def holds(self, scope: Mapping[str, Any]) -> bool:
        """The expression as a condition; a missing field is an error. Raises MissingField or ExpressionError."""
        value = self.evaluate(scope)
        if not isinstance(value, bool):
            raise ExpressionError(f"`{self.shown}` gives {type(value).__name__}, a condition must give true or false")
        return value

    def is_true(self, scope: Mapping[str, Any]) -> bool:
        """The expression as a filter: a missing field makes it false, a value that is no boolean is an error."""
        try:
            return self.holds(scope)
        except MissingField:
            return False

    @property
    def shown(self) -> str:
        return shown(self.source)


def shown(source: str) -> str:
    """The source as messages quote it."""
    return source if len(source) <= 200 else f"{source[:120]} … {source[-60:]}"


class _Cache:
    """Compiled expressions, by owner: an organization that compiles many evicts none of another's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: LRUCache[Hashable, LRUCache[tuple[Any, ...], Expression]] = LRUCache(CACHED_OWNERS)

    def get(self, owner: Hashable, key: tuple[Any, ...]) -> Expression | None:
        with self._lock:
            kept = self._owners.get(owner)
            return kept.get(key) if kept is not None else None

    def keep(self, owner: Hashable, key: tuple[Any, ...], expression: Expression) -> None:
        with self._lock:
            kept = self._owners.get(owner)
            if kept is None:
                kept = self._owners[owner] = LRUCache(CACHED_EXPRESSIONS)
            kept[key] = expression


def compile_expression(
    source: str,
    allowed: frozenset[str] = NAMES,
    *,
    owner: Hashable = None,
    units: int = EDGE_UNITS,
    is_key: bool = False,
) -> Expression:
    """Compile, once per owner and source. Raises ExpressionError with the expression, line and column.

    `owner`: the organization that it belongs to. `units`: what an evaluation may cost. `is_key`: its text is part of a
    limit, an idempotency key or the like.
    """
    key = (source, allowed, units, is_key)
    cache = this_process.own(_Cache)
    known = cache.get(owner, key)
    if known is None:
        known = _compile(source, allowed, units, is_key)
        cache.keep(owner, key, known)
    return known


def check_bounds(expression: Expression) -> None:
    """Raises ExpressionError where an expression is larger than one that is published may be."""
    tree, source = expression.tree, expression.source
    for what, value, bound in (
        ("characters", len(source), PUBLISHED_CHARACTERS),
        ("parts", tree.nodes, PUBLISHED_NODES),
        ("levels", tree.depth, PUBLISHED_DEPTH),
    ):
        if value > bound:
            raise ExpressionError(
                f"`{expression.shown}` has {value:,} {what}; {bound:,} are allowed: split it over several steps, or use"
                " a script"
            )


def _compile(source: str, allowed: frozenset[str], units: int, is_key: bool) -> Expression:
    if not source.strip():
        raise ExpressionError("An expression is empty; leave the field out instead.")
    try:
        tree = syntax.parse(source)
        run = program.build(tree.root, sizes_in_bytes=is_key)
    except ExpressionError as error:
        raise ExpressionError(f"`{shown(source)}`: {error}") from None
    except RecursionError:
        raise ExpressionError(f"`{shown(source)}`: nested too deeply") from None
    names: set[str] = set()
    steps: set[str] = set()
    for node in _reads(tree.root, frozenset(), steps):
        if node.text not in allowed and node.text not in TYPES:
            close = difflib.get_close_matches(node.text, allowed, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"in scope are {', '.join(sorted(allowed))}"
            raise ExpressionError(f"`{shown(source)}`: unknown name {node.text!r} at column {node.at + 1}; {hint}")
        if node.text == "steps":
            raise ExpressionError(f"`{shown(source)}`: name the step that is read: steps['key'] or steps.key")
        names.add(node.text)
    if steps and "steps" not in allowed:
        raise ExpressionError(f"`{shown(source)}`: unknown name 'steps'; in scope are {', '.join(sorted(allowed))}")
    if steps:
        names.add("steps")
    return Expression(
        source=source,
        names=frozenset(names) & allowed,
        steps=frozenset(steps),
        units=units,
        tree=tree,
        _program=run,
    )


def _reads(node: Node, bound: frozenset[str], steps: set[str]) -> Iterator[Name]:
    """The free names of a tree; the keys of steps that are read go to `steps`, and `steps` itself is left out then."""
    match node:
        case Name():
            if node.text not in bound:
                yield node
        case Path() if _is_free(node.root, "steps", bound) and node.parts[0][0]:
            steps.add(node.parts[0][1])
            for is_field, part in node.parts:
                if not is_field:
                    yield from _reads(part, bound, steps)
        case Has() if _is_free(node.operand, "steps", bound):
            steps.add(node.field)
        case Comprehension():
            yield from _reads(node.range, bound, steps)
            for argument in node.arguments:
                yield from _reads(argument, bound | {node.variable}, steps)
        case _:
            for child in children(node):
                yield from _reads(child, bound, steps)


def _is_free(node: Node, name: str, bound: frozenset[str]) -> bool:
    return isinstance(node, Name) and node.text == name and name not in bound


def _as_json(value: Any, budget: Budget) -> Any:
    """From a value of CEL to JSON, within the budget: a value that is shared counts each time."""
    match value:
        case str():
            budget.give(8 + len(value))
            return str(value) if type(value) is TypeName else value
        case None | bool():
            return value
        case int():
            budget.give(16)
            return int(value)
        case float():
            budget.give(16)
            if not math.isfinite(value):
                raise CelError(f"gives {value}, which JSON can't hold")
            return value
        case list() | tuple():
            budget.give(64 + 8 * len(value))
            return [_as_json(item, budget) for item in value]
        case dt.datetime():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case bytes():
            raise CelError("gives bytes, which JSON can't hold; use string(…)")
        case Mapping():
            budget.give(64 + 16 * len(value))
            return {str(key): _as_json(item, budget) for key, item in value.items()}
    raise CelError(f"gives {type_name(value)}, which JSON can't hold")
