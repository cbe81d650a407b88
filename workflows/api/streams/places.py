"""How many live streams a process serves: by key or session, by organization, and in all."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable

from workflows.errors import TooManyStreams
from workflows.streams.holders import Holder

PER_HOLDER = 20
IN_ALL = 200
PER_ORGANIZATION = IN_ALL // 2


class Place:
    """One stream's place. `release` gives it back, once."""

    def __init__(self, places: Places, holder: Holder) -> None:
        self._places, self._holder = places, holder
        self._is_taken = True

    def release(self) -> None:
        self._is_taken, was_taken = False, self._is_taken
        if was_taken:
            self._places._give_back(self._holder)


class Places:
    """The places of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[Hashable] = Counter()

    @property
    def taken(self) -> int:
        return self._taken[None]

    def take(self, holder: Holder) -> Place:
        """A place for this holder. Raises TooManyStreams where it, its organization or the process has too many."""
        with self._lock:
            if self._taken[holder.kind, holder.id] >= PER_HOLDER:
                raise TooManyStreams(
                    f"This {holder.kind} has {PER_HOLDER} streams open in this process; close one, or let readers "
                    "share a stream."
                )
            if self._taken[holder.org_id] >= PER_ORGANIZATION:
                raise TooManyStreams(
                    f"The organization has {PER_ORGANIZATION} streams open in this process; close one, or let readers "
                    "share a stream."
                )
            if self._taken[None] >= IN_ALL:
                raise TooManyStreams(f"This process serves {IN_ALL} streams already; try again, or run more of them.")
            for counted in self._counted(holder):
                self._taken[counted] += 1
        return Place(self, holder)

    def _give_back(self, holder: Holder) -> None:
        with self._lock:
            for counted in self._counted(holder):
                self._taken[counted] -= 1
                if not self._taken[counted]:
                    del self._taken[counted]

    @staticmethod
    def _counted(holder: Holder) -> tuple[Hashable, ...]:
        return None, holder.org_id, (holder.kind, holder.id)
