"""What a handler gets to see of its step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any
from uuid import UUID

from structlog.stdlib import BoundLogger

from workflows.errors import StepCancelled


@dataclass(kw_only=True)
class StepContext:
    """One visit of a handler.

    `config` is the validated model of the step type, `scope` what expressions may read, `deadline` the monotonic
    time by which the visit must end.
    """

    config: Any
    scope: Mapping[str, Any]
    org_id: UUID
    run_id: UUID
    step_run_id: UUID
    flow: str
    key: str
    attempt: int
    wake_seq: int
    deadline: float
    log: BoundLogger
    cancelled: Event = field(default_factory=Event)
    pause_s: float = 0.0

    def pause_provider(self, seconds: float) -> None:
        """The other side wants to be left alone: its limit admits nothing for so long, on all workers."""
        self.pause_s = max(self.pause_s, seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, never below zero."""
        return max(0.0, self.deadline - time.monotonic())

    def check_cancelled(self) -> None:
        """Raises StepCancelled once the run has been cancelled."""
        if self.cancelled.is_set():
            raise StepCancelled
