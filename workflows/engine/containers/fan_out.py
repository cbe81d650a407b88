"""Containers (map, batch, loop, group): their items are opened as there is room, counted as they end, and summed up.

Opening and counting belong to the transactions that record outcomes, so that no item is lost or opened twice; each
group of outcomes costs a fixed number of statements, however many items there are. The outcome of a finished container
is recorded afterwards, as the end of a waiting step; where the process dies in between, rescue does it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from workflows.edge.unavailable import is_database_away
from workflows.engine.calls.waiting import is_call
from workflows.engine.pipeline.retry_decision import describe
from workflows.engine.repair.plan import Past, Planned, plan
from workflows.engine.sql import containers as sql
from workflows.engine.sql.containers import FanOutsOverRow, LastRoundRow, UnfinishedItemsRow
from workflows.engine.state import database, expression_context, flow_cache, sealed
from workflows.engine.state.records import Claim, ReadyStep, Recorded, StepResult
from workflows.engine.state.transitions import containers as transitions
from workflows.engine.worker import ending
from workflows.errors import Category, PayloadTooLarge
from workflows.expressions import compile_expression
from workflows.models.run import DECIDED
from workflows.payload import MAX_OUTPUT_BYTES, MAX_RUN_BYTES, dump
from workflows.sealing import envelope, shapes
from workflows.steps.outcome import Completed, Failed, FanOut, Outcome, StepError

ITEM_FAILED = "ItemFailed"
WAITS_FOR = "items"


@dataclass(kw_only=True)
class Advanced:
    """The consequences of outcomes in containers: ready steps, steps that will not start, containers whose items
    may all have ended, and step runs whose failure has split their part of a batch."""

    ready: list[ReadyStep] = field(default_factory=list)
    unstarted: list[UUID] = field(default_factory=list)
    finished_containers: list[UUID] = field(default_factory=list)
    split_items: set[UUID] = field(default_factory=set)


def stop_orphan_steps(results: Sequence[StepResult], recorded: Recorded, cursor: database.Cursor) -> Advanced:
    """Within the transaction that has recorded outcomes: cancel steps that would go on in items that have ended."""
    open_ = [
        each.claim.id
        for each in results
        if _is_in_container(each.claim) and recorded.statuses.get(each.claim.id) in {"waiting", "ready"}
    ]
    advanced = Advanced()
    for row in transitions.cancel_orphan_steps(open_, cursor=cursor):
        recorded.statuses[row.id] = "cancelled"
        advanced.finished_containers.append(row.container_id)
    return advanced


def begin(results: Iterable[StepResult], recorded: Recorded, cursor: database.Cursor) -> Advanced:
    """Within the transaction that has made containers wait: store their items, and open the first."""
    new = [
        _row(result, fan_out)
        for result in results
        if isinstance(fan_out := result.outcome, FanOut) and recorded.statuses.get(result.claim.id) == "waiting"
    ]
    if not new:
        return Advanced()
    ids = transitions.begin(json.dumps(new), cursor=cursor)
    _plan_items(ids, cursor)
    return Advanced(ready=transitions.open_items(ids, paused=False, cursor=cursor), finished_containers=ids)


def _plan_items(container_ids: Sequence[UUID], cursor: database.Cursor) -> None:
    """Of containers of resumed runs: within items that did not end well, steps that did are taken over."""
    items: dict[tuple[UUID, int], list[UnfinishedItemsRow]] = defaultdict(list)
    for row in sql.unfinished_items(ids=container_ids, cursor=cursor):
        items[row.container_id, row.index].append(row)
    plans = []
    for (container_id, index), rows in items.items():
        flow = flow_cache.flow_of(rows[0].version_id)
        past = {
            row.key: Past(id=row.id, type=row.type, status=row.status, then=frozenset(row.taken or ())) for row in rows
        }
        planned = plan(flow, past, container=rows[0].container)
        sinks = sum(1 for each in planned if each.source is None and flow.steps[each.key].is_sink)
        if sinks and any(each.source for each in planned):
            steps = {each.key: _as_planned(each) for each in planned}
            plans.append({"container_id": str(container_id), "index": index, "plan": {"sinks": sinks, "steps": steps}})
    if plans:
        sql.set_item_plans(plans=json.dumps(plans), cursor=cursor)


def _as_planned(step: Planned) -> dict[str, Any]:
    source = str(step.source) if step.source else None
    return {"status": step.status, "left": step.needs_left, "met": step.needs_met, "source": source}


def _row(result: StepResult, fan_out: FanOut) -> dict[str, Any]:
    sizes = fan_out.sizes or [1] * len(fan_out.items)
    values = sealed.items(fan_out.items, result.claim.org_id, are_parts=fan_out.sizes is not None)
    step = flow_cache.flow_of(result.claim.version_id).steps[result.claim.key]
    return {
        "id": str(result.claim.id),
        "kind": step.type.name,
        "parallelism": fan_out.parallelism,
        "max_failures": fan_out.max_failures,
        "pause_ms": round(fan_out.pause_s * 1000),
        "sinks": step.body_sinks,
        "options": fan_out.options,
        "items": [list(each) for each in zip(_starts(sizes), sizes, values, strict=True)],
    }


def _starts(sizes: Sequence[int]) -> list[int]:
    starts, position = [], 0
    for size in sizes:
        starts.append(position)
        position += size
    return starts


def advance(results: Sequence[StepResult], recorded: Recorded, cursor: database.Cursor) -> Advanced:
    """Within the transaction that has recorded outcomes: count those of steps in containers, and open what follows."""
    ended = [
        _ended(each)
        for each in results
        if _is_in_container(each.claim) and recorded.statuses.get(each.claim.id) in DECIDED
    ]
    if not ended:
        return Advanced()
    advanced = Advanced()
    room: list[UUID] = []
    for row in sql.end_items(ended=json.dumps(ended), max_bytes=MAX_RUN_BYTES, cursor=cursor):
        if row.stopped or row.stopping:
            indexes = None if row.stopping else row.stopped
            advanced.unstarted += transitions.cancel_items(row.step_run_id, indexes, cursor=cursor)
        if row.split:
            advanced.split_items |= {
                each.claim.id for each in results if _place(each) in {(row.step_run_id, index) for index in row.split}
            }
        if row.over:
            advanced.finished_containers.append(row.step_run_id)
        if row.around:
            advanced.finished_containers.append(row.around)
        if row.room:
            room.append(row.step_run_id)
    advanced.ready = transitions.open_items(room, paused=True, cursor=cursor)
    return advanced


def _is_in_container(claim: Claim) -> bool:
    """Whether the step stands in a container. (The claim of one that is skipped has no index.)"""
    return bool(claim.path) and not is_call(claim)


def _place(result: StepResult) -> tuple[UUID | None, int | None]:
    return result.claim.container_id, result.claim.index


def _ended(result: StepResult) -> dict[str, Any]:
    row: dict[str, Any] = {"id": str(result.claim.id), "fatal": False, "resource": False}
    outcome = result.outcome
    if isinstance(outcome, Failed) and _stops_item(result.claim):
        error = {"step": result.claim.key, **outcome.error.as_json()}
        del error["traceback"]
        error = sealed.shaped(error, result.claim.org_id, shapes.error)
        row |= {"fatal": True, "resource": outcome.error.category is Category.RESOURCE, "error": error}
    return row


def _stops_item(claim: Claim) -> bool:
    flow = flow_cache.find(claim.version_id)
    return flow is None or claim.key not in flow.steps or flow.steps[claim.key].stops_run


# --- the end --------------------------------------------------------------------------------------------------------


def conclude(step_run_ids: Sequence[UUID]) -> tuple[list[StepResult], list[ReadyStep]]:
    """The results of containers whose items have ended, and the ready steps of loops that go on.

    Raises UnloadableVersion, before anything is done, where only another process can sum one of them up.
    """
    results: list[StepResult] = []
    ready: list[ReadyStep] = []
    rows = sql.fan_outs_over(ids=step_run_ids) if step_run_ids else []
    for refused in flow_cache.load({row.version_id for row in rows}).refused.values():
        if flow_cache.is_newer(refused):
            raise refused
    for row in rows:
        if row.busy:
            continue
        claim = Claim.of(row, None, waited_for=row.waiting_for)
        try:
            outcome = _outcome(row)
            if outcome is None:
                ready += _next_round(row)
                continue
            output = dump(outcome.output) if isinstance(outcome, Completed) else None
        except BaseException as error:  # one that can't be summed up must not keep the others from it
            ending.raise_if_ending(error)
            if is_database_away(error) or flow_cache.is_newer(error):
                raise
            outcome, output = Failed(error=describe(error)), None
        results.append(StepResult(claim=claim, outcome=outcome, output=output))
    return results, ready


def close(step_run_ids: Sequence[UUID]) -> None:
    """Delete the items of these containers. Call it once their outcomes are recorded."""
    if step_run_ids:
        sql.concluded_fan_outs(ids=step_run_ids)


def _outcome(row: FanOutsOverRow) -> Outcome | None:
    """None for a loop that goes on."""
    if row.bytes > MAX_RUN_BYTES:
        message = f"The outputs of the steps in it would have more than {MAX_RUN_BYTES:,} bytes together."
        return Failed(error=describe(PayloadTooLarge(message)))
    if row.stopping:
        return Failed(error=_item_failure(row))
    step = flow_cache.flow_of(row.version_id).steps[row.key]
    if row.kind == "loop":
        going_on = row.total > 0 and _goes_on(row, step.result_keys)
        if going_on and row.total < row.options["max_iterations"]:
            return None
        if going_on and row.options["on_limit"] == "fail":
            message = f"The loop would go on after {row.total:,} rounds (max_iterations)."
            return Failed(error=StepError(category=Category.BUSINESS, name="LoopLimit", message=message))
    if row.kind == "group":
        results = _results(row, step.result_keys)
        return Completed(output=results[0] if results else None)
    summary = {"total": row.elements, "successful": row.successful, "failed": row.elements - row.successful,
               "errors": row.errors or []}  # fmt: skip
    if row.options.get("collect", True):
        summary["results"] = _results(row, step.result_keys)
    return Completed(output=summary)


def _results(row: FanOutsOverRow, keys: list[str]) -> list[Any]:
    (stored,) = sql.item_results_size(id=row.id, keys=keys)
    size = envelope.payload_bytes(stored.clear, stored.number, stored.sealed)
    if size > MAX_OUTPUT_BYTES:
        raise PayloadTooLarge(
            f"The results have {size:,} bytes, {MAX_OUTPUT_BYTES:,} are allowed: collect: false leaves them out."
        )
    return list(sql.item_results(id=row.id, keys=keys)[0].results)


def _item_failure(row: FanOutsOverRow) -> StepError:
    first = (row.errors or [{"index": 0, "error": {}}])[0]
    inner = first["error"] or {}
    category = Category(inner["category"]) if inner.get("category") in set(Category) else Category.BUSINESS
    message = f"{row.failed} of {row.elements} items failed; the first, [{first['index']}]: {inner.get('message', '')}"
    return StepError(category=category, name=ITEM_FAILED, message=message)


def _goes_on(row: FanOutsOverRow, keys: list[str]) -> bool:
    """Whether a loop's condition asks for another round. Raises ExpressionError where it can't be evaluated."""
    source, wanted = (row.options["while"], True) if row.options.get("while") else (row.options["until"], False)
    last = _last_round(row, keys)
    expression = compile_expression(source, owner=row.org_id)
    read = flow_cache.flow_of(row.version_id).with_fallbacks(expression.steps)
    scopes = expression_context.load_steps([(last.id, row.run_id)], read, inner=[last.id])
    return expression.holds({**scopes[last.id], "item": last.output, "index": row.total}) is wanted


def _last_round(row: FanOutsOverRow, keys: list[str]) -> LastRoundRow:
    return sql.last_round(id=row.id, index=row.total - 1, keys=keys)[0]


def _next_round(row: FanOutsOverRow) -> list[ReadyStep]:
    step = flow_cache.flow_of(row.version_id).steps[row.key]
    last = _last_round(row, step.result_keys)
    (value,) = sealed.items([last.output], row.org_id, are_parts=False)
    with database.transaction() as cursor:
        added = sql.add_round(id=row.id, total=row.total, value=json.dumps(value), cursor=cursor)
        return transitions.open_items([each.step_run_id for each in added], paused=True, cursor=cursor)
