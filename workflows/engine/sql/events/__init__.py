"""The statements of `events` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database
from workflows.payload import Json


class AwaitedNamesRow(NamedTuple):
    name: str
    cancels: bool
    is_awaited: bool


def awaited_names(*, org: UUID, names: Iterable[str], cursor: database.Cursor | None = None) -> list[AwaitedNamesRow]:
    """The names that a rule of `cancel_on`, or an open wait, of an organization listens to."""
    return database.fetch("awaited_names", {"org": org, "names": list(names)}, AwaitedNamesRow._make, cursor)


class CancellingNamesRow(NamedTuple):
    name: str


def cancelling_names(*, org: UUID, cursor: database.Cursor | None = None) -> list[CancellingNamesRow]:
    """The names and patterns that the `cancel_on` rules of an organization listen to."""
    return database.fetch("cancelling_names", {"org": org}, CancellingNamesRow._make, cursor)


class LeftOverEventsRow(NamedTuple):
    id: UUID
    org_id: UUID


def left_over_events(
    *, late_s: float, each: int, batch: int, put_off: Iterable[UUID], cursor: database.Cursor | None = None
) -> list[LeftOverEventsRow]:
    """Events that nobody has matched, a page that is fair."""
    parameters = {"late_s": late_s, "each": each, "batch": batch, "put_off": list(put_off)}
    return database.fetch("left_over_events", parameters, LeftOverEventsRow._make, cursor)


class ListeningTriggersRow(NamedTuple):
    id: UUID
    org_id: UUID
    kind: str
    event_name: str
    condition: str
    config: Json
    removed_at: datetime | None
    flow_id: UUID
    flow_slug: str
    version_id: UUID | None
    skips_arrivals: bool


def listening_triggers(
    *, org: UUID, names: Iterable[str], addressed: Iterable[UUID], cursor: database.Cursor | None = None
) -> list[ListeningTriggersRow]:
    """The triggers of an organization that may hear events."""
    parameters = {"org": org, "names": list(names), "addressed": list(addressed)}
    return database.fetch("listening_triggers", parameters, ListeningTriggersRow._make, cursor)


class LiveRunsWhereRow(NamedTuple):
    id: UUID
    started_by: Json


def live_runs_where(
    *,
    org: UUID,
    flow: UUID,
    event: UUID,
    before: datetime,
    since: datetime | None,
    path: Iterable[str] | None,
    value: str | None,
    cursor: database.Cursor | None = None,
) -> list[LiveRunsWhereRow]:
    """Live runs of a flow that an event cancels."""
    parameters = {
        "org": org, "flow": flow, "event": event, "before": before, "since": since,
        "path": None if path is None else list(path), "value": value
    }  # fmt: skip
    return database.fetch("live_runs_where", parameters, LiveRunsWhereRow._make, cursor)


def mark_matched(*, ids: Iterable[UUID], unheard: Iterable[UUID], cursor: database.Cursor | None = None) -> None:
    """Mark events as matched."""
    database.fetch("mark_matched", {"ids": list(ids), "unheard": list(unheard)}, tuple, cursor)


class TakeUnmatchedRow(NamedTuple):
    id: UUID
    org_id: UUID
    name: str
    data: Json
    user: Json
    external_id: str
    trigger_id: UUID | None
    ts: datetime
    received_at: datetime


def take_unmatched(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[TakeUnmatchedRow]:
    """Lock those of these events that nobody has matched, and is matching."""
    return database.fetch("take_unmatched", {"ids": list(ids)}, TakeUnmatchedRow._make, cursor)
