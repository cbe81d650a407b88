"""Repairing runs: replay from the start, resume from what failed, fork from any step; one by one or in bulk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import jsonpatch
import psycopg
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from workflows import selectors, services, signals
from workflows.definitions.compiled import CompiledFlow
from workflows.engine.pipeline.trigger import NewRun, trigger
from workflows.engine.repair import chain, fork
from workflows.engine.repair.chain import Repair
from workflows.engine.repair.plan import Planned, plan, with_items
from workflows.engine.run_controls.controls import MAX_BATCH_BYTES
from workflows.engine.sql import retention as retention_sql
from workflows.engine.state import flow_cache
from workflows.engine.state.records import Lineage
from workflows.errors import FlowArchived, FlowNotPublished, InvalidInput, RunNotEnded, RunNotFound
from workflows.models import BulkOperation, Organization, Run, StepRun
from workflows.payload import MAX_EVENT_BYTES, Json
from workflows.services import bulk
from workflows.services.access import hidden

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


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A repeat that is to be made (or, in a dry run, only planned)."""

    run: Run
    flow: CompiledFlow
    lineage: Lineage
    new_input: Json
    extra: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool

    @property
    def value(self) -> Json:
        return own_input(self.run) if self.new_input is KEEP else self.new_input


def replay(
    organization: Organization,
    run_id: UUID,
    *,
    by: str,
    mode: str = "start",
    new_input: Json = KEEP,
    version: str | None = None,
    force: bool = False,
    extra: Mapping[str, Any] | None = None,
    dry_run: bool = False,
) -> Repeat:
    """Run an ended run again: from its start, or (`resume`) from the steps that have no outcome that counts.

    A new run is made, linked to its origin. `version`: `current` (the default from the start) or `same` (the default of
    a resume). `extra` is added to the input after it was checked. Idempotency keys are not checked.

    A resume, and a replay of a run that did not complete or has an open dead letter, is a *repair*: it closes the open
    dead letters of the failure, a resume runs their steps again, and there is no second one unless by `force`. A
    completed run is replayed as often as somebody wishes.

    Raises RunNotFound, RunNotEnded, AlreadyRepaired, InvalidInput, PayloadTooLarge.
    """
    if mode not in MODES:
        raise InvalidInput(f"mode {mode!r} is unknown; use {' or '.join(MODES)}.")
    with transaction.atomic():
        run = _ended(organization, run_id)
        position = chain.position_of(run)
        if position.later is not None and not force:
            raise chain.refusal_of(run, position.later)
        once_more = force and position.later is not None
        failures = _open_failures(run, position.root_id, force=once_more)
        is_repair = bool(failures) or mode == "resume" or run.status != Run.Status.COMPLETED or once_more
        new_input = _meant(run, new_input)
        lineage = Lineage(
            origin_id=run.id,
            origin_kind="replay" if mode == "start" else "resume",
            repair_root_id=position.root_id if is_repair else None,
            repair_number=position.next_number if is_repair else 0,
        )
        flow = _version(run, version or ("current" if mode == "start" else "same"))
        wanted = Wanted(run=run, flow=flow, lineage=lineage, new_input=new_input, extra=extra or {}, dry_run=dry_run)
        repeat = _made_once(wanted, failures)
        if is_repair and repeat.run_id is not None:
            repair = Repair(
                origin_id=run.id, root_id=position.root_id, run_id=repeat.run_id, mode=mode, by=by, force=once_more,
                changes=repeat.changes,
            )  # fmt: skip
            signals.run_repaired.send(sender=None, repair=repair)
    return repeat


def _open_failures(run: Run, root_id: UUID, *, force: bool) -> list[str]:
    """The steps of the failures that a repair closes; empty names for failures of the run by itself."""
    answers = signals.repair_begins.send(sender=None, run=run, root_id=root_id, force=force)
    return [str(key) for _, keys in answers for key in keys or ()]


