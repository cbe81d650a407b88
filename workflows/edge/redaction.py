"""Fields of payloads whose values nobody is shown, by the rules of their organization.

A rule is a name (`password`) or a path (`data.card.number`, `headers.*.value`; `*`: any one name). It holds at every
place that ends with its names, in any case, within lists too; `$.` before it: only from the top of a payload. What is
stored, and what steps and expressions see, stays as it is.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from cachetools import TTLCache

from workflows import this_process
from workflows.errors import InvalidInput
from workflows.models import Event, Organization, Run, StepRun

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
OF_EVENTS = ("data", "input", "eventdata", "triggerdata")
"""Names under which the data of an event is shown."""


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
            for each in _spellings(names):
                self._by_last.setdefault(each[-1], []).append(each)

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


def _spellings(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """A path that begins at the data of an event holds for the payloads that such data is shown as, too."""
    if len(names) > 1 and names[0] in OF_EVENTS:
        return [(first, *names[1:]) for first in OF_EVENTS]
    return [names]


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


class AnyRules:
    """Whether any organization has rules, as it was a few seconds ago."""

    def __init__(self) -> None:
        self._is_so, self._until = False, 0.0

    def ask(self) -> bool:
        now = time.monotonic()
        if now >= self._until:
            self._is_so = Organization.objects.exclude(redaction=[]).exists()
            self._until = now + TTL_S
        return self._is_so


def are_there_any() -> bool:
    """Whether any organization has rules."""
    return this_process.own(AnyRules).ask()


MOST_IDS = 500
MOST_RUNS = 5
"""Of so few runs the outputs of steps are looked at too, not only what they began with."""
MOST_READ = 100
"""Rows whose payloads are looked at, the latest runs first."""


RunsOf = Callable[[Collection[UUID]], Iterable[UUID]]
RUNS_OF: dict[str, RunsOf] = {}
"""Of other rows that are about runs: by what they are, the runs of those with these ids."""


def register(runs_of: Mapping[str, RunsOf]) -> None:
    """Add the rows of an app. Raises ValueError where another has a name already."""
    for name, find in runs_of.items():
        if RUNS_OF.setdefault(name, find) is not find:
            raise ValueError(f"the runs of {name!r} are registered twice")


def known_values(ids: Collection[UUID]) -> list[str]:
    """The texts at the places of the rules in what these runs (or the runs of these steps and events) are about: each
    by the rules of its own organization, to be masked in other texts, such as errors."""
    if not ids or not are_there_any():
        return []
    some = list(ids)[:MOST_IDS]
    of_others = {run_id for find in RUNS_OF.values() for run_id in find(some)}
    of_steps = StepRun.objects.filter(id__in=some).values_list("run_id", flat=True)
    ruled = Organization.objects.exclude(redaction=[]).values("id")
    runs = Run.objects.filter(id__in={*some, *of_others, *of_steps}, org_id__in=ruled)
    events, run_ids, found = {*some}, [], dict[str, None]()
    wanted = runs.order_by("-id").values_list("id", "org_id", "input", "output", "event_id")
    for run_id, org_id, given, output, event_id in wanted[:MOST_READ]:
        found |= dict.fromkeys(rules_of(org_id).values({"input": given, "output": output}))
        run_ids.append(run_id)
        events.update([event_id] if event_id is not None else ())
        if len(found) >= MOST_VALUES:
            return list(found)[:MOST_VALUES]
    of_events = Event.objects.filter(id__in=events, org_id__in=ruled)
    for org_id, data, user in of_events.values_list("org_id", "data", "user")[:MOST_READ]:
        found |= dict.fromkeys(rules_of(org_id).values({"data": data, "user": user}))
    if len(run_ids) <= MOST_RUNS:
        steps = StepRun.objects.filter(run_id__in=run_ids).exclude(output=None)
        for org_id, output in steps.values_list("org_id", "output")[:MOST_READ]:
            found |= dict.fromkeys(rules_of(org_id).values({"output": output}))
    return list(found)[:MOST_VALUES]
