"""Evaluation of a parsed expression: each node becomes a closure over a scope, under a budget.

A closure takes the scope: a dict of names, with the evaluation's budget under BUDGET. Work that repeats spends from the
budget, so that every evaluation ends; what does not repeat is bounded by the number of nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workflows.errors import ExpressionError
from workflows.expressions import functions, values
from workflows.expressions.nodes import (
    Call,
    Chain,
    Choice,
    Comprehension,
    Has,
    ListOf,
    Literal,
    Logic,
    MapOf,
    Name,
    Node,
    Path,
    Unary,
    children,
)
from workflows.expressions.values import OPERATORS, TYPES, CelError, NoSuchField, type_name

BUDGET = ""
Scope = Mapping[str, Any]
Table = dict[str, tuple[int, Callable[..., Any]]]
Program = Callable[[dict[str, Any]], Any]


def build(node: Node, *, sizes_in_bytes: bool = False) -> Program:
    """The program of a tree. Raises ExpressionError for functions that do not exist, with their place.

    `sizes_in_bytes`: `size` of a text counts bytes, as keys have been made since 0.1.0.
    """
    return _Builder(sizes_in_bytes).build(node)


def _is_true(value: Any, where: str) -> bool:
    if value is True or value is False:
        return value
    raise CelError(f"{where} needs true or false, not {type_name(value)}")


class _Builder:
    def __init__(self, sizes_in_bytes: bool) -> None:
        size = functions.size_in_bytes if sizes_in_bytes else functions.size
        self._functions: Table = {**functions.FUNCTIONS, "size": (1, size)}
        self._methods: Table = {**functions.METHODS, "size": (0, size)}
        self._weights: dict[int, int] = {}  # of the bodies of comprehensions, which may be nested

    def _weight(self, node: Node) -> int:
        known = self._weights.get(id(node))
        if known is None:
            known = 1 + sum(self._weight(child) for child in children(node))
            if isinstance(node, Comprehension):
                self._weights[id(node)] = known
        return known

    def build(self, node: Node) -> Program:
        match node:
            case Literal():
                value = node.value
                return lambda scope: value
            case Name():
                return _name(node.text)
            case Path():
                return self._path(node)
            case Has():
                return _has(self.build(node.operand), node.field)
            case Call():
                return self._call(node)
            case Unary():
                return _unary(node.operator, self.build(node.operand))
            case Chain():
                return self._chain(node)
            case Logic():
                return _logic(node.operator == "||", tuple(self.build(operand) for operand in node.operands))
            case Choice():
                cases = tuple((self.build(condition), self.build(value)) for condition, value in node.cases)
                return _choice(cases, self.build(node.otherwise))
            case ListOf():
                return _list_of(tuple(self.build(item) for item in node.items))
            case MapOf():
                return _map_of(tuple((self.build(key), self.build(value)) for key, value in node.pairs))
            case Comprehension():
                return self._comprehension(node)

    def _path(self, node: Path) -> Program:
        root = self.build(node.root)
        if all(is_field for is_field, _ in node.parts):
            return _fields(root, tuple(name for _, name in node.parts))
        parts = tuple(("", self.build(part)) if not is_field else (part, None) for is_field, part in node.parts)

        def read(scope: dict[str, Any]) -> Any:
            value = root(scope)
            for name, key in parts:
                value = (
                    values.field_of(value, name) if key is None else values.item_of(value, key(scope), scope[BUDGET])
                )
            return value

        return read

    def _call(self, node: Call) -> Program:
        table = self._functions if node.target is None else self._methods
        found = table.get(node.function)
        arguments = tuple(self.build(argument) for argument in node.arguments)
        if found is None:
            what = "function" if node.target is None else "method"
            raise ExpressionError(f"unknown {what} {node.function!r} at column {node.at + 1}")
        count, function = found
        if len(arguments) != count:
            raise ExpressionError(f"{node.function!r} at column {node.at + 1} takes {count} arguments")
        if node.target is not None:
            arguments = (self.build(node.target), *arguments)
        if len(arguments) == 1:
            return lambda scope: function(arguments[0](scope), scope[BUDGET])
        one, other = arguments
        return lambda scope: function(one(scope), other(scope), scope[BUDGET])

    def _chain(self, node: Chain) -> Program:
        first = self.build(node.first)
        rest = tuple((OPERATORS[name], self.build(operand)) for name, operand in node.rest)
        if len(rest) == 1:
            apply_once, other = rest[0]
            return lambda scope: apply_once(first(scope), other(scope), scope[BUDGET])

        def fold(scope: dict[str, Any]) -> Any:
            value, budget = first(scope), scope[BUDGET]
            for apply, operand in rest:
                value = apply(value, operand(scope), budget)
            return value

        return fold

    def _comprehension(self, node: Comprehension) -> Program:
        range_, arguments = self.build(node.range), tuple(self.build(argument) for argument in node.arguments)
        cost = 1 + sum(self._weight(argument) for argument in node.arguments)
        run = _COMPREHENSIONS[node.kind]
        variable = node.variable

        def iterate(scope: dict[str, Any]) -> Any:
            items = range_(scope)
            if not isinstance(items, list | tuple | Mapping):
                raise CelError(f"{node.kind}(…) goes over a list or a map, not {type_name(items)}")
            return run(items, _Body(dict(scope), variable, cost), arguments)

        return iterate


class _Body:
    """The inner scope of a comprehension; each item costs the body's weight."""

    __slots__ = ("_budget", "_cost", "_variable", "scope")

    def __init__(self, scope: dict[str, Any], variable: str, cost: int) -> None:
        self.scope, self._variable, self._cost, self._budget = scope, variable, cost, scope[BUDGET]

    def bind(self, item: Any) -> dict[str, Any]:
        self._budget.spend(self._cost)
        self.scope[self._variable] = item
        return self.scope

    def made(self, result: list[Any]) -> list[Any]:
        self._budget.build(8 * len(result))
        return result


