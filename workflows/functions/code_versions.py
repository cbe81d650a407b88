"""Which versions of a flow this process's code may visit: its own, and older ones, whose journals are checked."""

from __future__ import annotations

import random
import threading
import time
from typing import Any
from uuid import UUID

from cachetools import TTLCache

from workflows import this_process
from workflows.definitions.compiled import CompiledFlow
from workflows.engine.state import database
from workflows.functions.flows import FunctionFlow
from workflows.models import FlowVersion

KNOWN_FOR_S = 10.0


class _Numbers:
    """By flow and digest: the latest version that has this code; 0 for code that is not published."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: TTLCache[tuple[UUID, str], int] = TTLCache(2_000, KNOWN_FOR_S, timer=time.monotonic)

    def of(self, flow_id: UUID, digest: str) -> int:
        with self._lock:
            kept = self._kept.get((flow_id, digest))
        if kept is None:
            with database.borrowed_from_django():
                found = FlowVersion.objects.filter(flow_id=flow_id, definition__steps__0__config__digest=digest)
                kept = found.order_by("-number").values_list("number", flat=True).first() or 0
            with self._lock:
                self._kept[flow_id, digest] = kept
        return kept


AT_ONCE_S = 0.05
LATER_S = 5.0


class Refused:
    """The steps that this process has just refused, since it does not have their code."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: TTLCache[UUID, bool] = TTLCache(10_000, LATER_S * 0.8, timer=time.monotonic)

    def pause_s(self, step_run_id: UUID) -> float:
        """Seconds until the step is offered again: a moment at first, since another worker waits longer for a message
        than this one; some seconds where it comes back. Never the same: workers ask the broker at fixed intervals, and
        the same one would get it each time."""
        with self._lock:
            again = step_run_id in self._kept
            self._kept[step_run_id] = True
        return random.uniform(LATER_S, 1.2 * LATER_S) if again else random.uniform(AT_ONCE_S, 2 * AT_ONCE_S)


def may_visit(flow: FunctionFlow, version: CompiledFlow, config: Any) -> bool:
    """Whether the code of this process is that of the version, or newer. Code that is not published counts as newer."""
    if flow.digest == config.digest:
        return True
    number = this_process.own(_Numbers).of(version.flow_id, flow.digest)
    return number == 0 or number > version.number