def _made_once(wanted: Wanted, failures: Sequence[str]) -> Repeat:
    """The repeat; the database keeps it out where another one is that repair. Raises AlreadyRepaired then."""
    try:
        with transaction.atomic():
            if wanted.lineage.origin_kind == "replay":
                return _from_start(wanted)
            return _resumed(wanted, [key for key in failures if key])
    except (psycopg.errors.UniqueViolation, IntegrityError) as error:
        later = chain.position_of(wanted.run).later if chain.is_second(error) else None
        if later is None:
            raise
        raise chain.refusal_of(wanted.run, later) from None


def _from_start(wanted: Wanted) -> Repeat:
    run, flow, value = wanted.run, wanted.flow, wanted.value
    new = NewRun(input=value, priority=run.priority, event_id=run.event_id, tags=run.tags, extra=wanted.extra)
    if wanted.dry_run:
        _check(flow, value)
    else:
        trigger(
            flow,
            [new],
            org_id=run.org_id,
            kind=run.trigger,
            user_id=run.user_id,
            event_name=run.event_name,
            lineage=wanted.lineage,
            limit_bytes=_limit(wanted.new_input),
        )
    return Repeat(
        run_id=None if wanted.dry_run else new.id,
        origin_id=run.id,
        version=flow.number,
        runs=flow.top,
        changes=_diff(run, value),
    )


def _resumed(wanted: Wanted, again: Sequence[str]) -> Repeat:
    """`again`: steps that it runs whatever became of them."""
    run, flow = wanted.run, wanted.flow
    steps = _plan(run, flow, again)
    if all(step.source is not None for step in steps) and run.status == Run.Status.COMPLETED:
        raise InvalidInput("The run has completed: there is nothing to resume. Fork it from a step, or replay it.")
    edited = wanted.new_input is not KEEP and bool(_diff(run, wanted.new_input))
    return _planned(wanted, _with_items(run, flow, steps, edited=edited))


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

    It is an experiment, not a repair: it closes no dead letter, and there can be any number of them.

    Raises RunNotFound, RunNotEnded, InvalidInput (an unknown step, an input that does not fit), PayloadTooLarge.
    """
    with transaction.atomic():  # the run that it takes outcomes of is kept until then
        run = _ended(organization, run_id)
        flow = _version(run, version)
        positions = _positions(run, flow)
        known = [*flow.top, *positions]
        unknown = [key for key in from_steps if key not in known]
        if unknown or not from_steps:
            what = "run" if positions else "flow"
            named = f"{unknown[0]!r} is no step of the {what}" if unknown else "name at least one"
            raise InvalidInput(f"fromSteps: {named}; it has {', '.join(known)}.")
        lineage = Lineage(origin_id=run.id, origin_kind="fork")
        new_input = _meant(run, new_input)
        wanted = Wanted(run=run, flow=flow, lineage=lineage, new_input=new_input, dry_run=dry_run)
        until = min((positions.get(key, 0) for key in from_steps), default=None) if positions else None
        return _planned(wanted, _plan(run, flow, from_steps), until=until)


def _positions(run: Run, flow: CompiledFlow) -> dict[str, int]:
    """Of a flow in Python: the steps that the run's code has asked for, and their positions."""
    if flow.driver is None:
        return {}
    rows = StepRun.objects.filter(run_id=run.id, path=flow.driver).order_by("position")
    return dict(rows.values_list("key", "position"))


def options(mode: str, version: str | None, force: bool) -> dict[str, Any]:
    """How a bulk operation repeats runs. Raises InvalidInput for what each of them would refuse."""
    if mode not in MODES:
        raise InvalidInput(f"mode {mode[:50]!r} is unknown; use {' or '.join(MODES)}.")
    if version is not None:
        _check_version(version)
    return {"mode": mode, "version": version, **({"force": True} if force else {})}


def _ended(organization: Organization, run_id: UUID) -> Run:
    """The ended run, which is not deleted until the transaction ends. Raises RunNotFound, RunNotEnded, FlowArchived."""
    retention_sql.keep_run(id=run_id)
    run = Run.objects.filter(org_id=organization.id, id=run_id).select_related("flow").first()
    if run is None:
        raise RunNotFound
    if run.is_live:
        raise RunNotEnded
    if run.flow.archived_at is not None:
        raise FlowArchived(f"The flow {run.flow.slug!r} is archived and starts nothing; unarchive it first.")
    return run


