"""Templates: JSON whose strings may hold `${ CEL }`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workflows.errors import ExpressionError
from workflows.expressions.cel import NAMES, STEP_UNITS, Expression, compile_expression, shown
from workflows.expressions.scan import outside_strings
from workflows.expressions.values import Budget

type_name = type
Render = Callable[[Mapping[str, Any], Budget], Any]


@dataclass(frozen=True, kw_only=True)
class Template:
    """Compiled JSON with templates. `expressions` is empty where it is constant."""

    source: Any
    expressions: tuple[Expression, ...]
    _render: Render = field(repr=False, compare=False)

    @property
    def is_constant(self) -> bool:
        return not self.expressions

    @property
    def names(self) -> frozenset[str]:
        return frozenset().union(*(expression.names for expression in self.expressions))

    @property
    def steps(self) -> frozenset[str]:
        return frozenset().union(*(expression.steps for expression in self.expressions))

    def render(self, scope: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """The value in this scope; a string that is exactly one `${ … }` keeps the value's type.

        All expressions of it share one budget, which others may share with it.

        Raises MissingField or ExpressionError with the path of the string and its expression.
        """
        return self._render(scope, budget or Budget(STEP_UNITS))


def compile_template(source: Any, allowed: frozenset[str] = NAMES, *, owner: Hashable = None) -> Template:
    """Compile any JSON value. Raises ExpressionError with the path, the expression and the position."""
    compiler = _Compiler(allowed=allowed, owner=owner)
    try:
        render = compiler.compile(source, "")
    except RecursionError:
        raise ExpressionError("A template is nested too deeply.") from None
    return Template(source=source, expressions=tuple(compiler.expressions), _render=render)


@dataclass(kw_only=True)
class _Compiler:
    allowed: frozenset[str]
    owner: Hashable
    expressions: list[Expression] = field(default_factory=list)

    def compile(self, source: Any, path: str) -> Render:
        if isinstance(source, dict):
            fields = {key: self.compile(value, f"{path}.{key}") for key, value in source.items()}
            return lambda scope, budget: {key: render(scope, budget) for key, render in fields.items()}
        if isinstance(source, list):
            items = [self.compile(value, f"{path}[{i}]") for i, value in enumerate(source)]
            return lambda scope, budget: [render(scope, budget) for render in items]
        if isinstance(source, str) and "${" in source:
            return self._string(source, path.lstrip(".") or "template")
        return lambda scope, budget: source

    def _string(self, source: str, path: str) -> Render:
        try:
            parts = [part if literal else self._expression(part) for literal, part in split(source)]
        except ExpressionError as error:
            raise ExpressionError(f"{path}: {error}") from None
        self.expressions.extend(part for part in parts if isinstance(part, Expression))
        return functools.partial(_render_string, parts, path)

    def _expression(self, source: str) -> Expression:
        return compile_expression(source, self.allowed, owner=self.owner, units=STEP_UNITS)


def _render_string(parts: list[str | Expression], path: str, scope: Mapping[str, Any], budget: Budget) -> Any:
    try:
        if len(parts) == 1 and isinstance(parts[0], Expression):
            return parts[0].evaluate(scope, budget)
        return "".join(part if isinstance(part, str) else _text(part.evaluate(scope, budget)) for part in parts)
    except ExpressionError as error:
        raise type_name(error)(f"{path}: {error}") from None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def split(source: str) -> list[tuple[bool, str]]:
    """Cut a string into (is it literal, text) pieces; `$${` stands for a literal `${`."""
    pieces: list[tuple[bool, str]] = []
    literal, position = "", 0
    while position < len(source):
        if source.startswith("$${", position):
            literal += "${"
            position += 3
        elif source.startswith("${", position):
            end = _closing(source, position + 2)
            if literal:
                pieces.append((True, literal))
            pieces.append((False, source[position + 2 : end].strip()))
            literal, position = "", end + 1
        else:
            literal += source[position]
            position += 1
    if literal:
        pieces.append((True, literal))
    return pieces


def _closing(source: str, start: int) -> int:
    """The index of the `}` that ends the expression starting at `start`, past strings and inner braces."""
    depth = 0
    for position, character in outside_strings(source, start):
        if character == "{":
            depth += 1
        elif character == "}":
            if depth == 0:
                return position
            depth -= 1
    raise ExpressionError(f"`{shown(source)}`: the `${{` at column {start - 1} is never closed")
