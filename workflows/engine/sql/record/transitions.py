"""The statements of `record` that set a status or insert runs or steps; for `state.transitions`."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class EndStoppedRunsRow(NamedTuple):
    id: UUID
    status: str


def end_stopped_runs(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[EndStoppedRunsRow]:
    """End runs that are bound to fail or cancelled, once nothing of them runs."""
    return database.fetch("end_stopped_runs", {"ids": list(ids)}, EndStoppedRunsRow._make, cursor)


class FinishRunsRow(NamedTuple):
    id: UUID
    version_id: UUID


def finish_runs(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[FinishRunsRow]:
    """running → completed for runs whose steps have all ended without a fatal failure."""
    return database.fetch("finish_runs", {"ids": list(ids)}, FinishRunsRow._make, cursor)


class InsertCompensationRow(NamedTuple):
    id: UUID
    run_id: UUID
    version_id: UUID
    key: str
    queue: str
    type: str
    priority: int
    attempt: int
    needs_total: int
    needs_met: int
    needs_prepare: bool


def insert_compensation(*, run: UUID, key: str, cursor: database.Cursor | None = None) -> list[InsertCompensationRow]:
    """A step that undoes another one becomes ready, within a run that stops."""
    return database.fetch("insert_compensation", {"run": run, "key": key}, InsertCompensationRow._make, cursor)


class InsertOwnCompensationsRow(NamedTuple):
    id: UUID
    run_id: UUID
    version_id: UUID
    key: str
    queue: str
    type: str
    priority: int
    attempt: int
    needs_total: int
    needs_met: int
    needs_prepare: bool


def insert_own_compensations(*, failed: str, cursor: database.Cursor | None = None) -> list[InsertOwnCompensationsRow]:
    """Steps that undo others become ready since those have failed, while their runs go on."""
    return database.fetch("insert_own_compensations", {"failed": failed}, InsertOwnCompensationsRow._make, cursor)


class RecordLoneRow(NamedTuple):
    kind: str
    id: UUID
    run_id: UUID
    version_id: UUID | None
    org_id: UUID | None
    status: str
    key: str
    path: str
    index: int | None  # type: ignore[assignment]
    container_id: UUID | None
    attempt: int
    needs_met: int
    needs_total: int
    wake_seq: int
    losses: int
    server_retry_waits: int
    timeout_ms: int
    queue: str
    type: str
    priority: int
    queued_s: float
    needs_prepare: bool
    stopping: bool


def record_lone(
    *,
    id: UUID,
    lease: UUID,
    output: str | None,
    input: str | None,
    logs: str | None,
    ran: float | None,
    target: str,
    weight: int,
    claim: bool,
    publish: bool,
    next_lease: UUID,
    worker: UUID,
    lease_s: float,
    cursor: database.Cursor | None = None,
) -> list[RecordLoneRow]:
    """Record that a step has completed whose only successor needs nothing else."""
    parameters = {
        "id": id, "lease": lease, "output": output, "input": input, "logs": logs, "ran": ran, "target": target,
        "weight": weight, "claim": claim, "publish": publish, "next_lease": next_lease, "worker": worker,
        "lease_s": lease_s
    }  # fmt: skip
    return database.fetch("record_lone", parameters, RecordLoneRow._make, cursor)


class RecordOutcomesRow(NamedTuple):
    kind: str
    id: UUID
    run_id: UUID | None
    version_id: UUID | None
    org_id: UUID | None
    status: str
    key: str
    path: str
    index: int | None  # type: ignore[assignment]
    container_id: UUID | None
    attempt: int
    needs_met: int
    needs_total: int
    wake_seq: int
    losses: int
    server_retry_waits: int
    timeout_ms: int
    queue: str
    type: str
    priority: int
    queued_s: float
    needs_prepare: bool
    stopping: bool


def record_outcomes(
    *, outcomes: str, edges: str, lease: UUID, worker: UUID, lease_s: float, cursor: database.Cursor | None = None
) -> list[RecordOutcomesRow]:
    """Record a group of outcomes in one statement."""
    parameters = {"outcomes": outcomes, "edges": edges, "lease": lease, "worker": worker, "lease_s": lease_s}
    return database.fetch("record_outcomes", parameters, RecordOutcomesRow._make, cursor)


def set_run_output(*, id: UUID, output: str | None, error: str | None, cursor: database.Cursor | None = None) -> None:
    """The rendered output of a run that has just ended, or the error of rendering it."""
    database.fetch("set_run_output", {"id": id, "output": output, "error": error}, tuple, cursor)


class WithdrawOpenRow(NamedTuple):
    id: UUID


def withdraw_open(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[WithdrawOpenRow]:
    """Of runs that are bound to fail or cancelled."""
    return database.fetch("withdraw_open", {"ids": list(ids)}, WithdrawOpenRow._make, cursor)
