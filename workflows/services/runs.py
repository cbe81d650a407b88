"""The verbs that a person can ask for. API, admin, dashboard and CLI call these and hold no rule of their own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from throttling.policy import PRIORITY_LEVELS
from workflows import selectors
from workflows.definitions import document
from workflows.definitions.compiled import CompiledFlow, compile_flow
from workflows.definitions.graph import walk_steps
from workflows.definitions.schema import FlowSpec
from workflows.duration import parse_ms
from workflows.engine.pipeline import admit, dispatcher
from workflows.engine.pipeline.trigger import NewRun, Triggered, checked_start
from workflows.engine.pipeline.trigger import trigger as trigger_runs
from workflows.engine.run_controls import idempotency, stopping
from workflows.engine.sql import services as sql
from workflows.engine.state import flow_cache
from workflows.engine.state.records import NO_LINEAGE, Lineage
from workflows.engine.state.transitions import runs as run_transitions
from workflows.errors import (
    FlowArchived,
    FlowBeingDeleted,
    FlowExists,
    FlowNotFound,
    FlowNotPublished,
    FlowPaused,
    InvalidInput,
    RunNotFound,
    RunRateLimited,
)
from workflows.models import CancelRule, Flow, FlowVersion, Organization, Run, Step
from workflows.payload import Json
from workflows.services import schedules
from workflows.services.flows import archiving, trigger_rows

MAX_RUNS_AT_ONCE = 5_000
Charge = Callable[[int], None]
"""Counts so many runs towards quotas, or raises."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What applying a definition did: a new version, or nothing for an unchanged one."""

    flow: Flow
    version: FlowVersion
    changed: bool
    unarchived: bool = False
    """It was archived, and is back."""


def apply_definition(
    organization: Organization, spec: FlowSpec, *, source: str = "", only_new: bool = False
) -> Applied:
    """Publish a checked definition as the flow's next version; an unchanged one makes no new version.

    Its triggers stay what they are: on or off, with address and secret, at their place in the schedule. An archived
    flow is back. `source`: the YAML text that it was read from, kept for `flows export`. `only_new`: raises FlowExists
    where the organization has a flow of this slug.

    Raises DefinitionProblems where it can't be told which trigger is which, and FlowBeingDeleted.
    """
    stored = document.to_document(spec)
    checksum = document.checksum_of(stored)
    with transaction.atomic():
        flow, made = Flow.objects.get_or_create(
            organization=organization, slug=spec.flow, defaults={"name": spec.name or spec.flow}
        )
        if only_new and not made:
            raise FlowExists.of(spec.flow, organization.slug)
        flow = archiving.lock(flow.id)
        if flow.deletion_asked_at is not None:
            raise FlowBeingDeleted
        unarchived = archiving.bring_back(flow)
        if flow.current is not None and flow.current.checksum == checksum:
            if unarchived:
                schedules.sync_beat_rows(flow)
            if source and flow.current.source != source:  # comments, or the order of keys
                flow.current.source = source
                flow.current.save(update_fields=["source"])
            return Applied(flow=flow, version=flow.current, changed=False, unarchived=unarchived)
        latest = flow.versions.order_by("-number").first()
        number = latest.number + 1 if latest else 1
        version = FlowVersion(flow=flow, number=number, definition=stored, checksum=checksum, source=source)
        version.save()
        Step.objects.bulk_create(_step_rows(spec, version))
        version.published_at = timezone.now()
        version.save(update_fields=["published_at"])
        flow.current, flow.name, flow.description = version, spec.name or spec.flow, spec.description
        flow.kind = _kind(spec)
        flow.save()
        trigger_rows.exchange(flow, spec)
        schedules.sync_beat_rows(flow)
        flow.cancel_rules.all().delete()
        CancelRule.objects.bulk_create(_cancel_rows(spec, flow))
    return Applied(flow=flow, version=version, changed=True, unarchived=unarchived)


def _kind(spec: FlowSpec) -> Flow.Kind:
    return Flow.Kind.CODE if spec.is_code else Flow.Kind.DECLARATIVE


def _step_rows(spec: FlowSpec, version: FlowVersion) -> list[Step]:
    compiled = compile_flow(spec, version_id=version.id, flow_id=version.flow_id)
    configs = {placed.step.id: placed.step.config for placed in walk_steps(spec.steps)}
    return [
        Step(
            version=version,
            key=step.key,
            container=step.container,
            type=step.type.name,
            position=step.position,
            config=configs[step.key],
            needs=list(step.needs),
            condition=step.condition.source if step.condition else "",
            critical=step.stops_run,
            is_sink=step.is_sink,
            is_compensation=step.is_compensation,
            queue=step.type.queue,
            timeout_ms=step.timeout_ms,
        )
        for step in compiled.steps.values()
    ]


