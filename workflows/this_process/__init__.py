"""What this process has for itself, in one object: its gate, its caches, its dispatcher, its pools and its threads.

A fork begins with nothing: a connection, a lock or a thread of its parent is of no use to a child.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Parts:
    """The parts of one process, each made at its first use. The class or function that makes a part is also its key."""

    def __init__(self) -> None:
        self._made: dict[Callable[[], Any], Any] = {}
        self._lock = threading.RLock()

    def own(self, make: Callable[[], T]) -> T:
        """The part that `make` makes: the same one for every caller."""
        try:
            part: T = self._made[make]
        except KeyError:
            with self._lock:
                if make not in self._made:
                    self._made[make] = make()
                part = self._made[make]
        return part

    @contextlib.contextmanager
    def replaced(self, make: Callable[[], T], by: T) -> Iterator[None]:
        """Have `by` as that part for a while."""
        before = self.own(make)
        self._made[make] = by
        try:
            yield
        finally:
            self._made[make] = before

    def forget(self, make: Callable[[], object]) -> None:
        """Drop a part; its next use makes a new one."""
        self._made.pop(make, None)


_parts = Parts()


def own(make: Callable[[], T]) -> T:
    """The part of this process that `make` makes: the same one for every caller."""
    return _parts.own(make)


def replaced(make: Callable[[], T], by: T) -> contextlib.AbstractContextManager[None]:
    """Have `by` as that part of this process for a while."""
    return _parts.replaced(make, by)


def forget(make: Callable[[], object]) -> None:
    """Drop a part of this process; its next use makes a new one."""
    _parts.forget(make)


def _begin_anew() -> None:
    global _parts
    _parts = Parts()


os.register_at_fork(after_in_child=_begin_anew)
