"""The journal of a run: what its function has asked for so far, and whether the code still asks for the same. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from workflows.functions.failures import Nondeterminism
from workflows.models.run import ENDED_STEP

LAST = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)


class JournalRow(Protocol):
    """A row of `load_journal`."""

    @property
    def id(self) -> UUID: ...
    @property
    def key(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def position(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def output(self) -> Any: ...
    @property
    def error(self) -> Any: ...
    @property
    def ended_at(self) -> dt.datetime | None: ...


def is_decided(row: JournalRow) -> bool:
    """Whether the step has ended."""
    return row.status in ENDED_STEP


class Place(NamedTuple):
    """Where a call stands: its key (`name`, `name:1`, …), its row, where it has one, and its position in the order in
    which rows are made."""

    key: str
    position: int
    row: JournalRow | None


class Journal:
    """The rows of a run, as one visit of its code goes through them."""

    def __init__(
        self, rows: Iterable[JournalRow], *, began_at: dt.datetime, ends: Sequence[UUID] | None = None
    ) -> None:
        """`ends`: the steps that have ended, in that order, where the times of their ends do not say it."""
        self._order = sorted(rows, key=lambda row: row.position)
        self._rows = {row.key: row for row in self._order}
        self._unused = dict(self._rows)
        self._first = 0
        """Rows before this one (by position) were asked for."""
        self._count: dict[str, int] = {}
        self._next = self._order[-1].position + 1 if self._order else 0
        self._reached = -1
        self.ends = Ends(self._order, ends)
        self.now = began_at
        """When the latest step ended whose value the code has; before the first, when the run was made."""

    def enter(self, name: str, type_: str) -> Place:
        """The place of the next call of this name. Raises Nondeterminism where its row is of another type."""
        number = self._count.get(name, 0)
        self._count[name] = number + 1
        key = _key(name, number)
        row = self._unused.pop(key, None)
        if row is None:
            self._next += 1
            return Place(key, self._next - 1, None)
        if self._order[self._first] is row:
            self._first += 1
        if row.position > self._reached:
            self._reached = row.position
        if row.type != type_:
            raise Nondeterminism(f"Step {row.position + 1} {key!r} was a {row.type}, the code asks for a {type_} now.")
        return Place(key, row.position, row)

    def check_order(self, place: Place) -> None:
        """Raises Nondeterminism where the code asks for a step before those that were made earlier. For code in which
        one call follows the other: branches may come in any order."""
        if place.row is None:
            return
        first = self._first_unused()
        if first is not None and first.position < place.position:
            raise Nondeterminism(
                f"Step {first.position + 1} was {first.key!r}, the code now asks for {place.key!r}. {ADVICE}"
            )

    def ended(self, at: dt.datetime) -> None:
        """Note that the code has the value of a step that ended at this time."""
        if at > self.now:
            self.now = at

    @property
    def is_replaying(self) -> bool:
        """Whether the journal has steps that the code has not asked for yet."""
        return bool(self._unused)

    def has_next(self, name: str) -> bool:
        """Whether the next call of this name is in the journal."""
        return self.next_row(name) is not None

    def skip(self, name: str) -> None:
        """Leave out the next call of this name: the one after it has the same key as if it had begun."""
        self._count[name] = self._count.get(name, 0) + 1

    def next_row(self, name: str) -> JournalRow | None:
        """The row of the next call of this name."""
        return self._unused.get(_key(name, self._count.get(name, 0)))

    def check_new(self, place: Place) -> None:
        """Raises Nondeterminism where the code asks for a new step although it has not asked for an earlier one."""
        first = self._first_unused()
        if first is not None:
            raise Nondeterminism(
                f"Step {first.position + 1} was {first.key!r}, the code now asks for {place.key!r}. {ADVICE}"
            )

    def check_end(self) -> None:
        """Raises Nondeterminism where the code has ended without asking for all of the journal."""
        first = self._first_unused()
        if first is not None:
            raise Nondeterminism(f"Step {first.position + 1} was {first.key!r}, the code now ends before it. {ADVICE}")

    def check_passed(self) -> None:
        """Raises Nondeterminism where the code has asked for a step of the journal, and not for an earlier one."""
        first = self._first_unused()
        if first is not None and first.position < self._reached:
            raise Nondeterminism(f"Step {first.position + 1} was {first.key!r}, the code now leaves it out. {ADVICE}")

    def _first_unused(self) -> JournalRow | None:
        while self._first < len(self._order) and self._order[self._first].key not in self._unused:
            self._first += 1
        return self._order[self._first] if self._first < len(self._order) else None


class Ends:
    """In which order steps have ended: code that waits for several at a time is given their values in this order, each
    once it has done what follows from the one before. So which of two was first is the same in every visit."""

    def __init__(self, rows: Sequence[JournalRow], order: Sequence[UUID] | None) -> None:
        if order is None:
            self._order = sorted(filter(is_decided, rows), key=_ended_at)
        else:
            by_id = {row.id: row for row in rows}
            self._order = [by_id[step_run_id] for step_run_id in order]
        self._number: dict[UUID, int] = {}
        self._next = 0
        self._given: set[int] = set()
        """Those after the next one."""

    def number(self, row: JournalRow) -> int:
        """The place of a step that has ended."""
        if not self._number:
            self._number = {each.id: number for number, each in enumerate(self._order)}
        return self._number[row.id]

    def give_next(self, row: JournalRow) -> bool:
        """Note that the code has the value of this step. False where it has not been given all that ended before."""
        if self._order[self._next] is not row:
            return False
        self._pass(self._next)
        return True

    def give(self, row: JournalRow) -> None:
        """Note that the code has the value of this step, or its failure."""
        self._pass(self.number(row))

    def _pass(self, number: int) -> None:
        if number != self._next:
            self._given.add(number)
            return
        self._next += 1
        while self._next in self._given:
            self._given.remove(self._next)
            self._next += 1


def _key(name: str, number: int) -> str:
    return f"{name}:{number}" if number else name


def _ended_at(row: JournalRow) -> dt.datetime:
    return row.ended_at or LAST


def later(one: dt.datetime | None, other: dt.datetime | None) -> dt.datetime | None:
    """The later of two times, of which either may be missing."""
    return one if other is None or (one is not None and one > other) else other


ADVICE = "Bring the order of the steps back, or let runs that began before take the old way: step.patched('name')."
