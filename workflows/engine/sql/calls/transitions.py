"""The statements of `calls` that set a status or insert runs or steps; for `state.transitions`."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class BeginCallsRow(NamedTuple):
    id: UUID
    is_new: bool


def begin_calls(
    *,
    function: UUID,
    function_lease: UUID,
    calls: str,
    status: str,
    lease: UUID,
    worker: UUID,
    lease_s: float,
    ended: UUID | None,
    ended_lease: UUID | None,
    output: str | None,
    input: str | None,
    logs: str | None,
    ran: float | None,
    cursor: database.Cursor | None = None,
) -> list[BeginCallsRow]:
    """A visited function asks for steps that are not in its journal."""
    parameters = {
        "function": function, "function_lease": function_lease, "calls": calls, "status": status, "lease": lease,
        "worker": worker, "lease_s": lease_s, "ended": ended, "ended_lease": ended_lease, "output": output,
        "input": input, "logs": logs, "ran": ran
    }  # fmt: skip
    return database.fetch("begin_calls", parameters, BeginCallsRow._make, cursor)


class CompleteCallRow(NamedTuple):
    id: UUID


def complete_call(
    *, id: UUID, lease: UUID, output: str | None, logs: str | None, ran: float, cursor: database.Cursor | None = None
) -> list[CompleteCallRow]:
    """A step of a function that is performed in a transaction of its own has completed."""
    parameters = {"id": id, "lease": lease, "output": output, "logs": logs, "ran": ran}
    return database.fetch("complete_call", parameters, CompleteCallRow._make, cursor)


class LeftOverFunctionsRow(NamedTuple):
    id: UUID
    run_id: UUID
    version_id: UUID
    key: str
    path: str
    queue: str
    type: str
    priority: int
    attempt: int
    needs_total: int
    needs_met: int
    losses: int
    needs_prepare: bool


def left_over_functions(*, batch: int, cursor: database.Cursor | None = None) -> list[LeftOverFunctionsRow]:
    """Functions that wait for steps although none of those that they have asked for is open."""
    return database.fetch("left_over_functions", {"batch": batch}, LeftOverFunctionsRow._make, cursor)


class SuspendFunctionsRow(NamedTuple):
    id: UUID
    run_id: UUID
    version_id: UUID
    key: str
    path: str
    queue: str
    type: str
    priority: int
    attempt: int
    needs_total: int
    needs_met: int
    losses: int
    needs_prepare: bool


def suspend_functions(*, functions: str, cursor: database.Cursor | None = None) -> list[SuspendFunctionsRow]:
    """Functions whose visits have ended wait for steps that they have asked for."""
    return database.fetch("suspend_functions", {"functions": functions}, SuspendFunctionsRow._make, cursor)


class TakeOverCallsRow(NamedTuple):
    id: UUID


def take_over_calls(
    *, run: UUID, origin: UUID, key: str, until: int | None, cursor: database.Cursor | None = None
) -> list[TakeOverCallsRow]:
    """A repeated run takes over the journal of a function."""
    parameters = {"run": run, "origin": origin, "key": key, "until": until}
    return database.fetch("take_over_calls", parameters, TakeOverCallsRow._make, cursor)


class WakeFunctionsRow(NamedTuple):
    id: UUID
    run_id: UUID
    version_id: UUID
    key: str
    path: str
    queue: str
    type: str
    priority: int
    attempt: int
    needs_total: int
    needs_met: int
    losses: int
    needs_prepare: bool


def wake_functions(*, ended: Iterable[UUID], cursor: database.Cursor | None = None) -> list[WakeFunctionsRow]:
    """Steps that functions have asked for have ended."""
    return database.fetch("wake_functions", {"ended": list(ended)}, WakeFunctionsRow._make, cursor)
