"""Triggering: runs and all their steps, by one statement, in the caller's transaction; dispatched after its commit."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import structlog
import uuid6
from django.db import connection, transaction

from workflows.definitions.compiled import CompiledFlow
from workflows.engine import store
from workflows.engine.dispatch import DISPATCHER
from workflows.engine.scope import MANUAL_EVENT
from workflows.engine.transitions import ReadyStep
from workflows.errors import ExpressionError, IdempotencyConflict, InvalidInput, MissingField
from workflows.payload import MAX_EVENT_BYTES, Json, dump

log = structlog.get_logger(__name__)
MAX_HEAD_START_S = 600
IDEMPOTENCY_WINDOW_S = 24 * 3600
IDEMPOTENCY_WAIT_MS = 2_000


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """One run to be made. `input` is the event's data, or what a person sends; without `priority` the flow's counts."""

    input: Json
    priority: int | None = None
    event_id: UUID | None = None
    id: UUID = field(default_factory=uuid6.uuid7)


@dataclass(frozen=True, kw_only=True)
class Triggered:
    """The answer: the runs' ids, and whether an earlier run stands for them (idempotency)."""

    run_ids: list[UUID]
    existing: bool = False


def trigger(
    flow: CompiledFlow,
    runs: Sequence[NewRun],
    *,
    org_id: UUID,
    kind: str = "manual",
    user_id: str = "",
    event_name: str = "",
    run_at: dt.datetime | None = None,
    idempotency_key: str = "",
) -> Triggered:
    """Make runs of a version, within the caller's transaction where there is one; dispatch them after the commit.

    Raises InvalidInput (by the flow's input_schema), PayloadTooLarge, or IdempotencyConflict where another open
    transaction holds the key.
    """
    texts = [_checked(flow, run.input) for run in runs]
    alone = not (connection.in_atomic_block or idempotency_key)  # then the one statement is its own transaction
    with contextlib.nullcontext() if alone else transaction.atomic():
        if idempotency_key:
            first = _take_key(flow, org_id, idempotency_key, runs[0].id)
            if first != runs[0].id:
                return Triggered(run_ids=[first], existing=True)
        rows = store.fetch(
            "insert_runs",
            {
                "org": org_id,
                "flow": flow.flow_id,
                "version": flow.version_id,
                "ids": [run.id for run in runs],
                "inputs": texts,
                "priorities": [_priority(flow, run, org_id=org_id, event_name=event_name) for run in runs],
                "event_ids": [run.event_id for run in runs],
                "event_name": event_name,
                "trigger": kind,
                "user_id": user_id,
                "sinks": flow.sinks,
                "run_at": run_at,
                "dispatched": True,
            },
        )
        ready = [ReadyStep.of(row) for row in rows]
        transaction.on_commit(lambda: DISPATCHER.submit(ready), robust=True)
    return Triggered(run_ids=[run.id for run in runs])


def _priority(flow: CompiledFlow, run: NewRun, *, org_id: UUID, event_name: str) -> int:
    """Seconds of head start: those given, else the flow's own; a field that is not there makes it 0."""
    if run.priority is not None:
        return run.priority
    if isinstance(flow.priority, int):
        return flow.priority
    event = {"id": str(run.event_id or run.id), "name": event_name or MANUAL_EVENT, "data": run.input, "user": {}}
    try:
        value = flow.priority.evaluate({"event": {**event, "ts": 0}, "input": run.input, "org": {"id": str(org_id)}})
    except MissingField:
        return 0
    except ExpressionError as error:
        log.warning("the priority can't be evaluated", flow=flow.slug, error=str(error))
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        log.warning("the priority is no number", flow=flow.slug, expression=flow.priority.source)
        return 0
    return round(max(-MAX_HEAD_START_S, min(MAX_HEAD_START_S, value)))


def _checked(flow: CompiledFlow, value: Json) -> str:
    text = dump(value, what="The input", limit_bytes=MAX_EVENT_BYTES)
    problems = flow.input_problems(value)
    if problems:
        raise InvalidInput("; ".join(problems))
    return text


def _take_key(flow: CompiledFlow, org_id: UUID, key: str, run_id: UUID) -> UUID:
    """The run that the key stands for: this one, or the one that has it already."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('lock_timeout')")
            before = cursor.fetchone()[0]
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", (str(IDEMPOTENCY_WAIT_MS),))
        taken = store.fetch(
            "take_idempotency_key",
            {"org": org_id, "flow": flow.flow_id, "key": key, "run": run_id, "window_s": IDEMPOTENCY_WINDOW_S},
        )
    except psycopg.errors.LockNotAvailable:
        raise IdempotencyConflict from None
    with connection.cursor() as cursor:  # the rest of the caller's transaction keeps its own
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", (before,))
    if taken:
        return run_id
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT run_id FROM workflows_idempotencykey WHERE org_id = %s AND flow_id = %s AND key = %s",
            (org_id, flow.flow_id, key),
        )
        row = cursor.fetchone()
    if row is None:
        raise IdempotencyConflict
    return UUID(str(row[0]))