def _cancel_rows(spec: FlowSpec, flow: Flow) -> list[CancelRule]:
    return [
        CancelRule(
            organization=flow.organization,
            flow=flow,
            event_name=rule.event,
            match=rule.match or "",
            condition=rule.condition or "",
            timeout_ms=rule.timeout,
        )
        for rule in spec.cancel_on
    ]


def published(organization: Organization, slug: str) -> CompiledFlow:
    """The flow's current version. Raises FlowNotFound, FlowArchived, FlowNotPublished or FlowPaused."""
    found = sql.current_version(org=organization.id, slug=slug, version=None)
    if not found:
        raise FlowNotFound(f"There is no flow {slug!r}; `manage.py flows list` shows what there is.")
    if found[0].is_archived:
        raise FlowArchived(f"The flow {slug!r} is archived and starts nothing; unarchive it, or publish it again.")
    if found[0].current_id is None:
        raise FlowNotPublished
    if found[0].skips_arrivals:
        raise FlowPaused
    return flow_cache.flow_of(found[0].current_id)


def trigger(
    organization: Organization,
    slug: str,
    data: Json = None,
    *,
    priority: str | int | None = None,
    delay: str | int | None = None,
    run_at: dt.datetime | None = None,
    idempotency_key: str = "",
    force: bool = False,
    user_id: str = "",
    tags: Sequence[str] = (),
    kind: str = "manual",
    parent: UUID | None = None,
    on_parent_cancel: Literal["cancel", "abandon"] = "cancel",
    awaited: bool = False,
    charge: Charge | None = None,
) -> Triggered:
    """Start one run of a flow. Inside a transaction the run belongs to it, and starts when it commits.

    `priority`: 1…10 (lower is sooner) or critical, high, normal, low, background. `delay`: a number of milliseconds
    or text like "5m"; `run_at`: a time instead (one that has passed is now). `force`: make a run whatever idempotency
    keys say. `tags`: besides those of the flow (`workflows/edge/tags.py`). `parent`: the run that starts this one,
    which is cancelled with it unless `on_parent_cancel` says otherwise; with `awaited` it waits for this one.

    A flow's `singleton`, `debounce` or `batch` gives the run that stands in the place of a new one; the answer's
    `refused` says why. `charge`: counts it towards the organization's quotas (`tenancy.quotas.charge_of`), unless it
    repeats an earlier run. Raises FlowNotFound, FlowArchived, FlowNotPublished, FlowPaused, RunRateLimited,
    InvalidInput, PayloadTooLarge, IdempotencyConflict, and what `charge` raises.
    """
    flow = published(organization, slug)
    value = {} if data is None else data
    starts_at = _starts_at(delay, run_at)
    keys = (idempotency.callers(idempotency_key),) if idempotency_key else ()
    lineage = Lineage(parent_id=parent, parent_policy=on_parent_cancel, awaited=awaited) if parent else NO_LINEAGE
    made = trigger_runs(
        flow,
        [NewRun(input=value, priority=_priority(priority), keys=keys, tags=tags)],
        org_id=organization.id,
        kind=kind,
        user_id=user_id,
        run_at=starts_at,
        force=force,
        lineage=lineage,
        charge=charge,
    )
    for refusal in made.refused.values():
        if refusal.code == "rate_limited":
            raise RunRateLimited(refusal.reason, retry_after_s=refusal.retry_after_s or 1.0)
    return made


def trigger_many(
    organization: Organization, slug: str, inputs: Sequence[Json], *, user_id: str = "", tags: Sequence[str] = ()
) -> Triggered:
    """Start many runs of a flow at once, with the same tags: one statement, one commit, one pipelined publish. All or
    none."""
    if not 1 <= len(inputs) <= MAX_RUNS_AT_ONCE:
        raise InvalidInput(f"Give 1 to {MAX_RUNS_AT_ONCE:,} inputs, not {len(inputs):,}.")
    flow = published(organization, slug)
    return trigger_runs(
        flow, [NewRun(input=value, tags=tags) for value in inputs], org_id=organization.id, user_id=user_id
    )


def new_run(
    data: Json = None,
    *,
    priority: str | int | None = None,
    delay: str | int | None = None,
    run_at: dt.datetime | None = None,
    idempotency_key: str = "",
    user_id: str = "",
    tags: Sequence[str] = (),
) -> NewRun:
    """One of the runs that `trigger_runs_of` makes; the words are those of `trigger`. Raises InvalidInput."""
    return NewRun(
        input={} if data is None else data,
        priority=_priority(priority),
        keys=(idempotency.callers(idempotency_key),) if idempotency_key else (),
        run_at=_starts_at(delay, run_at),
        user_id=user_id,
        tags=tags,
    )


