"""The statements of `worker` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class CancelledAmongRow(NamedTuple):
    id: UUID


def cancelled_among(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[CancelledAmongRow]:
    """Which of some running steps belong to a cancelled run (those that undo others go on)."""
    return database.fetch("cancelled_among", {"ids": list(ids)}, CancelledAmongRow._make, cursor)


class ChargeLossRow(NamedTuple):
    solitary_losses: int


def charge_loss(
    *, id: UUID, lease: UUID | None, message: str, cursor: database.Cursor | None = None
) -> list[ChargeLossRow]:
    """The process that performed this step alone is gone, and its worker lives."""
    return database.fetch("charge_loss", {"id": id, "lease": lease, "message": message}, ChargeLossRow._make, cursor)


class RenewLeasesRow(NamedTuple):
    id: UUID
    cancelled: bool


def renew_leases(
    *, ids: Iterable[UUID], leases: Iterable[UUID | None], lease_s: float, cursor: database.Cursor | None = None
) -> list[RenewLeasesRow]:
    """Heartbeat."""
    parameters = {"ids": list(ids), "leases": list(leases), "lease_s": lease_s}
    return database.fetch("renew_leases", parameters, RenewLeasesRow._make, cursor)


def report_progress(*, reports: str, cursor: database.Cursor | None = None) -> None:
    """What the handlers of running steps report."""
    database.fetch("report_progress", {"reports": reports}, tuple, cursor)


def report_worker(
    *,
    id: UUID,
    name: str,
    queues: Iterable[str],
    slots: int,
    capacity: int,
    lanes: str,
    active: int,
    unclaimed: int,
    claimed_until: str,
    code: str,
    cpu_cores: float | None,
    memory_bytes: int | None,
    cursor: database.Cursor | None = None,
) -> None:
    """A worker's sign of life."""
    parameters = {
        "id": id, "name": name, "queues": list(queues), "slots": slots, "capacity": capacity, "lanes": lanes,
        "active": active, "unclaimed": unclaimed, "claimed_until": claimed_until, "code": code, "cpu_cores": cpu_cores,
        "memory_bytes": memory_bytes
    }  # fmt: skip
    database.fetch("report_worker", parameters, tuple, cursor)


class WorkerSeenRow(NamedTuple):
    seen: bool


def worker_seen(*, silent_s: float, cursor: database.Cursor | None = None) -> list[WorkerSeenRow]:
    """Whether a worker process was seen lately."""
    return database.fetch("worker_seen", {"silent_s": silent_s}, WorkerSeenRow._make, cursor)
