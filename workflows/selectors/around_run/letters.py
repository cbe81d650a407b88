"""The dead letters of a run. The app that keeps them answers a signal: this one knows nothing of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from workflows import signals
from workflows.models import Run


@dataclass(frozen=True, kw_only=True)
class Change:
    """What was done to a letter, and by whom."""

    what: str
    by: str
    at: dt.datetime
    reason: str = ""
    run_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A dead letter of a run; `step_key` is empty where the run failed by itself."""

    id: UUID
    step_key: str
    status: str
    error: str
    failed_at: dt.datetime
    changes: list[Change] = field(default_factory=list)


def letters_of(run: Run) -> list[Letter]:
    """The dead letters of the run's failure, the oldest first."""
    answers: list[tuple[Any, Any]] = signals.run_letters.send(sender=None, run=run)
    found: list[Letter] = [letter for _, letters in answers for letter in letters or ()]
    return sorted(found, key=lambda letter: letter.id)
