"""The log lines of jobs: started (by what), completed (how large its recorded is), failed (why), cancelled.

One place writes them, after the commit, whichever way a run came to its end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import structlog

from workflows.edge import redaction
from workflows.edge.log_lines import Lines
from workflows.engine.sql import telemetry as sql
from workflows.engine.state import database, flow_cache
from workflows.engine.state.records import Claim, Recorded, StepResult
from workflows.engine.worker import ending
from workflows.steps.masking import Secrets

log = structlog.get_logger("workflows.jobs")
lines = Lines("workflows.jobs")


def started(claims: Iterable[Claim]) -> None:
    """The runs that these claims began."""
    if not lines.are_wanted():
        return
    began = [
        {
            "jobId": str(claim.run_id),
            "jobType": flow_cache.slug_of(claim.version_id),
            "trigger": claim.run_trigger,
            "eventName": claim.run_event or None,
            "eventId": str(claim.run_event_id) if claim.run_event_id else None,
        }
        for claim in claims
        if claim.run_began
    ]
    lines.info("job started", began)


def ended(runs: Sequence[tuple[UUID, str]], *, versions: Mapping[UUID, UUID], sizes: Mapping[UUID, int]) -> None:
    """Runs and the status that each has now; `sizes` of the results of completed ones, in bytes. Raises nothing."""
    try:
        if lines.are_wanted():
            completed = [
                {
                    "jobId": str(run_id),
                    "jobType": flow_cache.slug_of(versions[run_id]) if run_id in versions else None,
                    "resultSize": sizes.get(run_id, 0),
                }
                for run_id, status in runs
                if status == "completed"
            ]
            lines.info("job completed", completed)
        _stopped([run_id for run_id, status in runs if status != "completed"])
    except Exception as error:
        ending.raise_if_ending(error)
        log.warning("the end of jobs can't be logged", jobs=len(runs), error=str(error))


def _stopped(ids: list[UUID]) -> None:
    """Failed and cancelled ones: they are few, and what is said of them stands in their rows."""
    if not ids or not lines.are_wanted(logging.ERROR):
        return
    with database.borrowed_from_django():
        found = redaction.find_values(ids)
    hidden = Secrets(found.values)
    for row in sql.stopped_jobs(ids=ids):
        names = {"jobId": str(row.id), "jobType": row.slug}
        if row.status == "failed":
            error = row.error or {}
            said = f"{error.get('name', '')}: {error.get('message', '')}"
            is_known = row.id not in found.unread
            log.error(
                "job failed",
                **names,
                step=error.get("step"),
                category=error.get("category"),
                error=hidden.mask(said) if is_known else redaction.MASK,
                stack=(hidden.mask(error.get("traceback") or "") if is_known else "") or None,
            )
        else:
            log.info("job cancelled", **names, reason=row.cancel_reason or None)


def note_results(results: Sequence[StepResult], recorded: Recorded) -> None:
    """How large the results of the runs are that completed with these outcomes: of a run whose flow says no output, the
    output of its only last step."""
    completed = {run_id for run_id, status in recorded.ended if status == "completed"}
    for result in results if completed else ():
        claim = result.claim
        if claim.run_id not in completed or claim.path or claim.run_id in recorded.sizes:
            continue
        flow = flow_cache.find(claim.version_id)
        step = flow.steps.get(claim.key) if flow is not None else None
        if flow is not None and step is not None and step.is_sink and flow.sinks == 1 and flow.output is None:
            recorded.sizes[claim.run_id] = len((result.output or "").encode())
