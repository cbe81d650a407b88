"""The statements of `repair` that set a status or insert runs or steps; for `state.transitions`."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class InsertForkRow(NamedTuple):
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


def insert_fork(
    *,
    id: UUID,
    input: str,
    priority: int,
    event_id: UUID | None,
    steps: str,
    org: UUID,
    flow: UUID,
    version: UUID,
    event_name: str,
    trigger: str,
    user_id: str,
    sinks: int,
    start_ms: int | None,
    finish_ms: int | None,
    compensations: bool,
    follow_up: bool,
    origin_id: UUID | None,
    origin_kind: str,
    repair_root_id: UUID | None,
    repair_number: int,
    parent_id: UUID | None,
    parent_policy: str,
    awaited: bool,
    tags: Iterable[str],
    cursor: database.Cursor | None = None,
) -> list[InsertForkRow]:
    """Insert a run that takes over outcomes of an earlier one."""
    parameters = {
        "id": id, "input": input, "priority": priority, "event_id": event_id, "steps": steps, "org": org, "flow": flow,
        "version": version, "event_name": event_name, "trigger": trigger, "user_id": user_id, "sinks": sinks,
        "start_ms": start_ms, "finish_ms": finish_ms, "compensations": compensations, "follow_up": follow_up,
        "origin_id": origin_id, "origin_kind": origin_kind, "repair_root_id": repair_root_id,
        "repair_number": repair_number, "parent_id": parent_id, "parent_policy": parent_policy, "awaited": awaited,
        "tags": list(tags)
    }  # fmt: skip
    return database.fetch("insert_fork", parameters, InsertForkRow._make, cursor)
