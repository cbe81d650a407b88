"""The steps that visits in this process have had dispatched: one that comes back to it needs no visit of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from uuid import UUID

from cachetools import TTLCache

from workflows.functions.calls import Call

KEPT_FOR_S = 60.0
MOST = 10_000


class LocalCalls:
    """By step run: what performs its first try. Forgotten after a minute, or where there are too many: the step is
    performed by a visit of its flow's code then, as in any other process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: TTLCache[UUID, Call] = TTLCache(MOST, KEPT_FOR_S, timer=time.monotonic)

    def keep(self, calls: Mapping[UUID, Call]) -> None:
        """Keep calls whose steps are about to be dispatched."""
        with self._lock:
            self._kept.update(calls)

    def take(self, step_run_id: UUID) -> Call | None:
        """The call of a step, for the one that performs it now."""
        with self._lock:
            call: Call | None = self._kept.pop(step_run_id, None)
            return call
