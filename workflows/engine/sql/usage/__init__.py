"""The statements of `usage` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class MeasureHourRow(NamedTuple):
    orgs: int


def measure_hour(
    *, hour: datetime, first: UUID, last: UUID, cursor: database.Cursor | None = None
) -> list[MeasureHourRow]:
    """Measure the payloads of the rows that were made between two moments."""
    return database.fetch("measure_hour", {"hour": hour, "first": first, "last": last}, MeasureHourRow._make, cursor)


class OldestRowRow(NamedTuple):
    id: UUID | None


def oldest_row(cursor: database.Cursor | None = None) -> list[OldestRowRow]:
    """When the oldest row with a payload was made."""
    return database.fetch("oldest_row", {}, OldestRowRow._make, cursor)


class SumOrganizationsRow(NamedTuple):
    slug: str
    is_full: bool
    bytes: int


def sum_organizations(cursor: database.Cursor | None = None) -> list[SumOrganizationsRow]:
    """Write down what each organization stores in all, and whether that is over its quota."""
    return database.fetch("sum_organizations", {}, SumOrganizationsRow._make, cursor)
