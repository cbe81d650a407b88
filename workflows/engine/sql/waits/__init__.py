"""The statements of `waits` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database
from workflows.payload import Json


def drop_waits(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> None:
    """Waits whose steps have ended."""
    database.fetch("drop_waits", {"ids": list(ids)}, tuple, cursor)


class EndedChildrenRow(NamedTuple):
    id: UUID
    org_id: UUID


def ended_children(
    *, batch: int, put_off: Iterable[UUID], cursor: database.Cursor | None = None
) -> list[EndedChildrenRow]:
    """Runs that have ended while somebody still waits for them."""
    return database.fetch("ended_children", {"batch": batch, "put_off": list(put_off)}, EndedChildrenRow._make, cursor)


class ExpireWaitsRow(NamedTuple):
    step_run_id: UUID


def expire_waits(*, batch: int, cursor: database.Cursor | None = None) -> list[ExpireWaitsRow]:
    """Take the waits whose time is up."""
    return database.fetch("expire_waits", {"batch": batch}, ExpireWaitsRow._make, cursor)


class InsertWaitsRow(NamedTuple):
    step_run_id: UUID


def insert_waits(*, waits: str, cursor: database.Cursor | None = None) -> list[InsertWaitsRow]:
    """Store what steps wait for, in the transaction that makes them wait."""
    return database.fetch("insert_waits", {"waits": waits}, InsertWaitsRow._make, cursor)


class LeftOverFanOutsRow(NamedTuple):
    id: UUID
    org_id: UUID


def left_over_fan_outs(
    *, grace_s: float, batch: int, put_off: Iterable[UUID], cursor: database.Cursor | None = None
) -> list[LeftOverFanOutsRow]:
    """Containers whose items have all ended, or that are to stop, and that still wait."""
    parameters = {"grace_s": grace_s, "batch": batch, "put_off": list(put_off)}
    return database.fetch("left_over_fan_outs", parameters, LeftOverFanOutsRow._make, cursor)


class LeftOverWaitsRow(NamedTuple):
    id: UUID
    org_id: UUID


def left_over_waits(
    *, grace_s: float, batch: int, put_off: Iterable[UUID], cursor: database.Cursor | None = None
) -> list[LeftOverWaitsRow]:
    """Waits that are over, and that nobody has recorded for a while."""
    parameters = {"grace_s": grace_s, "batch": batch, "put_off": list(put_off)}
    return database.fetch("left_over_waits", parameters, LeftOverWaitsRow._make, cursor)


class LookBackRow(NamedTuple):
    step_run_id: UUID
    run_id: UUID
    version_id: UUID
    match_path: str
    value_hash: str
    condition: str
    id: UUID
    name: str
    data: Json
    user: Json
    ts: datetime
    received_at: datetime
    matched_at: datetime | None


def look_back(
    *,
    ids: Iterable[UUID],
    after_at: datetime | None,
    after_id: UUID | None,
    page: int,
    cursor: database.Cursor | None = None,
) -> list[LookBackRow]:
    """Events that were stored before these waits, and count for them."""
    parameters = {"ids": list(ids), "after_at": after_at, "after_id": after_id, "page": page}
    return database.fetch("look_back", parameters, LookBackRow._make, cursor)


def looked_back(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> None:
    """What came before these waits was looked at."""
    database.fetch("looked_back", {"ids": list(ids)}, tuple, cursor)


class TakeWaitsRow(NamedTuple):
    step_run_id: UUID


def take_waits(
    *,
    ids: Iterable[UUID],
    event_ids: Iterable[UUID | None],
    taken_by: str,
    answer: str | None,
    org: UUID | None,
    cursor: database.Cursor | None = None,
) -> list[TakeWaitsRow]:
    """Decide what waits came to."""
    parameters = {"ids": list(ids), "event_ids": list(event_ids), "taken_by": taken_by, "answer": answer, "org": org}
    return database.fetch("take_waits", parameters, TakeWaitsRow._make, cursor)


class TakeWaitsForRunsRow(NamedTuple):
    step_run_id: UUID


def take_waits_for_runs(
    *, children: Iterable[UUID], cursor: database.Cursor | None = None
) -> list[TakeWaitsForRunsRow]:
    """Take the waits for runs that have ended, among these."""
    return database.fetch("take_waits_for_runs", {"children": list(children)}, TakeWaitsForRunsRow._make, cursor)


class TakenWaitsRow(NamedTuple):
    id: UUID
    waits: bool
    taken_by: str
    kind: str
    condition: str
    options: Json
    answer: Json
    child_id: UUID | None
    run_id: UUID
    version_id: UUID
    org_id: UUID
    key: str
    path: str
    index: int | None  # type: ignore[assignment]
    container_id: UUID | None
    attempt: int
    wake_seq: int
    losses: int
    server_retry_waits: int
    timeout_ms: int
    queue: str
    type: str
    priority: int
    needs_met: int
    needs_total: int
    waiting_for: str
    queued_s: float
    event_id: UUID | None
    event_name: str | None
    event_data: Json
    event_user: Json
    event_ts: datetime | None
    child_status: str | None
    child_error: Json
    child_version: UUID | None
    child_output: Json


def taken_waits(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[TakenWaitsRow]:
    """Waits that are over, and the waiting steps that they end."""
    return database.fetch("taken_waits", {"ids": list(ids)}, TakenWaitsRow._make, cursor)


class WaitTermsRow(NamedTuple):
    name: str
    path: str


def wait_terms(*, org: UUID, names: Iterable[str], cursor: database.Cursor | None = None) -> list[WaitTermsRow]:
    """The paths by which open waits for events of some names want values to be compared."""
    return database.fetch("wait_terms", {"org": org, "names": list(names)}, WaitTermsRow._make, cursor)


class WaitsAtRow(NamedTuple):
    step_run_id: UUID
    run_id: UUID
    version_id: UUID
    event_name: str
    match_path: str
    value_hash: str
    condition: str


def waits_at(
    *,
    org: UUID,
    names: Iterable[str],
    paths: Iterable[str],
    hashes: Iterable[str],
    cursor: database.Cursor | None = None,
) -> list[WaitsAtRow]:
    """Open waits for events, by name (or pattern), path and hashed value."""
    parameters = {"org": org, "names": list(names), "paths": list(paths), "hashes": list(hashes)}
    return database.fetch("waits_at", parameters, WaitsAtRow._make, cursor)


class WaitsToLookBackRow(NamedTuple):
    id: UUID
    org_id: UUID


def waits_to_look_back(
    *, grace_s: float, batch: int, put_off: Iterable[UUID], cursor: database.Cursor | None = None
) -> list[WaitsToLookBackRow]:
    """Waits whose process died between its commit and its look at what came before."""
    parameters = {"grace_s": grace_s, "batch": batch, "put_off": list(put_off)}
    return database.fetch("waits_to_look_back", parameters, WaitsToLookBackRow._make, cursor)


class WaitsWithoutEventRow(NamedTuple):
    step_run_id: UUID


def waits_without_event(
    *, ids: Iterable[UUID], event_ids: Iterable[UUID], cursor: database.Cursor | None = None
) -> list[WaitsWithoutEventRow]:
    """Of waits those that nobody has taken, and whose event is gone."""
    parameters = {"ids": list(ids), "event_ids": list(event_ids)}
    return database.fetch("waits_without_event", parameters, WaitsWithoutEventRow._make, cursor)
