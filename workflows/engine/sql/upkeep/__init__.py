"""The statements of `upkeep` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class AllowDeletionRow(NamedTuple):
    allowed: str


def allow_deletion(cursor: database.Cursor | None = None) -> list[AllowDeletionRow]:
    """Let the open transaction delete entries of the audit log, which a trigger refuses otherwise."""
    return database.fetch("allow_deletion", {}, AllowDeletionRow._make, cursor)


class BacklogRow(NamedTuple):
    is_backlogged: bool


def backlog(*, at_least: int, cursor: database.Cursor | None = None) -> list[BacklogRow]:
    """Whether steps wait for a worker."""
    return database.fetch("backlog", {"at_least": at_least}, BacklogRow._make, cursor)


class ClearKeptLogsRow(NamedTuple):
    cleared: int


def clear_kept_logs(
    *, ids: Iterable[UUID], ended_before: datetime, cursor: database.Cursor | None = None
) -> list[ClearKeptLogsRow]:
    """Take the log lines off steps of an organization's ended runs that were kept while they waited."""
    parameters = {"ids": list(ids), "ended_before": ended_before}
    return database.fetch("clear_kept_logs", parameters, ClearKeptLogsRow._make, cursor)


class ClearLogsRow(NamedTuple):
    cleared: int


def clear_logs(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[ClearLogsRow]:
    """Take the log lines off old attempts of an organization's ended runs."""
    return database.fetch("clear_logs", {"ids": list(ids)}, ClearLogsRow._make, cursor)


class EventNeedsRow(NamedTuple):
    lookbacks: list[str]
    ready_at: datetime | None


def event_needs(*, org: UUID, cursor: database.Cursor | None = None) -> list[EventNeedsRow]:
    """How far back the flows of an organization may look for events."""
    return database.fetch("event_needs", {"org": org}, EventNeedsRow._make, cursor)


class UnusedVersionsRow(NamedTuple):
    id: UUID


def unused_versions(
    *, flow: UUID, before: datetime, batch: int, cursor: database.Cursor | None = None
) -> list[UnusedVersionsRow]:
    """Versions of a flow that no run has, and that were followed by another before a time."""
    parameters = {"flow": flow, "before": before, "batch": batch}
    return database.fetch("unused_versions", parameters, UnusedVersionsRow._make, cursor)
