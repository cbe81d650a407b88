"""Whether there is anything to do for the sweeps and jobs of every second: one statement instead of one for each.

A sweep or a job that the statement does not name is left out until the next look, a second later.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflows.engine.events import matching
from workflows.engine.sql import leader as sql
from workflows.engine.waits import waits
from workflows.models.worker import SILENT_AFTER_S
from workflows.steps.registry import QUEUES

JOBS = frozenset(
    {
        "left-over events",
        "follow-up",
        "schedules",
        "approvals",
        "deletion of flows",
        "bulk",
        "Celery tasks",
        "waits for rows",
    }
)
"""The jobs that looks name."""


@dataclass(frozen=True, kw_only=True)
class DueWork:
    """What a look has found. `outstanding`: messages are on their way, one of which may be lost. `workers`: a text that
    is another one after a change of what live workers announce."""

    names: frozenset[str]
    outstanding: bool
    revision: int
    workers: str


def look() -> DueWork:
    """The sweeps and jobs that would find something."""
    (row,) = sql.due_work(
        queues=QUEUES, event_late_s=matching.LEFT_OVER_AFTER_S, grace_s=waits.GRACE_S, silent_s=SILENT_AFTER_S
    )
    names = frozenset(row.names) | ({"lost messages"} if row.outstanding else set())
    return DueWork(names=names, outstanding=row.outstanding, revision=row.revision, workers=row.workers)
