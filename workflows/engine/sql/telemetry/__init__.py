"""The statements of `telemetry` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database
from workflows.payload import Json


class ReportedRunsRow(NamedTuple):
    id: UUID
    org_id: UUID
    slug: str
    status: str
    event_id: UUID | None
    event_name: str
    trigger: str
    started_at: float
    ended_at: float | None
    input: Json


def reported_runs(
    *, ids: Iterable[UUID], with_data: bool, cursor: database.Cursor | None = None
) -> list[ReportedRunsRow]:
    """What an error tracker is told of runs."""
    return database.fetch("reported_runs", {"ids": list(ids), "with_data": with_data}, ReportedRunsRow._make, cursor)


class SpansOfRunRow(NamedTuple):
    id: UUID
    key: str
    type: str
    number: int
    status: str
    started_at: float
    ended_at: float


def spans_of_run(*, run: UUID, most: int, cursor: database.Cursor | None = None) -> list[SpansOfRunRow]:
    """The tries of a run, as spans of its trace."""
    return database.fetch("spans_of_run", {"run": run, "most": most}, SpansOfRunRow._make, cursor)


class StoppedJobsRow(NamedTuple):
    id: UUID
    slug: str
    status: str
    error: Json
    cancel_reason: str


def stopped_jobs(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[StoppedJobsRow]:
    """What is logged of runs that failed or were cancelled."""
    return database.fetch("stopped_jobs", {"ids": list(ids)}, StoppedJobsRow._make, cursor)
