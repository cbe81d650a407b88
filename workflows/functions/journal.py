"""The journal of a run: what its function has asked for so far, and whether the code still asks for the same. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from workflows.functions.failures import Nondeterminism
from workflows.models.run import ENDED_STEP


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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call stands: its key (`name`, `name:1`, …), its position among all calls, and its row, where it has
    one."""

    key: str
    position: int
    row: JournalRow | None


class Journal:
    """The rows of a run, as one visit of its code goes through them."""

    def __init__(self, rows: Iterable[JournalRow], *, began_at: dt.datetime) -> None:
        self._rows = {row.key: row for row in rows}
        self._unused = dict(self._rows)
        self._count: dict[str, int] = {}
        self._position = 0
        self._reached = -1
        self.now = began_at
        """When the latest step ended that the code has asked for; before the first, when the run was made."""

    def enter(self, name: str, type_: str) -> Place:
        """The place of the next call of this name. Raises Nondeterminism where its row is of another type."""
        number = self._count.get(name, 0)
        self._count[name] = number + 1
        key = f"{name}:{number}" if number else name
        place = Place(key, self._position, self._unused.pop(key, None))
        self._position += 1
        if place.row is not None:
            self._reached = max(self._reached, place.row.position)
            if place.row.type != type_:
                raise Nondeterminism(
                    f"Step {place.position + 1} {key!r} was a {place.row.type}, the code asks for a {type_} now."
                )
            if place.row.ended_at is not None and place.row.ended_at > self.now:
                self.now = place.row.ended_at
        return place

    def ended(self, at: dt.datetime) -> None:
        """Note that a step has ended in this visit."""
        self.now = max(self.now, at)

    @property
    def is_replaying(self) -> bool:
        """Whether the journal has steps that the code has not asked for yet."""
        return bool(self._unused)

    def has(self, name: str) -> bool:
        """Whether a step of this name is in the journal, and the code has not asked for it yet."""
        return name in self._unused

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
        return min(self._unused.values(), key=lambda row: row.position, default=None)


ADVICE = "Bring the order of the steps back, or let runs that began before take the old way: step.patched('name')."
