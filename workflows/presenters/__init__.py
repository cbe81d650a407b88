"""What the faces show, as JSON; the most used of it stands here."""

from workflows.presenters.runs import (
    attempt_line,
    attempt_out,
    event_out,
    event_schema_out,
    item_out,
    job_of_event,
    job_out,
    operation_out,
    outcome_out,
    progress,
    reasons,
    repeat_out,
    run_out,
    run_output,
    run_summaries,
    run_summary,
    step_out,
    step_type_out,
)
from workflows.presenters.started import QUEUED, many_started_out, started_out
from workflows.presenters.step_metrics import ms

__all__ = [
    "QUEUED",
    "attempt_line",
    "attempt_out",
    "event_out",
    "event_schema_out",
    "item_out",
    "job_of_event",
    "job_out",
    "many_started_out",
    "ms",
    "operation_out",
    "outcome_out",
    "progress",
    "reasons",
    "repeat_out",
    "run_out",
    "run_output",
    "run_summaries",
    "run_summary",
    "started_out",
    "step_out",
    "step_type_out",
]
