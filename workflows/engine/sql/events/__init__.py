"""The statements of `events` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class LeftOverEventsRow(NamedTuple):
    id: UUID
    org_id: UUID


def left_over_events(
    *, late_s: float, each: int, batch: int, put_off: Iterable[UUID], cursor: database.Cursor | None = None
) -> list[LeftOverEventsRow]:
    """Events that nobody has matched, a page that is fair."""
    parameters = {"late_s": late_s, "each": each, "batch": batch, "put_off": list(put_off)}
    return database.fetch("left_over_events", parameters, LeftOverEventsRow._make, cursor)


class LiveRunsWhereRow(NamedTuple):
    id: UUID


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
