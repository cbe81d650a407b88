"""One CEL expression, by the package `common-expression-language`."""

from __future__ import annotations

import datetime as dt
import difflib
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cel

from workflows.errors import ExpressionError, MissingField

NAMES = frozenset({"event", "input", "steps", "run", "org", "secrets", "item", "index", "async", "body", "headers",
                   "callbacks"})  # fmt: skip
_MACRO_VARIABLE = re.compile(r"\.\s*(?:map|filter|all|exists|exists_one|sortBy|transformList)\(\s*([A-Za-z_]\w*)\s*,")
_POSITION = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")
_PROBES = ("{0}('1')", "{0}(1)", "{0}([1])", "''.{0}()", "'a'.{0}('a')", "[1].{0}(1)", "duration('1s').{0}()",
           "timestamp('2024-01-01T00:00:00Z').{0}()")  # fmt: skip
_TEXT = re.compile(r"'[^']*'|\"[^\"]*\"")
_STEP = re.compile(r"\bsteps\s*(?:\[\s*(?:'([^']*)'|\"([^\"]*)\")\s*\]|\.\s*([A-Za-z_]\w*))")


@dataclass(frozen=True, kw_only=True)
class Expression:
    """A compiled expression.

    `names` are the top-level names that it reads, `steps` the keys of the steps among them.
    """

    source: str
    names: frozenset[str]
    steps: frozenset[str]
    _program: cel.Program = field(repr=False, compare=False)

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value in this scope, as JSON. Raises MissingField or ExpressionError, naming the expression."""
        try:
            return _as_json(self._program.execute({name: scope.get(name) for name in self.names}), self.source)
        except KeyError as error:
            raise MissingField(f"`{self.source}`: there is no field {error.args[0]!r}") from None
        except (
            RuntimeError,
            RecursionError,
            TypeError,
            ValueError,
            ArithmeticError,
            IndexError,
            OverflowError,
        ) as error:
            raise ExpressionError(f"`{self.source}`: {_plain(error)}") from None

    def holds(self, scope: Mapping[str, Any]) -> bool:
        """The expression as a condition; a missing field is an error. Raises MissingField or ExpressionError."""
        value = self.evaluate(scope)
        if not isinstance(value, bool):
            raise ExpressionError(f"`{self.source}` gives {type(value).__name__}, a condition must give true or false")
        return value

    def is_true(self, scope: Mapping[str, Any]) -> bool:
        """The expression as a filter: a missing field makes it false, a value that is no boolean is an error."""
        try:
            return self.holds(scope)
        except MissingField:
            return False


@functools.lru_cache(maxsize=4096)
def compile_expression(source: str, allowed: frozenset[str] = NAMES) -> Expression:
    """Compile, once per source. Raises ExpressionError with the expression, line and column."""
    if not source.strip():
        raise ExpressionError("An expression is empty; leave the field out instead.")
    try:
        program = cel.compile(source)
    except ValueError as error:
        raise ExpressionError(f"`{source}`: {_where(str(error))}") from None
    names = frozenset(program.variables()) - set(_MACRO_VARIABLE.findall(source))
    for name in sorted(names - allowed):
        close = difflib.get_close_matches(name, allowed, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"in scope are {', '.join(sorted(allowed))}"
        position = source.find(name) + 1
        raise ExpressionError(f"`{source}`: unknown name {name!r} at column {position}; {hint}")
    for function in program.functions():
        if not _is_known(function):
            raise ExpressionError(f"`{source}`: unknown function {function!r} at column {source.find(function) + 1}")
    if re.search(r"\bsteps\b", _TEXT.sub("", _STEP.sub("", source))):
        raise ExpressionError(f"`{source}`: name the step that is read: steps['key'] or steps.key")
    steps = frozenset(a or b or c for a, b, c in _STEP.findall(source))
    return Expression(source=source, names=names & allowed, steps=steps, _program=program)


@functools.lru_cache(maxsize=1024)
def _is_known(function: str) -> bool:
    """Whether the interpreter has the function or method: it says so itself when it is called."""
    if not function.isidentifier():
        return True  # an operator
    for probe in _PROBES:
        try:
            cel.compile(probe.format(function)).execute({})
        except RuntimeError as error:
            if "Undefined" in str(error):
                continue
        except (ValueError, TypeError, KeyError, ArithmeticError, IndexError):
            return True
        return True
    return False


def _where(message: str) -> str:
    found = _POSITION.search(message)
    if not found:
        return message.splitlines()[0]
    line, column, reason = found.groups()
    reason = reason.split(" expecting {")[0]
    return f"line {line}, column {column}: {reason}"


def _plain(error: BaseException) -> str:
    return str(error).split(". Check that")[0].split(", so common causes")[0] or type(error).__name__


def _as_json(value: Any, source: str) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        raise ExpressionError(f"`{source}` gives bytes, which JSON can't hold; use string(…)")
    if isinstance(value, list):
        return [_as_json(item, source) for item in value]
    if isinstance(value, dict):
        return {str(key): _as_json(item, source) for key, item in value.items()}
    return value
