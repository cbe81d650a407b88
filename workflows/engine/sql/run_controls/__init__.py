"""The statements of `run_controls` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class DebounceRunRow(NamedTuple):
    id: UUID
    replaced: bool


def debounce_run(
    *,
    flow: UUID,
    key: str,
    input: str,
    event_name: str,
    user_id: str,
    priority: int,
    event_id: UUID | None,
    tags: Iterable[str],
    received_at: datetime,
    period_s: float,
    timeout_s: float | None,
    start_ms: int | None,
    cursor: database.Cursor | None = None,
) -> list[DebounceRunRow]:
    """An event moves the run that waits for quiet."""
    parameters = {
        "flow": flow, "key": key, "input": input, "event_name": event_name, "user_id": user_id, "priority": priority,
        "event_id": event_id, "tags": list(tags), "received_at": received_at, "period_s": period_s,
        "timeout_s": timeout_s, "start_ms": start_ms
    }  # fmt: skip
    return database.fetch("debounce_run", parameters, DebounceRunRow._make, cursor)


class GatheringRoomRow(NamedTuple):
    gathered: int


def gathering_room(*, flow: UUID, key: str, cursor: database.Cursor | None = None) -> list[GatheringRoomRow]:
    """How many events the run has that gathers those of a key."""
    return database.fetch("gathering_room", {"flow": flow, "key": key}, GatheringRoomRow._make, cursor)


class HashKeysRow(NamedTuple):
    key: str


def hash_keys(*, org: UUID, cursor: database.Cursor | None = None) -> list[HashKeysRow]:
    """From now on, and for good, the keys that flows of an organization compute are stored hashed."""
    return database.fetch("hash_keys", {"org": org}, HashKeysRow._make, cursor)


class HashesKeysRow(NamedTuple):
    hashed: bool


def hashes_keys(*, org: UUID, cursor: database.Cursor | None = None) -> list[HashesKeysRow]:
    """Whether the keys that flows of an organization compute are stored hashed."""
    return database.fetch("hashes_keys", {"org": org}, HashesKeysRow._make, cursor)


class IdempotencyOwnersRow(NamedTuple):
    key: str
    run_id: UUID


def idempotency_owners(
    *, org: UUID, flow: UUID, keys: Iterable[str], cursor: database.Cursor | None = None
) -> list[IdempotencyOwnersRow]:
    """The runs that idempotency keys stand for."""
    parameters = {"org": org, "flow": flow, "keys": list(keys)}
    return database.fetch("idempotency_owners", parameters, IdempotencyOwnersRow._make, cursor)


class JoinBatchRow(NamedTuple):
    id: UUID


def join_batch(
    *,
    flow: UUID,
    key: str,
    events: str,
    number: int,
    max_size: int,
    max_bytes: int,
    cursor: database.Cursor | None = None,
) -> list[JoinBatchRow]:
    """Events join the run that gathers them, while there is room in it."""
    parameters = {
        "flow": flow, "key": key, "events": events, "number": number, "max_size": max_size, "max_bytes": max_bytes
    }  # fmt: skip
    return database.fetch("join_batch", parameters, JoinBatchRow._make, cursor)


class LiveSingletonsRow(NamedTuple):
    id: UUID
    key: str


def live_singletons(
    *, flow: UUID, keys: Iterable[str], cursor: database.Cursor | None = None
) -> list[LiveSingletonsRow]:
    """The live runs that have these singleton keys."""
    return database.fetch("live_singletons", {"flow": flow, "keys": list(keys)}, LiveSingletonsRow._make, cursor)


def lock_key_form(*, org: UUID, alone: bool, cursor: database.Cursor | None = None) -> None:
    """Hold the form in which the keys that flows compute are stored for an organization, until the transaction
    ends."""
    database.fetch("lock_key_form", {"org": org, "alone": alone}, tuple, cursor)


def mark_runs(*, flow: UUID, keys: Iterable[str], runs: Iterable[UUID], cursor: database.Cursor | None = None) -> None:
    """Count new runs for their flow's rate limit."""
    database.fetch("mark_runs", {"flow": flow, "keys": list(keys), "runs": list(runs)}, tuple, cursor)


def point_keys_to(
    *,
    org: UUID,
    flow: UUID,
    keys: Iterable[str],
    unmade: Iterable[UUID],
    runs: Iterable[UUID],
    cursor: database.Cursor | None = None,
) -> None:
    """Keys that were taken for a run that is not made after all, since another key of it stands for an earlier
    run."""
    parameters = {"org": org, "flow": flow, "keys": list(keys), "unmade": list(unmade), "runs": list(runs)}
    database.fetch("point_keys_to", parameters, tuple, cursor)


class RecentRunMarksRow(NamedTuple):
    key: str
    number: int
    oldest_age_s: float


def recent_run_marks(
    *, flow: UUID, keys: Iterable[str], period_s: float, cursor: database.Cursor | None = None
) -> list[RecentRunMarksRow]:
    """The starts that a flow's rate limit counts."""
    parameters = {"flow": flow, "keys": list(keys), "period_s": period_s}
    return database.fetch("recent_run_marks", parameters, RecentRunMarksRow._make, cursor)


def release_singletons(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> None:
    """Runs that are cancelled for the sake of new ones give their keys up."""
    database.fetch("release_singletons", {"ids": list(ids)}, tuple, cursor)


class SleepingRunsRow(NamedTuple):
    id: UUID


def sleeping_runs(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[SleepingRunsRow]:
    """Of some runs those that only wait."""
    return database.fetch("sleeping_runs", {"ids": list(ids)}, SleepingRunsRow._make, cursor)


def stop_gathering(*, flow: UUID, key: str, cursor: database.Cursor | None = None) -> None:
    """What comes now is gathered by a new run."""
    database.fetch("stop_gathering", {"flow": flow, "key": key}, tuple, cursor)


class TakeIdempotencyKeysRow(NamedTuple):
    key: str
    run_id: UUID


def take_idempotency_keys(
    *,
    org: UUID,
    flow: UUID,
    keys: Iterable[str],
    runs: Iterable[UUID],
    taken_over: Iterable[str],
    window_s: float,
    cursor: database.Cursor | None = None,
) -> list[TakeIdempotencyKeysRow]:
    """Take idempotency keys for new runs."""
    parameters = {
        "org": org, "flow": flow, "keys": list(keys), "runs": list(runs), "taken_over": list(taken_over),
        "window_s": window_s
    }  # fmt: skip
    return database.fetch("take_idempotency_keys", parameters, TakeIdempotencyKeysRow._make, cursor)
