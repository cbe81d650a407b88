"""Repairing runs: replay from the start, resume from what failed, fork from any step; one by one or in bulk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

import jsonpatch
from django.db import transaction

from workflows import bulk, selectors, services
from workflows.definitions.compiled import CompiledFlow
from workflows.engine import catalog, fork
from workflows.engine.controls import MAX_BATCH_BYTES
from workflows.engine.plan import Planned, plan, with_items
from workflows.engine.trigger import Lineage, NewRun, trigger
from workflows.errors import FlowArchived, FlowNotPublished, InvalidInput, RunNotEnded, RunNotFound
from workflows.models import BulkOperation, Organization, Run
from workflows.payload import MAX_EVENT_BYTES, Json

Mode = Literal["start", "resume"]
MODES = ("start", "resume")
MARKS = frozenset({"_dlqReprocessed", "_dlqItemId"})
"""What a replayed dead letter adds to the input; it is not taken over by the next repeat."""
VERSIONS = ("current", "same")
KEEP: Any = object()
"""For `new_input`: that of the original run."""


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """What repeating a run does, or (in a dry run) would do. `changes`: the input's, as a JSON Patch (RFC 6902)."""

    run_id: UUID | None
    origin_id: UUID
    version: int
    kept: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)


def replay(
    organization: Organization,
    run_id: UUID,
    *,
    mode: str = "start",
    new_input: Json = KEEP,
    version: str | None = None,
    again: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
    dry_run: bool = False,
) -> Repeat:
    """Run an ended run again: from its start, or (`resume`) from the steps that have no outcome that counts.

    A new run is made, linked to its origin. `version`: `current` (the default from the start) or `same` (the default of
    a resume). `again`: steps that a resume runs whatever became of them. `extra` is added to the input after it was
    checked. Idempotency keys are passed by.

    Raises RunNotFound, RunNotEnded, InvalidInput, PayloadTooLarge.
    """
    if mode not in MODES:
        raise InvalidInput(f"mode {mode!r} is unknown; use {' or '.join(MODES)}.")
    run = _ended(organization, run_id)
    flow = _version(run, version or ("current" if mode == "start" else "same"))
    if mode == "resume":
        steps = _plan(run, flow, again)
        if all(step.source is not None for step in steps) and run.status == Run.Status.COMPLETED:
            raise InvalidInput("The run has completed: there is nothing to resume. Fork it from a step, or replay it.")
        edited = new_input is not KEEP and bool(_diff(run, new_input))
        steps = _with_items(run, flow, steps, edited=edited)
        return _repeat(run, flow, steps, "resume", new_input, extra, dry_run)
    value = _own_input(run) if new_input is KEEP else new_input
    wanted = NewRun(input=value, priority=run.priority, event_id=run.event_id, extra=extra or {})
    if dry_run:
        _check(flow, value)
    else:
        trigger(
            flow,
            [wanted],
            org_id=run.org_id,
            kind=run.trigger,
            user_id=run.user_id,
            event_name=run.event_name,
            lineage=Lineage(origin_id=run.id, origin_kind="replay"),
            limit_bytes=_limit(new_input),
        )
    runs = flow.top
    return Repeat(
        run_id=None if dry_run else wanted.id,
        origin_id=run.id,
        version=flow.number,
        runs=runs,
        changes=_diff(run, value),
    )


def fork_run(
    organization: Organization,
    run_id: UUID,
    from_steps: Sequence[str],
    *,
    new_input: Json = KEEP,
    version: str = "same",
    dry_run: bool = False,
) -> Repeat:
    """A new run that takes over the outcomes of an ended one, but for the named steps and all that need them.

    Raises RunNotFound, RunNotEnded, InvalidInput (an unknown step, an input that does not fit), PayloadTooLarge.
    """
    run = _ended(organization, run_id)
    flow = _version(run, version)
    unknown = [key for key in from_steps if key not in flow.top]
    if unknown or not from_steps:
        named = f"{unknown[0]!r} is no step of the flow" if unknown else "name at least one step"
        raise InvalidInput(f"fromSteps: {named}; it has {', '.join(flow.top)}.")
    return _repeat(run, flow, _plan(run, flow, from_steps), "fork", new_input, None, dry_run)


