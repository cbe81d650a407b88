"""The statements of `rescue` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class FindUnsettledRow(NamedTuple):
    id: UUID
    org_id: UUID
    finished: bool


def find_unsettled(
    *, batch: int, deep: bool, put_off: Iterable[UUID], cursor: database.Cursor | None = None
) -> list[FindUnsettledRow]:
    """Live runs that need a hand."""
    parameters = {"batch": batch, "deep": deep, "put_off": list(put_off)}
    return database.fetch("find_unsettled", parameters, FindUnsettledRow._make, cursor)


def orphan_waits(*, batch: int, cursor: database.Cursor | None = None) -> None:
    """Waits whose steps do not wait any more."""
    database.fetch("orphan_waits", {"batch": batch}, tuple, cursor)


class PublishAgainRow(NamedTuple):
    id: UUID
    run_id: UUID
    version_id: UUID
    key: str
    path: str
    queue: str
    type: str
    priority: int
    attempt: int
    needs_total: int
    needs_met: int
    losses: int
    needs_prepare: bool


def publish_again(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[PublishAgainRow]:
    """Steps whose message is lost."""
    return database.fetch("publish_again", {"ids": list(ids)}, PublishAgainRow._make, cursor)


class RescueLostMessagesRow(NamedTuple):
    id: UUID


def rescue_lost_messages(
    *, queue: str, before: float | None, idle_s: float | None, batch: int, cursor: database.Cursor | None = None
) -> list[RescueLostMessagesRow]:
    """Dispatched steps whose message the broker may have lost."""
    parameters = {"queue": queue, "before": before, "idle_s": idle_s, "batch": batch}
    return database.fetch("rescue_lost_messages", parameters, RescueLostMessagesRow._make, cursor)


class RescueUndispatchedRow(NamedTuple):
    id: UUID
    run_id: UUID
    version_id: UUID
    org_id: UUID
    key: str
    path: str
    queue: str
    type: str
    priority: int
    attempt: int
    needs_total: int
    needs_met: int
    losses: int
    ready_at: datetime
    needs_prepare: bool
    place: int


def rescue_undispatched(
    *, batch: int, queues: Iterable[str], put_off: Iterable[UUID], cursor: database.Cursor | None = None
) -> list[RescueUndispatchedRow]:
    """Ready steps that nobody published (the process died between commit and publish), after a second of grace."""
    parameters = {"batch": batch, "queues": list(queues), "put_off": list(put_off)}
    return database.fetch("rescue_undispatched", parameters, RescueUndispatchedRow._make, cursor)