def _map(items: Any, body: _Body, arguments: tuple[Program, ...]) -> list[Any]:
    if len(arguments) == 1:
        transform = arguments[0]
        return body.made([transform(body.bind(item)) for item in items])
    condition, transform = arguments
    return body.made(
        [transform(body.scope) for item in items if _is_true(condition(body.bind(item)), "the condition of map")]
    )


def _filter(items: Any, body: _Body, arguments: tuple[Program, ...]) -> list[Any]:
    (condition,) = arguments
    return body.made([item for item in items if _is_true(condition(body.bind(item)), "the condition of filter")])


def _all(items: Any, body: _Body, arguments: tuple[Program, ...]) -> bool:
    return not _any(items, body, arguments, False)


def _exists(items: Any, body: _Body, arguments: tuple[Program, ...]) -> bool:
    return _any(items, body, arguments, True)


def _any(items: Any, body: _Body, arguments: tuple[Program, ...], wanted: bool) -> bool:
    """Whether the condition gives `wanted` for any item; an item's error counts only where none does."""
    (condition,) = arguments
    failure: Exception | None = None
    for item in items:
        try:
            if _is_true(condition(body.bind(item)), "the condition of all and exists") is wanted:
                return True
        except (CelError, NoSuchField) as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return False


def _exists_one(items: Any, body: _Body, arguments: tuple[Program, ...]) -> bool:
    (condition,) = arguments
    return sum(_is_true(condition(body.bind(item)), "the condition of exists_one") for item in items) == 1


_COMPREHENSIONS: dict[str, Callable[[Any, _Body, tuple[Program, ...]], Any]] = {
    "map": _map,
    "filter": _filter,
    "all": _all,
    "exists": _exists,
    "exists_one": _exists_one,
}


def _name(text: str) -> Program:
    constant = TYPES.get(text)

    def read(scope: dict[str, Any]) -> Any:
        try:
            return scope[text]
        except KeyError:
            if constant is not None:
                return constant
            raise NoSuchField(text) from None

    return read


def _fields(root: Program, names: tuple[str, ...]) -> Program:
    def read(scope: dict[str, Any]) -> Any:
        value = root(scope)
        for name in names:
            try:
                value = value[name]
            except (KeyError, TypeError, IndexError):
                value = values.field_of(value, name)
        return value

    return read


def _has(operand: Program, field: str) -> Program:
    def is_there(scope: dict[str, Any]) -> bool:
        value = operand(scope)
        if not isinstance(value, Mapping):
            raise CelError(f"has(…): {type_name(value)} has no fields")
        return field in value

    return is_there


def _unary(operator: str, operand: Program) -> Program:
    if operator == "-":
        return lambda scope: values.negate(operand(scope))
    return lambda scope: not _is_true(operand(scope), "!")


def _logic(decisive: bool, operands: tuple[Program, ...]) -> Program:
    """`||` (decisive: true) or `&&` (false): one decisive operand decides, whatever the others are or fail with."""
    where = "||" if decisive else "&&"

    def decide(scope: dict[str, Any]) -> bool:
        failure: Exception | None = None
        for operand in operands:
            try:
                if _is_true(operand(scope), where) is decisive:
                    return decisive
            except (CelError, NoSuchField) as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return not decisive

    return decide


def _choice(cases: tuple[tuple[Program, Program], ...], otherwise: Program) -> Program:
    def choose(scope: dict[str, Any]) -> Any:
        for condition, value in cases:
            if _is_true(condition(scope), "the condition of ? :"):
                return value(scope)
        return otherwise(scope)

    return choose


def _list_of(items: tuple[Program, ...]) -> Program:
    return lambda scope: [item(scope) for item in items]


def _map_of(pairs: tuple[tuple[Program, Program], ...]) -> Program:
    def make(scope: dict[str, Any]) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key, value in pairs:
            name = key(scope)
            if not isinstance(name, str | int):
                raise CelError(f"a key of a map is a text, a whole number or a boolean, not {type_name(name)}")
            made[name] = value(scope)
        return made

    return make
