"""Plain JSON and nothing else: what a definition may consist of, with every deviation and its path."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

MAX_DEPTH = 64
MAX_NODES = 50_000
MAX_KEY = 500
INT_MIN, INT_MAX = -(2**63), 2**64 - 1
Path = tuple[str | int, ...]


class Pairs(list[tuple[Any, Any]]):
    """An object as a parser found it: its pairs in order, so that a key that comes twice is still seen."""


class Oddity:
    """A value that a parser read, and that JSON has no form for."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def to_plain(value: Any) -> tuple[Any, list[tuple[Path, str]]]:
    """The value as JSON (dict, list, str, int, float, bool, None), and what is wrong with it: (path, reason).

    A value with problems must not be used.
    """
    reader = _Reader()
    return reader.read(value, ()), reader.problems


class _Reader:
    def __init__(self) -> None:
        self.problems: list[tuple[Path, str]] = []
        self._nodes = 0
        self._is_full = False

    def read(self, value: Any, path: Path) -> Any:
        self._nodes += 1
        if self._is_full:
            return None
        if self._nodes > MAX_NODES:
            self._is_full = True
            return self._refuse((), f"more than {MAX_NODES:,} values")
        if len(path) > MAX_DEPTH:
            return self._refuse(path[:8], f"nested more than {MAX_DEPTH} levels deep, or in itself")
        match value:
            case None | bool():
                return value
            case str():
                return self._text(value, path)
            case int():
                return self._integer(int(value), path)
            case float():
                return value if math.isfinite(value) else self._refuse(path, f"{value} is no number of JSON")
            case Pairs():
                return self._object(iter(value), path)
            case Mapping():
                return self._object(iter(value.items()), path)
            case list() | tuple():
                return [self.read(item, (*path, at)) for at, item in enumerate(value)]
            case Oddity():
                return self._refuse(path, value.reason)
        kind = {"date": "a date", "datetime": "a time", "bytes": "binary data", "set": "a set"}.get(
            type(value).__name__
        )
        return self._refuse(path, f"{kind or type(value).__name__} is no JSON; write it as text, in quotes")

    def _object(self, pairs: Iterator[tuple[Any, Any]], path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in pairs:
            if not isinstance(key, str):
                self._refuse(path, f"the key {key!r:.60} is no text; put it in quotes")
                continue
            if len(key) > MAX_KEY:
                self._refuse(path, f"a key has {len(key):,} characters; {MAX_KEY} are allowed")
                continue
            if key in found:
                self._refuse((*path, key), "is given twice; keep one of them")
            found[self._text(key, path)] = self.read(item, (*path, key))
        return found

    def _text(self, value: str, path: Path) -> str:
        if "\0" in value:
            self._refuse(path, "a text holds a NUL character, which can't be stored")
        elif any("\ud800" <= character <= "\udfff" for character in value) if not value.isascii() else False:
            self._refuse(path, "a text holds half a character (a lone surrogate), which can't be stored")
        return str(value)

    def _integer(self, value: int, path: Path) -> int | None:
        if INT_MIN <= value <= INT_MAX:
            return value
        self._refuse(path, "a whole number beyond 64 bits loses digits on its way; write it as text, in quotes")
        return None

    def _refuse(self, path: Path, reason: str) -> None:
        if len(self.problems) < 100:
            self.problems.append((path, reason))
