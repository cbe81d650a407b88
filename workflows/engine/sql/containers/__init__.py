"""The statements of `containers` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database
from workflows.payload import Json


class AddRoundRow(NamedTuple):
    step_run_id: UUID


def add_round(*, id: UUID, total: int, value: str, cursor: database.Cursor | None = None) -> list[AddRoundRow]:
    """One more round of a loop, unless another process has added it."""
    return database.fetch("add_round", {"id": id, "total": total, "value": value}, AddRoundRow._make, cursor)


def concluded_fan_outs(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> None:
    """Containers that do not wait any more."""
    database.fetch("concluded_fan_outs", {"ids": list(ids)}, tuple, cursor)


class EndItemsRow(NamedTuple):
    step_run_id: UUID
    over: bool
    room: bool
    stopping: bool
    stopped: list[int] | None
    split: list[int]
    around: UUID | None


def end_items(*, ended: str, max_bytes: int, cursor: database.Cursor | None = None) -> list[EndItemsRow]:
    """Steps in containers have ended."""
    return database.fetch("end_items", {"ended": ended, "max_bytes": max_bytes}, EndItemsRow._make, cursor)


class FanOutsOverRow(NamedTuple):
    id: UUID
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
    kind: str
    total: int
    failed: int
    stopping: bool
    bytes: int
    options: Json
    elements: int
    successful: int
    errors: Json
    busy: bool


def fan_outs_over(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[FanOutsOverRow]:
    """Containers of which every item has ended, or that are to stop, and what recording them needs."""
    return database.fetch("fan_outs_over", {"ids": list(ids)}, FanOutsOverRow._make, cursor)


class ItemResultsRow(NamedTuple):
    results: Json


def item_results(*, id: UUID, keys: Iterable[str], cursor: database.Cursor | None = None) -> list[ItemResultsRow]:
    """The results of a container's items, in the order of the list."""
    return database.fetch("item_results", {"id": id, "keys": list(keys)}, ItemResultsRow._make, cursor)


class ItemResultsSizeRow(NamedTuple):
    clear: int
    number: int
    sealed: int


def item_results_size(
    *, id: UUID, keys: Iterable[str], cursor: database.Cursor | None = None
) -> list[ItemResultsSizeRow]:
    """How large the results of a container's items are, for `envelope.payload_bytes`."""
    return database.fetch("item_results_size", {"id": id, "keys": list(keys)}, ItemResultsSizeRow._make, cursor)


class LastRoundRow(NamedTuple):
    id: UUID
    output: Json


def last_round(
    *, id: UUID, index: int, keys: Iterable[str], cursor: database.Cursor | None = None
) -> list[LastRoundRow]:
    """The last round of a loop."""
    return database.fetch("last_round", {"id": id, "index": index, "keys": list(keys)}, LastRoundRow._make, cursor)


def set_item_plans(*, plans: str, cursor: database.Cursor | None = None) -> None:
    """Items of which some steps are taken over."""
    database.fetch("set_item_plans", {"plans": plans}, tuple, cursor)


class UnfinishedItemsRow(NamedTuple):
    container_id: UUID
    index: int  # type: ignore[assignment]
    version_id: UUID
    container: str
    id: UUID
    key: str
    type: str
    status: str
    taken: Json


def unfinished_items(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[UnfinishedItemsRow]:
    """Of containers that take items over."""
    return database.fetch("unfinished_items", {"ids": list(ids)}, UnfinishedItemsRow._make, cursor)
