"""What a verb has changed, before and after: the verb tells it, the face around it keeps it, its audit entry has it.

Verbs are called from code of the application, too: what they tell outside a face goes nowhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

_told: ContextVar[dict[str, dict[str, Any]] | None] = ContextVar("headrace_changes", default=None)


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """Keep what verbs tell until the end of the block, for the entries that are written in it."""
    token = _told.set({})
    try:
        yield
    finally:
        _told.reset(token)


def tell(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Say what was before and what is now: only names whose values differ are kept."""
    kept = _told.get()
    if kept is None:
        return
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            kept.setdefault("before", {})[name] = before.get(name)
            kept.setdefault("after", {})[name] = after.get(name)


def before_and_after() -> dict[str, Any]:
    """What was told in this block: `before` and `after`, or nothing."""
    return {side: dict(values) for side, values in (_told.get() or {}).items()}
