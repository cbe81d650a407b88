"""Equality terms of waits: what is looked up by an index, so that an event need not be compared with every wait."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from workflows.errors import ExpressionError
from workflows.expressions import compile_expression
from workflows.expressions.scan import outside_strings

MISSING = object()
MATCH_PATH = r"^(data|user)(\.[A-Za-z_][A-Za-z0-9_-]*)+$"
"""What a path that a definition gives as `match` looks like."""
_PATH = r"async((?:\s*\.\s*[A-Za-z_]\w*|\s*\[\s*(?:'[^'\\]*'|\"[^\"\\]*\")\s*\])+)"
_LEFT = re.compile(rf"^{_PATH}\s*==\s*(?P<other>[^=].*)$", re.DOTALL)
_RIGHT = re.compile(rf"^(?P<other>.*[^=!<>])==\s*{_PATH}$", re.DOTALL)
_OTHER_OPERATOR = re.compile(r"[=!<>]=|&&|\|\||[?<>]|\bin\b")
_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_PART = re.compile(r"\.\s*([A-Za-z_]\w*)|\[\s*'([^']*)'\s*\]|\[\s*\"([^\"]*)\"\s*\]")
_OPENING, _CLOSING = "([{", ")]}"


class Term(NamedTuple):
    """A path within an event's facts (its parts joined by dots) and the hash of the value that stands there."""

    path: str
    value_hash: str


NO_TERM = Term("", "")


def keys_of(path: str) -> list[str]:
    """The keys of a path such as `data.order.id`."""
    return path.split(".")


def value_at(facts: Mapping[str, Any], path: str) -> Any:
    """What stands at `data.order.id` of an event; MISSING where there is nothing."""
    value: Any = facts
    for part in keys_of(path):
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value


def hash_of(value: Any) -> str:
    """The same for values that CEL calls equal: 1 and 1.0 are."""
    return hashlib.sha256(json.dumps(_canonical(value), sort_keys=True).encode()).hexdigest()[:32]


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value


def term_of(condition: str, scope: Mapping[str, Any]) -> Term:
    """The first `async.… == value` that must hold for the condition to hold; NO_TERM where there is none.

    The value may be any expression that does not read `async`; it is evaluated now. Raises ExpressionError where that
    fails.
    """
    for conjunct in _conjuncts(condition):
        found = _LEFT.match(conjunct) or _RIGHT.match(conjunct)
        other = _TEXT.sub("''", found["other"]) if found else ""
        if found is None or _OTHER_OPERATOR.search(other):
            continue
        parts = ["".join(part) for part in _PART.findall(found[1] if found.re is _LEFT else found[2])]
        if any("." in part or not part for part in parts):
            continue
        try:
            value = compile_expression(found["other"].strip())
        except ExpressionError:
            continue
        if "async" in value.names:
            continue
        return Term(".".join(parts), hash_of(value.evaluate(scope)))
    return NO_TERM


def _conjuncts(condition: str) -> Iterator[str]:
    """The parts that `&&` joins at the top; nothing where `||` or a choice stands there."""
    parts, depth, start = [], 0, 0
    for position, character in outside_strings(condition):
        if character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif depth == 0 and position >= start and condition.startswith("&&", position):
            parts.append(condition[start:position])
            start = position + 2
        elif depth == 0 and (condition.startswith("||", position) or character == "?"):
            return
    parts.append(condition[start:])
    yield from (_unwrapped(part.strip()) for part in parts)


def _unwrapped(part: str) -> str:
    """Without the parentheses around all of it."""
    inner = part[1:-1] if part.startswith("(") and part.endswith(")") else ""
    if inner and not any(mark in inner for mark in ("(", ")", "&&", "||", "?")):
        return inner.strip()
    return part
