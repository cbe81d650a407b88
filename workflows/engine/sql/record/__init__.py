"""The statements of `record` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


def close_compensations(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> None:
    """Everything that had to be undone is."""
    database.fetch("close_compensations", {"ids": list(ids)}, tuple, cursor)


class LockRunsRow(NamedTuple):
    id: UUID


def lock_runs(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[LockRunsRow]:
    """Lock runs in the order of their ids."""
    return database.fetch("lock_runs", {"ids": list(ids)}, LockRunsRow._make, cursor)


class RequestCancelRow(NamedTuple):
    id: UUID


def request_cancel(
    *, org: UUID, ids: Iterable[UUID], reason: str, cursor: database.Cursor | None = None
) -> list[RequestCancelRow]:
    """Set the cancel flag of live runs, and of the live runs that they started (unless those are to go on by
    themselves)."""
    parameters = {"org": org, "ids": list(ids), "reason": reason}
    return database.fetch("request_cancel", parameters, RequestCancelRow._make, cursor)


class RunProgressRow(NamedTuple):
    version_id: UUID
    failed: bool
    key: str
    is_compensation: bool
    position: int
    status: str
    begun: bool


def run_progress(*, run: UUID, cursor: database.Cursor | None = None) -> list[RunProgressRow]:
    """How far the steps of a run have come."""
    return database.fetch("run_progress", {"run": run}, RunProgressRow._make, cursor)


class RunSizesRow(NamedTuple):
    run_id: UUID
    clear: int
    number: int
    sealed: int


def run_sizes(*, run_ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[RunSizesRow]:
    """How many bytes of output some runs hold already, for `envelope.payload_bytes`."""
    return database.fetch("run_sizes", {"run_ids": list(run_ids)}, RunSizesRow._make, cursor)
