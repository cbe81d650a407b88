"""The statements of `leader` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class DueRunsRow(NamedTuple):
    id: UUID
    org_id: UUID
    started: bool


def due_runs(*, batch: int, cursor: database.Cursor | None = None) -> list[DueRunsRow]:
    """Runs that have not started, or not ended, in time."""
    return database.fetch("due_runs", {"batch": batch}, DueRunsRow._make, cursor)


class DueWorkRow(NamedTuple):
    names: list[str]
    outstanding: bool
    revision: int
    workers: str


def due_work(
    *,
    queues: Iterable[str],
    event_late_s: float,
    grace_s: float,
    silent_s: float,
    cursor: database.Cursor | None = None,
) -> list[DueWorkRow]:
    """What there is to do."""
    parameters = {"queues": list(queues), "event_late_s": event_late_s, "grace_s": grace_s, "silent_s": silent_s}
    return database.fetch("due_work", parameters, DueWorkRow._make, cursor)


class ForgetExpiredKeysRow(NamedTuple):
    key: str


def forget_expired_keys(*, batch: int, cursor: database.Cursor | None = None) -> list[ForgetExpiredKeysRow]:
    """Idempotency keys that stand for nothing any more."""
    return database.fetch("forget_expired_keys", {"batch": batch}, ForgetExpiredKeysRow._make, cursor)


def forget_run_marks(*, first: UUID, batch: int, cursor: database.Cursor | None = None) -> None:
    """Starts that no rate limit counts any more, whatever its period."""
    database.fetch("forget_run_marks", {"first": first, "batch": batch}, tuple, cursor)


def forget_workers(*, id: UUID | None, silent_s: float, cursor: database.Cursor | None = None) -> None:
    """Remove workers that were not seen for a while, or one that says goodbye."""
    database.fetch("forget_workers", {"id": id, "silent_s": silent_s}, tuple, cursor)


class LeadRow(NamedTuple):
    holder: UUID


def lead(*, name: str, holder: UUID, lease_s: float, cursor: database.Cursor | None = None) -> list[LeadRow]:
    """Take or keep the leader's lease."""
    return database.fetch("lead", {"name": name, "holder": holder, "lease_s": lease_s}, LeadRow._make, cursor)


class NextTimerRow(NamedTuple):
    step_s: float | None
    wait_s: float | None


def next_timer(*, within_s: float, cursor: database.Cursor | None = None) -> list[NextTimerRow]:
    """Seconds until the next step wakes and until the next wait times out."""
    return database.fetch("next_timer", {"within_s": within_s}, NextTimerRow._make, cursor)


def resign(*, name: str, holder: UUID, cursor: database.Cursor | None = None) -> None:
    """Give the leader's lease back, so that another process takes over at once."""
    database.fetch("resign", {"name": name, "holder": holder}, tuple, cursor)
