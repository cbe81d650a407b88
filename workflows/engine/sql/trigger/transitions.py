"""The statements of `trigger` that set a status or insert runs or steps; for `state.transitions`."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class InsertRunsRow(NamedTuple):
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


def insert_runs(
    *,
    org: UUID,
    flow: UUID,
    version: UUID,
    ids: Iterable[UUID],
    inputs: Iterable[str],
    event_names: Iterable[str],
    user_ids: Iterable[str],
    priorities: Iterable[int],
    event_ids: Iterable[UUID | None],
    gather_keys: Iterable[str],
    gathered: Iterable[int],
    singleton_keys: Iterable[str],
    newest_at: Iterable[datetime | None],
    tags: Iterable[str],
    api_keys: Iterable[str | None],
    trigger: str,
    sinks: int,
    run_at: datetime | None,
    dispatched: bool,
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
    cursor: database.Cursor | None = None,
) -> list[InsertRunsRow]:
    """Insert runs of one version with all their steps."""
    parameters = {
        "org": org, "flow": flow, "version": version, "ids": list(ids), "inputs": list(inputs),
        "event_names": list(event_names), "user_ids": list(user_ids), "priorities": list(priorities),
        "event_ids": list(event_ids), "gather_keys": list(gather_keys), "gathered": list(gathered),
        "singleton_keys": list(singleton_keys), "newest_at": list(newest_at), "tags": list(tags),
        "api_keys": list(api_keys), "trigger": trigger, "sinks": sinks, "run_at": run_at, "dispatched": dispatched,
        "start_ms": start_ms, "finish_ms": finish_ms, "compensations": compensations, "follow_up": follow_up,
        "origin_id": origin_id, "origin_kind": origin_kind, "repair_root_id": repair_root_id,
        "repair_number": repair_number, "parent_id": parent_id, "parent_policy": parent_policy, "awaited": awaited
    }  # fmt: skip
    return database.fetch("insert_runs", parameters, InsertRunsRow._make, cursor)
