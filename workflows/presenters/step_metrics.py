"""Figures of a step that screens, the API and streams show alike."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workflows.models import Attempt, FanOut, StepRun


def ms(start: dt.datetime | None, end: dt.datetime | None) -> int | None:
    """Whole milliseconds between two times, or None where one is missing."""
    return round((end - start).total_seconds() * 1000) if start and end else None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the tries of a step came to; the times are those of all its tries, None before the first has ended."""

    duration_ms: int | None
    """Its handler ran."""
    overhead_ms: int | None
    """It was ready and did not run."""
    retries: int
    error: Any
    """The last error of a step that is not completed."""


def figures(step: StepRun, attempts: Sequence[Attempt]) -> Figures:
    """The figures of a step by its tries, in their order."""
    waiting = [ms(each.ready_at, each.started_at) or 0 for each in attempts]
    errors = (each.error for each in reversed(attempts) if each.error)
    return Figures(
        duration_ms=executing_ms(attempts),
        overhead_ms=sum(waiting) if attempts else None,
        retries=retry_count(step.status, attempts),
        error=None if step.status == "completed" else next(errors, None),
    )


def executing_ms(attempts: Sequence[Attempt]) -> int | None:
    """How long a step's handler ran in all of its tries; None before there is one."""
    return sum(ms(each.started_at, each.ended_at) or 0 for each in attempts) if attempts else None


def retry_count(status: str, attempts: Sequence[Attempt]) -> int:
    """How many tries followed a failed one: all failed ones, but for the last of a step that failed for good. None of a
    step whose outcome was taken over from another run."""
    failed = sum(1 for attempt in attempts if attempt.status == "failed")
    return max(0, failed - (status == "failed"))


def percent_of(container: FanOut | None) -> float | None:
    """The share of a container's items that have ended; None without any."""
    if container is None or not container.total:
        return None
    return round(100 * container.ended / container.total, 1)