def trigger_runs_of(
    organization: Organization,
    slug: str,
    runs: Sequence[NewRun],
    *,
    force: bool = False,
    kind: str = "manual",
    charge: Charge | None = None,
) -> Triggered:
    """Start runs of a flow at once, all or none. Raises as `trigger` does, but for
    RunRateLimited: the answer's `refused` says which runs are not made."""
    if not 1 <= len(runs) <= MAX_RUNS_AT_ONCE:
        raise InvalidInput(f"Give 1 to {MAX_RUNS_AT_ONCE:,} runs, not {len(runs):,}.")
    flow = published(organization, slug)
    return trigger_runs(flow, runs, org_id=organization.id, kind=kind, force=force, charge=charge)


def _priority(given: str | int | None) -> int | None:
    """Seconds of head start (−600 … 600) among those that wait for the same limit; None leaves it to the flow."""
    if given is None:
        return None
    if isinstance(given, str):
        if given.lower() not in PRIORITY_LEVELS:
            raise InvalidInput(f"priority {given!r} is unknown; use 1…10 or {', '.join(PRIORITY_LEVELS)}.")
        return PRIORITY_LEVELS[given.lower()]
    if isinstance(given, bool) or not 1 <= given <= 10:
        raise InvalidInput(
            f"priority {given!r} is out of range: as a number it is 1 (first) … 10 (last). Seconds of head start "
            "belong into the flow's own priority expression."
        )
    return (5 - given) * 120


def _starts_at(delay: str | int | None, run_at: dt.datetime | None) -> dt.datetime | None:
    if run_at is not None:
        if delay is not None:
            raise InvalidInput("Give either delay or runAt.")
        return checked_start(run_at)
    if delay is None:
        return None
    try:
        milliseconds = parse_ms(delay)
    except ValueError as error:
        raise InvalidInput(f"delay: {error}") from None
    return timezone.now() + dt.timedelta(milliseconds=milliseconds) if milliseconds else None


def get_run(organization: Organization, run_id: UUID) -> Run:
    """Raises RunNotFound."""
    run = Run.objects.filter(org_id=organization.id, id=run_id).first()
    if run is None:
        raise RunNotFound
    return run


def cancel_run(organization: Organization, run_id: UUID, *, reason: str = "") -> Run:
    """Cancel a run: what is open is cancelled, what runs sees it within a heartbeat. An ended run stays as it is."""
    run = get_run(organization, run_id)
    cancel_runs(organization, [run_id], reason=reason)
    run.refresh_from_db()
    return run


def cancel_runs(organization: Organization, run_ids: Sequence[UUID], *, reason: str = "") -> list[UUID]:
    """Cancel runs. Returns those that are cancelled by this; the others have ended, or were being cancelled."""
    cancelled = run_transitions.request_cancel(organization.id, run_ids, reason=reason)
    dispatcher.after_commit(lambda: stopping.stop_runs(cancelled))
    return [run_id for run_id in run_ids if run_id in set(cancelled)]


def queue_stats(organization: Organization, *, store_available: bool) -> dict[str, Any]:
    """How many runs wait, work and have ended. The answer has another shape without the store: triggers are accepted
    then, and their runs start later."""
    if not store_available:
        return {
            "queue": {"available": False, "redis": False, "stats": None},
            "capacity": {"recommendation": "Set REDIS_URL to enable queued execution"},
        }
    counts = selectors.queue_counts(organization)
    return {
        "queue": {
            "available": True,
            "redis": True,
            "stats": {
                "waiting": counts.waiting,
                "active": counts.active,
                "completed": counts.completed,
                "failed": counts.failed,
                "delayed": counts.delayed,
                "total": counts.total,
            },
        },
        "scheduler": {
            "initialized": selectors.has_leader(),
            "scheduledWorkflows": selectors.active_cron_triggers(organization),
        },
        "capacity": {"message": capacity(active=counts.active, waiting=counts.waiting)},
    }


def capacity(*, active: int, waiting: int) -> str:
    """How many runs may run at once, and how many do: a sentence."""
    places = admit.policies().run_places
    running = f"Running up to {places} workflows concurrently." if places else "Running any number of workflows."
    return f"{running} {active} active, {waiting} queued."


def readiness(*, store: bool, broker: bool) -> dict[str, bool]:
    """What a load balancer asks before it sends traffic."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        database = True
        workers = bool(selectors.live_workers())
    except DatabaseError:
        database = workers = False
    return {"database": database, "store": store, "broker": broker, "workers": workers}