def _check_version(version: str) -> None:
    if version not in VERSIONS:
        raise InvalidInput(f"version {version[:50]!r} is unknown; use {' or '.join(VERSIONS)}.")


def _version(run: Run, version: str) -> CompiledFlow:
    _check_version(version)
    if version == "same":
        return flow_cache.flow_of(run.version_id)
    if run.flow.current_id is None:
        raise FlowNotPublished
    return flow_cache.flow_of(run.flow.current_id)


def _plan(run: Run, flow: CompiledFlow, again: Sequence[str] = ()) -> list[Planned]:
    past, undone = fork.past_of(run, flow_cache.flow_of(run.version_id))
    return plan(
        flow, past, undone=undone, again={flow.outermost(key) for key in again if key in flow.steps or flow.driver}
    )


def _with_items(run: Run, flow: CompiledFlow, steps: list[Planned], *, edited: bool) -> list[Planned]:
    """Of a resume: within the same version, items that were done are taken over."""
    if flow.version_id != run.version_id:
        return steps
    past, undone = fork.past_of(run, flow)
    return with_items(flow, steps, past, undone=undone, edited=edited)


def _planned(wanted: Wanted, steps: list[Planned], *, until: int | None = None) -> Repeat:
    run, flow, new_id = wanted.run, wanted.flow, None
    if wanted.dry_run:
        _check(flow, wanted.value)
    else:
        new_id = fork.fork(
            run, flow, steps, value=wanted.value, extra=wanted.extra, lineage=wanted.lineage,
            limit_bytes=_limit(wanted.new_input), until=until,
        )  # fmt: skip
    return Repeat(
        run_id=new_id,
        origin_id=run.id,
        version=flow.number,
        kept=[step.key for step in steps if step.source is not None],
        runs=[step.key for step in steps if step.source is None],
        changes=_diff(run, wanted.value),
    )


def _check(flow: CompiledFlow, value: Json) -> None:
    problems = flow.input_problems(value)
    if problems:
        raise InvalidInput("; ".join(problems))


def _diff(run: Run, value: Json) -> list[dict[str, Any]]:
    return list(jsonpatch.make_patch(own_input(run), value))


def _limit(new_input: Json) -> int:
    """An input that was accepted once is accepted again; that of an on_failure flow or a batch is larger."""
    return 2 * MAX_BATCH_BYTES if new_input is KEEP else MAX_EVENT_BYTES


def own_input(run: Run) -> Json:
    """The input of a run without the marks that a replayed dead letter adds: what its next repeat takes."""
    if not isinstance(run.input, dict):
        return run.input
    return {name: value for name, value in run.input.items() if name not in MARKS}


def _meant(run: Run, new_input: Json) -> Json:
    """The input as it is meant: a value that was sent back hidden is that of the run."""
    if new_input is KEEP:
        return new_input
    return hidden.restored(run.org_id, new_input, own_input(run), name="input", ids=[run.id])


def _cancel_one(operation: BulkOperation, organization: Organization, run_id: UUID) -> None:
    reason = str(operation.options.get("reason") or f"in bulk by {operation.created_by}")
    services.cancel_run(organization, run_id, reason=reason)


def _replay_one(operation: BulkOperation, organization: Organization, run_id: UUID) -> None:
    options = operation.options
    replay(
        organization,
        run_id,
        by=f"{operation.created_by} (operation {operation.id})",
        mode=options.get("mode", "start"),
        version=options.get("version"),
        force=options.get("force", False),
    )


def _runs_of(org_id: UUID) -> QuerySet[Run]:
    return Run.objects.filter(org_id=org_id)


SEARCHED = frozenset({"tag"})
BULK_ACTIONS = {
    "cancel_runs": bulk.Action(
        select=selectors.live_runs_matching, act=_cancel_one, among=_runs_of, searched=SEARCHED, per_second=200
    ),
    "replay_runs": bulk.Action(
        select=selectors.ended_runs_matching, act=_replay_one, among=_runs_of, searched=SEARCHED
    ),
}
"""What can be done to all runs that a filter matches."""
