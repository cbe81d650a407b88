"""A new run that takes over outcomes of an earlier one, as it is planned (`plan`): a resume, or a fork from a step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import uuid6
from django.db import transaction

from workflows.definitions.compiled import CompiledFlow
from workflows.engine.pipeline import dispatcher, record
from workflows.engine.pipeline.trigger import SLACK_BYTES
from workflows.engine.repair.plan import Past, Planned
from workflows.engine.state.records import Lineage
from workflows.engine.state.transitions import calls as call_transitions
from workflows.engine.state.transitions import runs as run_transitions
from workflows.errors import InvalidInput
from workflows.models import Run, StepRun
from workflows.payload import MAX_EVENT_BYTES, Json, dump


def past_of(run: Run, flow: CompiledFlow) -> tuple[dict[str, Past], set[str]]:
    """The outcomes of a run's steps, and the steps that were undone, by the version that the run had."""
    rows = StepRun.objects.filter(run_id=run.id, path="").only("id", "key", "type", "status", "is_compensation")
    chosen = dict(StepRun.objects.filter(run_id=run.id, type="conditional", path="").values_list("key", "output"))
    past, ran = {}, set()
    for row in rows:
        if row.is_compensation:
            ran |= {row.key} if row.status in {"completed", "failed"} else set()
        else:
            then = (chosen.get(row.key) or {}).get("then", ())
            past[row.key] = Past(id=row.id, type=row.type, status=row.status, then=frozenset(then))
    undone = {step.key for step in flow.steps.values() if ran.intersection((*step.on_failure, *step.on_cancel))}
    return past, undone


def fork(
    run: Run,
    flow: CompiledFlow,
    steps: list[Planned],
    *,
    value: Json,
    extra: Mapping[str, Any],
    lineage: Lineage,
    limit_bytes: int = MAX_EVENT_BYTES,
    until: int | None = None,
) -> UUID:
    """Make the planned run, in the caller's transaction where there is one; dispatch it after the commit.

    `extra` is added to an input that is an object, after the check. `until`: of a flow in Python, the position of the
    step from which it runs again. Returns its id.

    Raises InvalidInput or PayloadTooLarge.
    """
    problems = flow.input_problems(value)
    if problems:
        raise InvalidInput("; ".join(problems))
    whole = {**value, **extra} if isinstance(value, dict) else value
    new_id = uuid6.uuid7()
    ready = run_transitions.insert_fork(
        flow,
        run.org_id,
        run_id=new_id,
        text=dump(whole, what="The input", limit_bytes=limit_bytes + SLACK_BYTES),
        priority=run.priority,
        event_id=run.event_id,
        event_name=run.event_name,
        trigger=run.trigger,
        user_id=run.user_id,
        sinks=sum(1 for step in steps if step.source is None and flow.steps[step.key].is_sink),
        steps=json.dumps([_row(step) for step in steps]),
        lineage=lineage,
        run_tags=run.tags,
    )
    if flow.driver is not None and flow.driver in {step.key for step in steps if step.source is None}:
        call_transitions.take_over(new_id, origin_id=run.id, key=flow.driver, until=until)
    if ready:
        dispatcher.start_after_commit(ready)
    else:  # everything is taken over; only the output is rendered again
        transaction.on_commit(lambda: record.finish([new_id]), robust=True)
    return new_id


def _row(step: Planned) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": step.key, "status": step.status, "needs_left": step.needs_left, "needs_met": step.needs_met,
        "takes_items": step.takes_items,
    }  # fmt: skip
    return row if step.source is None else {**row, "source": str(step.source)}
