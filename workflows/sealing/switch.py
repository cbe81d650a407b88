"""Which organizations have their payloads stored encrypted: known to each process, and looked at again now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from uuid import UUID

from workflows import this_process
from workflows.this_process.configuration import configuration

KNOWN_FOR_S = 5.0
"""So long a process may still store payloads as before, after an organization was switched."""
Look = Callable[[], Iterable[UUID]]


class Sealing:
    """The organizations whose payloads are sealed, as this process knows them."""

    def __init__(self) -> None:
        self._ids: frozenset[UUID] = frozenset()
        self._everybody = False
        self._until = float("-inf")

    def is_on(self, org_id: UUID, look: Look) -> bool:
        """Whether the payloads of an organization are to be sealed. `look`: finds the organizations that want it;
        what it raises is raised, since nothing may be stored in clear because nobody knew."""
        if time.monotonic() > self._until:
            self.look_again(look)
        return self._everybody or org_id in self._ids

    def is_off_for_all(self, look: Look) -> bool:
        """Whether no organization at all wants it."""
        if time.monotonic() > self._until:
            self.look_again(look)
        return not (self._everybody or self._ids)

    def look_again(self, look: Look) -> None:
        """Learn what holds from now on."""
        asked_at = time.monotonic()
        self._everybody = configuration().encrypt_payloads
        self._ids = frozenset() if self._everybody else frozenset(look())
        self._until = asked_at + KNOWN_FOR_S


def known() -> Sealing:
    """What this process knows."""
    return this_process.own(Sealing)


def forget() -> None:
    """Have this process look again."""
    this_process.forget(Sealing)
