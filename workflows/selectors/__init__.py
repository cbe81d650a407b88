"""Reads for screens, API and CLI, a module a subject; the most used of them stand here."""

from workflows.selectors.run_lists import runs_page
from workflows.selectors.runs import (
    FAULTS,
    FILTERS,
    FlowSummary,
    RunDetail,
    StepDetail,
    active_cron_triggers,
    ended_runs_matching,
    find_run,
    flows,
    has_leader,
    health,
    live_runs_matching,
    live_workers,
    queue_counts,
    run_detail,
    step_detail,
)

__all__ = [
    "FAULTS",
    "FILTERS",
    "FlowSummary",
    "RunDetail",
    "StepDetail",
    "active_cron_triggers",
    "ended_runs_matching",
    "find_run",
    "flows",
    "has_leader",
    "health",
    "live_runs_matching",
    "live_workers",
    "queue_counts",
    "run_detail",
    "runs_page",
    "step_detail",
]
