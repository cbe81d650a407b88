"""The observations of this process that are not written yet: one for each task, to which each sign adds."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from workflows.engine.pipeline.retry_decision import storable

MAX_TASKS = 20_000
MAX_TEXT = 255
MAX_LONG = 1_000
_LONG = frozenset({"arguments", "message"})


@dataclass(slots=True)
class Seen:
    """What was seen of a task since the last writing. Times are seconds of the epoch."""

    id: str
    state: str
    seen_at: float
    name: str = ""
    queue: str = ""
    hostname: str = ""
    root_id: str = ""
    parent_id: str = ""
    group_id: str = ""
    retries: int = 0
    starts: int = 0
    arguments: str = ""
    error: str = ""
    message: str = ""
    sent_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None

    def as_json(self) -> dict[str, Any]:
        """What is known of it, cut, and without what Postgres refuses in texts. Short: thousands may be written in a
        second."""
        found: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            if value:
                if isinstance(value, str):
                    most = MAX_LONG if name in _LONG else MAX_TEXT
                    value = value if len(value) <= most else value[:most]
                    value = value if value.isascii() and "\0" not in value else storable(value)[:most]
                found[name] = value
        return found


class Buffer:
    """Bounded. Its methods never wait for anything but each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, Seen] = {}
        self._dropped = 0
        self.arrived = threading.Event()

    def sent(self, task_id: str, at: float, **facts: Any) -> None:
        """A task was given to the broker."""
        with self._lock:
            seen = self._of(task_id, "sent", at)
            if seen is not None:
                seen.sent_at = at if seen.sent_at is None else min(seen.sent_at, at)
                _set_facts(seen, facts)

    def started(self, task_id: str, at: float, **facts: Any) -> None:
        """A worker begins with a task."""
        with self._lock:
            seen = self._of(task_id, "started", at)
            if seen is not None:
                seen.state, seen.seen_at, seen.started_at, seen.ended_at = "started", at, at, None
                seen.starts += 1
                _set_facts(seen, facts)

    def ended(
        self, task_id: str, at: float, state: str, *,
        name: str = "", error: str = "", message: str = "", began: float | None = None,
    ) -> None:  # fmt: skip
        """A task has ended, or is to be tried again; `began`: when the try that is over did. A retry tells that it is
        one after its message is sent: the next try may have begun by then, or even ended."""
        with self._lock:
            seen = self._of(task_id, state, at)
            if seen is None:
                return
            if state == "retrying" and began is not None:
                if seen.started_at is not None and seen.started_at > began:
                    return
                seen.started_at = began
            seen.state, seen.seen_at, seen.error, seen.message = state, at, error, message
            seen.ended_at = None if state == "retrying" else at
            if name:
                seen.name = name

    def drop(self, count: int = 1) -> None:
        """Count observations that are lost."""
        with self._lock:
            self._dropped += count

    def take(self, most: int) -> tuple[list[Seen], int]:
        """Some of the observations, and how many were dropped. They are the caller's from now on."""
        with self._lock:
            if len(self._seen) <= most:
                seen, self._seen = list(self._seen.values()), {}
            else:
                seen = [self._seen.pop(key) for key in list(self._seen)[:most]]
            dropped, self._dropped = self._dropped, 0
        return seen, dropped

    def put_back(self, seen: list[Seen], dropped: int) -> None:
        """What could not be written is kept while there is room; what was seen since is newer."""
        with self._lock:
            self._dropped += dropped
            for each in seen:
                if each.id in self._seen or len(self._seen) >= MAX_TASKS:
                    self._dropped += 1
                else:
                    self._seen[each.id] = each

    def __len__(self) -> int:
        return len(self._seen)

    def _of(self, task_id: str, state: str, at: float) -> Seen | None:
        seen = self._seen.get(task_id)
        if seen is None:
            if len(self._seen) >= MAX_TASKS:
                self._dropped += 1
                return None
            seen = self._seen[task_id] = Seen(task_id, state, at)
        if not self.arrived.is_set():
            self.arrived.set()
        return seen


def _set_facts(seen: Seen, facts: dict[str, Any]) -> None:
    for name, value in facts.items():
        if value:
            setattr(seen, name, value)