def _ended(organization: Organization, run_id: UUID) -> Run:
    run = Run.objects.filter(org_id=organization.id, id=run_id).select_related("flow").first()
    if run is None:
        raise RunNotFound
    if run.is_live:
        raise RunNotEnded
    if run.flow.archived_at is not None:
        raise FlowArchived(f"The flow {run.flow.slug!r} is archived and starts nothing; unarchive it first.")
    return run


def _version(run: Run, version: str) -> CompiledFlow:
    if version not in VERSIONS:
        raise InvalidInput(f"version {version!r} is unknown; use {' or '.join(VERSIONS)}.")
    if version == "same":
        return catalog.flow_of(run.version_id)
    if run.flow.current_id is None:
        raise FlowNotPublished
    return catalog.flow_of(run.flow.current_id)


def _plan(run: Run, flow: CompiledFlow, again: Sequence[str] = ()) -> list[Planned]:
    past, undone = fork.past_of(run, catalog.flow_of(run.version_id))
    return plan(flow, past, undone=undone, again={flow.outermost(key) for key in again if key in flow.steps})


def _with_items(run: Run, flow: CompiledFlow, steps: list[Planned], *, edited: bool) -> list[Planned]:
    """Of a resume: within the same version, items that were done are taken over."""
    if flow.version_id != run.version_id:
        return steps
    past, undone = fork.past_of(run, flow)
    return with_items(flow, steps, past, undone=undone, edited=edited)


def _repeat(
    run: Run,
    flow: CompiledFlow,
    steps: list[Planned],
    kind: Literal["resume", "fork"],
    new_input: Json,
    extra: Mapping[str, Any] | None,
    dry_run: bool,
) -> Repeat:
    value = _own_input(run) if new_input is KEEP else new_input
    new_id = None
    if dry_run:
        _check(flow, value)
    else:
        lineage = Lineage(origin_id=run.id, origin_kind=kind)
        new_id = fork.fork(
            run, flow, steps, value=value, extra=extra or {}, lineage=lineage, limit_bytes=_limit(new_input)
        )
    return Repeat(
        run_id=new_id,
        origin_id=run.id,
        version=flow.number,
        kept=[step.key for step in steps if step.source is not None],
        runs=[step.key for step in steps if step.source is None],
        changes=_diff(run, value),
    )


def _check(flow: CompiledFlow, value: Json) -> None:
    problems = flow.input_problems(value)
    if problems:
        raise InvalidInput("; ".join(problems))


def _diff(run: Run, value: Json) -> list[dict[str, Any]]:
    return list(jsonpatch.make_patch(_own_input(run), value))


def _limit(new_input: Json) -> int:
    """An input that was accepted once is accepted again; that of an on_failure flow or a batch is larger."""
    return 2 * MAX_BATCH_BYTES if new_input is KEEP else MAX_EVENT_BYTES


def _own_input(run: Run) -> Json:
    if not isinstance(run.input, dict):
        return run.input
    return {name: value for name, value in run.input.items() if name not in MARKS}


def _cancel_one(operation: BulkOperation, organization: Organization, run_id: UUID) -> None:
    reason = str(operation.options.get("reason") or f"in bulk by {operation.created_by}")
    services.cancel_run(organization, run_id, reason=reason)


def _replay_one(operation: BulkOperation, organization: Organization, run_id: UUID) -> None:
    options = operation.options
    with transaction.atomic():
        replay(organization, run_id, mode=options.get("mode", "start"), version=options.get("version"))


bulk.register("cancel_runs", bulk.Action(select=selectors.live_runs_matching, act=_cancel_one, per_second=200))
bulk.register("replay_runs", bulk.Action(select=selectors.ended_runs_matching, act=_replay_one))
