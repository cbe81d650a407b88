"""The progress that handlers report: it is stored while they run."""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg
import structlog

from workflows.edge.unavailable import is_database_away
from workflows.engine.pipeline.perform import Visit
from workflows.engine.sql import worker as sql
from workflows.engine.state import sealed
from workflows.engine.state.records import StepResult
from workflows.engine.worker.in_flight import InFlight
from workflows.payload import dump
from workflows.sealing import shapes
from workflows.steps.outcome import Failed, Retry, Sleep

log = structlog.get_logger(__name__)


class Progress:
    """Stores what handlers have reported of the visits in flight."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight

    def store(self) -> None:
        """Store what has been reported since the last time, by one statement."""
        reported = [v for v in self._in_flight.visits() if v.progress is not None and not v.is_closed]
        reports = [_take_report(visit) for visit in reported]
        if reports:
            _store(reports)

    def keep(self, visit: Visit, result: StepResult) -> None:
        """Before a step goes to sleep, or fails: what it reported last is shown meanwhile, and afterwards."""
        if visit.progress is not None and isinstance(result.outcome, Sleep | Failed | Retry):
            with contextlib.suppress(psycopg.Error):  # it matters less than the result
                _store([_take_report(visit)])


def _take_report(visit: Visit) -> dict[str, Any]:
    report, visit.progress = visit.progress, None
    stored = sealed.shaped(report, visit.claim.org_id, shapes.progress)
    return {"id": str(visit.claim.id), "lease": str(visit.claim.lease), "progress": stored}


def _store(reports: list[dict[str, Any]]) -> None:
    """All together; each by itself where that fails, so that a bad one keeps no other from being stored."""
    try:
        sql.report_progress(reports=dump(reports, what="The progress"))
    except BaseException as error:
        if is_database_away(error):
            raise
        if len(reports) == 1:
            log.warning("progress can't be stored", step_run_id=reports[0]["id"], error=str(error))
            return
        for report in reports:
            _store([report])
