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
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cachetools import TTLCache
from django.db.models import F, Func, IntegerField, QuerySet
from django.db.models.functions import Coalesce

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


MOST_IDS = 2_000
MOST_RUNS = 500
MOST_STEPS = 5_000
"""Rows whose payloads are looked at, the latest runs first."""
MOST_BYTES = 8 * 1024 * 1024
"""What these payloads may have together, as they are stored."""
MOST_KNOWN = 1_000
"""Values that are known at once. What is beyond any of these bounds is named, so that its texts are not shown."""


RunsOf = Callable[[Collection[UUID]], Iterable[UUID]]
RUNS_OF: dict[str, RunsOf] = {}
"""Of other rows that are about runs: by what they are, the runs of those with these ids."""


def register(runs_of: Mapping[str, RunsOf]) -> None:
    """Add the rows of an app. Raises ValueError where another has a name already."""
    for name, find in runs_of.items():
        if RUNS_OF.setdefault(name, find) is not find:
            raise ValueError(f"the runs of {name!r} are registered twice")


@dataclass(frozen=True, kw_only=True)
class HiddenValues:
    """Texts that are masked wherever they stand, and the ids (of runs, steps and events) that were not looked at."""

    values: Sequence[str] = ()
    unread: frozenset[UUID] = frozenset()


def find_values(ids: Collection[UUID], of: Collection[UUID] | None = None) -> HiddenValues:
    """The texts at the places of the rules in what these runs (or the runs of these steps and events) are about: each
    by the rules of its own organization, to be masked in other texts, such as errors. `of`: of these organizations
    only."""
    if not ids or not are_there_any():
        return HiddenValues()
    some = list(dict.fromkeys(ids))
    look = _Look(some[:MOST_IDS], Organization.objects.exclude(redaction=[]), of)
    look.at_runs()
    look.at_events()
    look.at_steps()
    return HiddenValues(values=list(look.found), unread=frozenset({*look.unread, *some[MOST_IDS:]}))


class _Look:
    """What is found within the bounds, and what is beyond them."""

    def __init__(self, ids: list[UUID], ruled: QuerySet[Organization], of: Collection[UUID] | None) -> None:
        ruled = ruled if of is None else ruled.filter(id__in=of)
        self._ids, self._ruled = ids, list(ruled.values_list("id", flat=True))
        self._events: set[UUID] = set(ids)
        self._runs: list[UUID] = []
        self._bytes = 0
        self._runs_of_steps = dict(
            StepRun.objects.filter(id__in=ids, org_id__in=self._ruled).values_list("id", "run_id")
        )
        self.found: dict[str, None] = {}
        self.unread: set[UUID] = set()

    def at_runs(self) -> None:
        """Inputs and outputs of the runs."""
        of_others = {run_id for find in RUNS_OF.values() for run_id in find(self._ids)}
        wanted = {*self._ids, *of_others, *self._runs_of_steps.values()}
        runs = Run.objects.filter(id__in=wanted, org_id__in=self._ruled).order_by("-id")
        sized = runs.annotate(bytes=_bytes("input") + _bytes("output")).values_list("id", "bytes", "event_id")
        chosen: list[UUID] = []
        for position, (run_id, size, event_id) in enumerate(sized):
            if position < MOST_RUNS and self._has_room(size):
                chosen.append(run_id)
            else:
                self._leave(run_id)
            self._events.update([event_id] if event_id is not None else ())
        rows = runs.filter(id__in=chosen).values_list("id", "org_id", "input", "output")
        for run_id, org_id, given, output in rows:
            self._runs.append(run_id)
            self._take(run_id, org_id, {"input": given, "output": output})

    def at_events(self) -> None:
        """The data of the events, of those that the runs began with too."""
        events = Event.objects.filter(id__in=self._events, org_id__in=self._ruled).order_by("-id")
        for event_id, size in events.annotate(bytes=_bytes("data") + _bytes("user")).values_list("id", "bytes"):
            if not self._has_room(size):
                self._leave(event_id)
        rows = events.exclude(id__in=self.unread).values_list("id", "org_id", "data", "user")
        for event_id, org_id, data, user in rows:
            self._take(event_id, org_id, {"data": data, "user": user})
        runs = Run.objects.filter(event_id__in=self.unread & self._events, id__in=self._runs)
        for run_id in runs.values_list("id", flat=True):
            self._leave(run_id)

    def at_steps(self) -> None:
        """Outputs of the steps."""
        steps = StepRun.objects.filter(run_id__in=self._runs, org_id__in=self._ruled).exclude(output=None)
        sized = steps.order_by("-run_id").annotate(bytes=_bytes("output")).values_list("id", "run_id", "bytes")
        chosen: list[UUID] = []
        rows = list(sized[: MOST_STEPS + 1])
        if len(rows) > MOST_STEPS:
            last = rows.pop()[1]
            for run_id in self._runs:
                if run_id <= last:
                    self._leave(run_id)
        for step_id, run_id, size in rows:
            if self._has_room(size):
                chosen.append(step_id)
            else:
                self._leave(run_id)
        for run_id, org_id, output in steps.filter(id__in=chosen).values_list("run_id", "org_id", "output"):
            self._take(run_id, org_id, {"output": output})

    def _has_room(self, size: int | None) -> bool:
        if self._bytes + (size or 0) > MOST_BYTES:
            return False
        self._bytes += size or 0
        return True

    def _take(self, row_id: UUID, org_id: UUID, payloads: dict[str, Any]) -> None:
        """Add the values of a row; one with too many of them is unread."""
        values = rules_of(org_id).values(payloads)
        new = [value for value in values if value not in self.found]
        if len(values) >= MOST_VALUES or len(self.found) + len(new) > MOST_KNOWN:
            self._leave(row_id)
        else:
            self.found.update(dict.fromkeys(new))

    def _leave(self, row_id: UUID) -> None:
        self.unread.add(row_id)
        self.unread.update(step_id for step_id, run_id in self._runs_of_steps.items() if run_id == row_id)


def _bytes(column: str) -> Coalesce:
    """What a column has, as it is stored: nothing is read for it."""
    return Coalesce(Func(F(column), function="pg_column_size", output_field=IntegerField()), 0)
