"""Fields of payloads whose values nobody is shown, by the rules of their organization.

A rule is a name (`password`) or a path (`data.card.number`, `headers.*.value`; `*`: any one name). It holds at every
place that ends with its names, in any case, within lists too; `$.` before it: only from the top of a payload. What is
stored, and what steps and expressions see, stays as it is.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

from cachetools import TTLCache

from workflows import this_process
from workflows.errors import InvalidInput
from workflows.models import Organization

MASK = "***"
MAX_RULES = 100
MAX_LENGTH = 200
MAX_NAMES = 10
TTL_S = 5.0
"""Seconds after which every process knows a changed rule."""
MOST_ORGANIZATIONS = 1_000
SHORTEST = 4
LONGEST = 1_000
MOST_VALUES = 200
_NAME = re.compile(r"[^\s.$*\[\]\0]{1,100}|\*")
_TOP = "$"


def checked(rules: Collection[str]) -> list[str]:
    """The rules, each once, in their order. Raises InvalidInput for one that can't be applied, and for too many."""
    found = list(dict.fromkeys(rule.strip() for rule in rules))
    if len(found) > MAX_RULES:
        raise InvalidInput(f"redaction: at most {MAX_RULES} rules.")
    for rule in found:
        names = _names(rule)
        if len(rule) > MAX_LENGTH or not 1 <= len(names) <= MAX_NAMES:
            raise InvalidInput(
                f"redaction: {rule[:50]!r} is too long; a rule has 1 to {MAX_NAMES} names in {MAX_LENGTH} characters."
            )
        if any(_NAME.fullmatch(name) is None for name in names) or all(name == "*" for name in names):
            raise InvalidInput(
                f"redaction: {rule[:50]!r} is no rule; write a name or a path, like password, data.card.number or "
                "headers.*.value."
            )
    return found


def _names(rule: str) -> list[str]:
    return rule.removeprefix("$.").split(".")


class Rules:
    """The rules of an organization, to be applied to payloads."""

    def __init__(self, rules: Iterable[str] = ()) -> None:
        self._by_last: dict[str, list[tuple[str, ...]]] = {}
        for rule in rules:
            names = tuple(name.casefold() for name in _names(rule))
            while len(names) > 1 and names[0] == "*" and not rule.startswith("$."):
                names = names[1:]  # any place will do
            names = (_TOP, *names) if rule.startswith("$.") else names
            self._by_last.setdefault(names[-1], []).append(names)

    def __bool__(self) -> bool:
        return bool(self._by_last)

    def masked(self, value: Any, *above: str) -> Any:
        """The JSON value with `***` at the places of the rules. `above`: the names that it stands under."""
        if not self._by_last:
            return value
        top = (_TOP, *(name.casefold() for name in above))
        return self._masked(value, top, top)

    def _masked(self, value: Any, exact: tuple[str, ...], plain: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return {
                name: MASK
                if item is not None and self._is_hidden(exact, plain, str(name))
                else self._masked(item, (*exact, str(name).casefold()), (*plain, str(name).casefold()))
                for name, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._masked(item, (*exact, str(index)), plain) for index, item in enumerate(value)]
        return value

    def _is_hidden(self, exact: Sequence[str], plain: Sequence[str], name: str) -> bool:
        last = name.casefold()
        return any(
            _ends_with((*place, last), names)
            for key in (last, "*")
            for names in self._by_last.get(key, ())
            for place in (exact, plain)
        )

    def values(self, *payloads: Any) -> list[str]:
        """The texts that stand at the places of the rules, the first of them, to be masked where they stand alone."""
        found: dict[str, None] = {}
        top = (_TOP,)
        for payload in payloads if self._by_last else ():
            for text in self._values(payload, top, top):
                if SHORTEST <= len(text) <= LONGEST:
                    found[text] = None
                if len(found) >= MOST_VALUES:
                    return list(found)
        return list(found)

    def _values(self, value: Any, exact: tuple[str, ...], plain: tuple[str, ...]) -> Iterator[str]:
        if isinstance(value, dict):
            for name, item in value.items():
                if self._is_hidden(exact, plain, str(name)):
                    yield from _leaves(item)
                else:
                    yield from self._values(item, (*exact, str(name).casefold()), (*plain, str(name).casefold()))
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                yield from self._values(item, (*exact, str(index)), plain)


def _ends_with(place: Sequence[str], names: tuple[str, ...]) -> bool:
    if len(place) < len(names) or (names[0] == _TOP and len(place) != len(names)):
        return False
    return all(name in {"*", part} for name, part in zip(names, place[-len(names) :], strict=True))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


class KnownRules:
    """The rules of organizations, kept for a few seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: TTLCache[UUID, Rules] = TTLCache(MOST_ORGANIZATIONS, TTL_S, timer=time.monotonic)

    def of(self, org_id: UUID) -> Rules:
        with self._lock:
            kept = self._kept.get(org_id)
        if kept is None:
            found = Organization.objects.filter(id=org_id).values_list("redaction", flat=True).first()
            kept = Rules(found or ())
            with self._lock:
                self._kept[org_id] = kept
        return kept


def rules_of(org_id: UUID) -> Rules:
    """The rules of an organization, as they were a few seconds ago at most."""
    return this_process.own(KnownRules).of(org_id)
