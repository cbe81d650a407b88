"""The statements of `retention` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class DeleteAttemptsRow(NamedTuple):
    rows: int


def delete_attempts(
    *, runs: Iterable[UUID], batch: int, cursor: database.Cursor | None = None
) -> list[DeleteAttemptsRow]:
    """Delete attempts of runs that were deleted, a bounded number."""
    return database.fetch("delete_attempts", {"runs": list(runs), "batch": batch}, DeleteAttemptsRow._make, cursor)


class DeleteEventsRow(NamedTuple):
    id: UUID


def delete_events(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[DeleteEventsRow]:
    """Delete events, which are locked."""
    return database.fetch("delete_events", {"ids": list(ids)}, DeleteEventsRow._make, cursor)


class DeleteFanOutsRow(NamedTuple):
    rows: int


def delete_fan_outs(
    *, runs: Iterable[UUID], batch: int, cursor: database.Cursor | None = None
) -> list[DeleteFanOutsRow]:
    """Delete containers of runs that were deleted, a bounded number of those without items."""
    return database.fetch("delete_fan_outs", {"runs": list(runs), "batch": batch}, DeleteFanOutsRow._make, cursor)


class DeleteItemsRow(NamedTuple):
    rows: int


def delete_items(*, runs: Iterable[UUID], batch: int, cursor: database.Cursor | None = None) -> list[DeleteItemsRow]:
    """Delete items of containers of runs that were deleted, a bounded number."""
    return database.fetch("delete_items", {"runs": list(runs), "batch": batch}, DeleteItemsRow._make, cursor)


class DeleteRunsRow(NamedTuple):
    id: UUID


def delete_runs(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[DeleteRunsRow]:
    """Delete runs, which are locked."""
    return database.fetch("delete_runs", {"ids": list(ids)}, DeleteRunsRow._make, cursor)


class DeleteStepRunsRow(NamedTuple):
    rows: int


def delete_step_runs(
    *, runs: Iterable[UUID], batch: int, cursor: database.Cursor | None = None
) -> list[DeleteStepRunsRow]:
    """Delete step runs of runs that were deleted, a bounded number, with what stands for them while they wait."""
    return database.fetch("delete_step_runs", {"runs": list(runs), "batch": batch}, DeleteStepRunsRow._make, cursor)


class ExpiredEventsRow(NamedTuple):
    id: UUID


def expired_events(
    *,
    org: UUID,
    before: UUID,
    after: UUID,
    received_before: datetime,
    batch: int,
    cursor: database.Cursor | None = None,
) -> list[ExpiredEventsRow]:
    """Matched events of an organization from before a time, the earliest first, from a place on."""
    parameters = {"org": org, "before": before, "after": after, "received_before": received_before, "batch": batch}
    return database.fetch("expired_events", parameters, ExpiredEventsRow._make, cursor)


class ExpiredRunsRow(NamedTuple):
    id: UUID
    ended_at: datetime


def expired_runs(
    *,
    org: UUID,
    status: str,
    before: datetime,
    after_at: datetime,
    after_id: UUID,
    put_off: Iterable[UUID],
    batch: int,
    cursor: database.Cursor | None = None,
) -> list[ExpiredRunsRow]:
    """Runs of an organization that ended with a status before a time, the earliest first, from a place on."""
    parameters = {
        "org": org, "status": status, "before": before, "after_at": after_at, "after_id": after_id,
        "put_off": list(put_off), "batch": batch
    }  # fmt: skip
    return database.fetch("expired_runs", parameters, ExpiredRunsRow._make, cursor)


class ForgetPrunedRunsRow(NamedTuple):
    run_id: UUID


def forget_pruned_runs(*, runs: Iterable[UUID], cursor: database.Cursor | None = None) -> list[ForgetPrunedRunsRow]:
    """Runs of which nothing is left."""
    return database.fetch("forget_pruned_runs", {"runs": list(runs)}, ForgetPrunedRunsRow._make, cursor)


class HeldEventsRow(NamedTuple):
    id: UUID
    reason: str


def held_events(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[HeldEventsRow]:
    """Of old events those that something refers to, and what."""
    return database.fetch("held_events", {"ids": list(ids)}, HeldEventsRow._make, cursor)


class HeldRunsRow(NamedTuple):
    id: UUID
    reason: str


def held_runs(
    *, ids: Iterable[UUID], operations: Iterable[str], cursor: database.Cursor | None = None
) -> list[HeldRunsRow]:
    """Of ended runs those that something refers to, and what."""
    return database.fetch("held_runs", {"ids": list(ids), "operations": list(operations)}, HeldRunsRow._make, cursor)


class KeepRunRow(NamedTuple):
    id: UUID


def keep_run(*, id: UUID, cursor: database.Cursor | None = None) -> list[KeepRunRow]:
    """Keep an ended run from being deleted until the transaction ends."""
    return database.fetch("keep_run", {"id": id}, KeepRunRow._make, cursor)


class LockEventsRow(NamedTuple):
    id: UUID


def lock_events(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[LockEventsRow]:
    """Lock matched events that are to be deleted, in the order of their ids."""
    return database.fetch("lock_events", {"ids": list(ids)}, LockEventsRow._make, cursor)


class LockExpiredRunsRow(NamedTuple):
    id: UUID


def lock_expired_runs(
    *, ids: Iterable[UUID], before: datetime, cursor: database.Cursor | None = None
) -> list[LockExpiredRunsRow]:
    """Lock runs that are to be deleted, in the order of their ids."""
    return database.fetch("lock_expired_runs", {"ids": list(ids), "before": before}, LockExpiredRunsRow._make, cursor)


class PrunedRunsRow(NamedTuple):
    run_id: UUID
    org_id: UUID


def pruned_runs(
    *, runs: Iterable[UUID] | None, put_off: Iterable[UUID], batch: int, cursor: database.Cursor | None = None
) -> list[PrunedRunsRow]:
    """Runs that were deleted and of which something may be left, the earliest first."""
    parameters = {"runs": None if runs is None else list(runs), "put_off": list(put_off), "batch": batch}
    return database.fetch("pruned_runs", parameters, PrunedRunsRow._make, cursor)
