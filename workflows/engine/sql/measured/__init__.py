"""The statements of `measured` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class ForgetMinutesRow(NamedTuple):
    at: datetime


def forget_minutes(*, until: datetime, batch: int, cursor: database.Cursor | None = None) -> list[ForgetMinutesRow]:
    """Minutes that no chart shows any more."""
    return database.fetch("forget_minutes", {"until": until, "batch": batch}, ForgetMinutesRow._make, cursor)


def measure_minute(
    *, at: datetime, first: UUID, next: UUID, looks: bool, most: int, cursor: database.Cursor | None = None
) -> None:
    """What became of runs and tries within one minute, by organization, and the sum of all under the nil id."""
    parameters = {"at": at, "first": first, "next": next, "looks": looks, "most": most}
    database.fetch("measure_minute", parameters, tuple, cursor)
