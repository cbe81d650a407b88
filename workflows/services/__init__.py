"""What a person or a program can ask for, a module a subject; the most used of it stands here."""

from workflows.services.events import send as send_events
from workflows.services.jobs import queue_job
from workflows.services.runs import (
    MAX_RUNS_AT_ONCE,
    apply_definition,
    cancel_run,
    cancel_runs,
    capacity,
    get_run,
    new_run,
    published,
    queue_stats,
    readiness,
    trigger,
    trigger_many,
    trigger_runs_of,
)

__all__ = [
    "MAX_RUNS_AT_ONCE",
    "apply_definition",
    "cancel_run",
    "cancel_runs",
    "capacity",
    "get_run",
    "new_run",
    "published",
    "queue_job",
    "queue_stats",
    "readiness",
    "send_events",
    "trigger",
    "trigger_many",
    "trigger_runs_of",
]
