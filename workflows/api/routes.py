"""The routes. Each is a call of a service or a selector."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any
from uuid import UUID

from ninja import Body, NinjaAPI, Router, Status

from workflows import presenters, selectors, services
from workflows.api import approvals, archives, events, keys, limits, observed, organization, pauses, retention, secrets
from workflows.api.edge import problems
from workflows.api.edge.auth import ApiKeyAuth, ApiRequest, who
from workflows.api.edge.openapi import BoundedParser, DocumentedAPI
from workflows.api.schemas.answers import ItemsOut, NoStoreOut, QueueStatsOut, ScheduleOut, SchedulerOut, StepTypeOut
from workflows.api.schemas.requests import BulkCancelIn, BulkIn, BulkReplayIn, CancelIn, ForkIn, RepeatIn, RunIn, RunsIn
from workflows.api.schemas.runs import (
    JobOut,
    OperationOut,
    RepeatOut,
    RunOut,
    RunsOut,
    RunsStarted,
    RunStarted,
    WorkflowsOut,
)
from workflows.edge import tags
from workflows.errors import InvalidInput, RunNotFound
from workflows.models import Organization
from workflows.selectors import events as event_selectors
from workflows.selectors import items, run_lists
from workflows.selectors.health_checks import store_answers
from workflows.selectors.searching import walk
from workflows.selectors.searching.criteria import Criteria
from workflows.services import bulk, repair, schedules
from workflows.services.tenancy import quotas
from workflows.steps.registry import REGISTRY

router = Router(auth=ApiKeyAuth(), by_alias=True)
RunsOrNone = Annotated[RunsIn | None, Body()]
"""The library takes a union for a part of the query, unless it is told that it is the body."""


@router.get("/workflows", response=WorkflowsOut, tags=["workflows"])
def list_workflows(request: ApiRequest, archived: bool = False) -> dict[str, Any]:
    """The organization's flows with their published version, triggers and steps; with `archived` those that are."""
    found = selectors.flows(request.organization, archived=archived)
    return {"workflows": [_workflow(summary) for summary in found]}


def _workflow(summary: selectors.FlowSummary) -> dict[str, Any]:
    flow = summary.flow
    definition = flow.current.definition if flow.current else {"steps": []}
    return {
        "slug": flow.slug,
        "name": flow.name,
        "description": flow.description,
        "version": flow.current.number if flow.current else None,
        "triggers": [str(t) for t in flow.triggers.all()],
        "steps": [{"id": step["id"], "type": step["type"]} for step in definition["steps"]],
        "liveRuns": summary.live_runs,
        "archivedAt": flow.archived_at,
    }


@router.get("/step-types", response=list[StepTypeOut], tags=["workflows"])
def list_step_types(request: ApiRequest) -> list[dict[str, Any]]:
    """The step types, each with the JSON Schema of its configuration."""
    return [presenters.step_type_out(step_type) for step_type in REGISTRY.values()]


@router.get("/workflows/queue/stats", response=QueueStatsOut | NoStoreOut, tags=["workflows"])
def queue_stats(request: ApiRequest) -> dict[str, Any]:
    """How the queue does: runs waiting, active, delayed, completed (24 h) and failed (7 d)."""
    return services.queue_stats(request.organization, store_available=store_answers())


@router.post("/workflows/{slug}/run", response={202: RunStarted | RunsStarted}, tags=["workflows"])
def run_workflow(request: ApiRequest, slug: str, payload: RunsOrNone = None) -> Status[dict[str, Any]]:
    """Start a run, or with an array up to 5,000 of them, all or none. They are stored when this answers; they end
    whatever happens to the workers or the broker."""
    if isinstance(payload, list):
        return Status(202, _start_many(request.organization, slug, payload))
    wanted = payload or RunIn.model_validate({})
    triggered = services.trigger(
        request.organization,
        slug,
        wanted.trigger_data,
        priority=wanted.priority,
        delay=wanted.delay,
        run_at=wanted.run_at,
        idempotency_key=wanted.idempotency_key,
        force=wanted.force,
        user_id=wanted.user_id,
        tags=wanted.tags,
        kind="api",
        charge=quotas.charge_of(request.organization),
    )
    run_id = triggered.run_ids[0]
    message = "An earlier run has this idempotency key" if triggered.existing else presenters.QUEUED
    if triggered.pruned:
        message = "An earlier run has this idempotency key; it has ended and is deleted"
    for refusal in triggered.refused.values():
        message = refusal.reason
    answer = presenters.started_out(run_id, existing=triggered.existing, pruned=triggered.pruned, message=message)
    return Status(202, answer)


def _start_many(organization: Organization, slug: str, wanted: list[RunIn]) -> dict[str, Any]:
    if len({each.force for each in wanted}) > 1:
        raise InvalidInput("force: give it to all runs of an array, or to none.")
    runs = [
        services.new_run(
            each.trigger_data,
            priority=each.priority,
            delay=each.delay,
            run_at=each.run_at,
            idempotency_key=each.idempotency_key,
            user_id=each.user_id,
            tags=each.tags,
        )
        for each in wanted
    ]
    charge = quotas.charge_of(organization)
    triggered = services.trigger_runs_of(organization, slug, runs, force=wanted[0].force, kind="api", charge=charge)
    refused = [
        {"index": index, "code": refusal.code, "reason": refusal.reason}
        for index, run in enumerate(runs)
        if (refusal := triggered.refused.get(run.id)) is not None
    ]
    return presenters.many_started_out(
        triggered.run_ids, existing=triggered.existing_ids, pruned=triggered.pruned_ids, refused=refused
    )


@router.get("/runs", response=RunsOut, tags=["runs"])
def list_runs(
    request: ApiRequest,
    status: str = "",
    flow: str = "",
    trigger: str = "",
    userId: str = "",  # noqa: N803
    event: str = "",
    tag: str = "",
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    sort: str = "created",
    limit: int = 50,
    cursor: str = "",
) -> dict[str, Any]:
    """Runs, newest first (or by priority or duration), page by page. (`workflow` is read as `flow`.) `tag`: those with
    this tag, or with all of several between commas; they are searched, newest first, and a page that is not full says
    how far back it came."""
    where = run_lists.RunFilter(
        status=status, workflow=flow, trigger=trigger, user_id=userId, event_name=event, since=since, until=until
    )
    criteria = Criteria(where=where, tags=tags.wanted(tag))
    page = walk.find(request.organization, criteria, sort=sort, limit=limit, cursor=cursor, only_sorted=True)
    summaries = presenters.run_summaries(page.runs)
    return {"runs": summaries, "nextCursor": page.next_cursor or None, "searchedTo": page.searched_to}


@router.get("/runs/{uuid:run_id}", response=RunOut, tags=["runs"])
def get_run(request: ApiRequest, run_id: UUID) -> dict[str, Any]:
    """A run with its steps, attempts and timings."""
    return presenters.run_out(selectors.run_detail(request.organization, run_id))


@router.post("/runs/{uuid:run_id}/cancel", response={202: RunOut}, tags=["runs"])
def cancel_run(request: ApiRequest, run_id: UUID, payload: CancelIn | None = None) -> Status[Any]:
    """Cancel a run."""
    services.cancel_run(request.organization, run_id, reason=payload.reason if payload else "")
    return Status(202, lambda: presenters.run_out(selectors.run_detail(request.organization, run_id)))


@router.post("/runs/{uuid:run_id}/replay", response={202: RepeatOut}, tags=["runs"])
def replay_run(request: ApiRequest, run_id: UUID, payload: RepeatIn | None = None) -> Status[dict[str, Any]]:
    """Run an ended run again: from its start, or from the steps that have no outcome that counts (`mode: resume`)."""
    wanted = payload or RepeatIn.model_validate({})
    repeat = repair.replay(
        request.organization,
        run_id,
        by=who(request),
        mode=wanted.mode,
        version=wanted.version,
        new_input=given_input(wanted),
        force=wanted.force,
        dry_run=wanted.dry_run,
    )
    return Status(202, presenters.repeat_out(repeat))


@router.post("/runs/{uuid:run_id}/fork", response={202: RepeatOut}, tags=["runs"])
def fork_run(request: ApiRequest, run_id: UUID, payload: ForkIn) -> Status[dict[str, Any]]:
    """A new run that takes over the outcomes of an ended one, but for the named steps and all that need them."""
    repeat = repair.fork_run(
        request.organization,
        run_id,
        payload.from_steps,
        version=payload.version,
        new_input=given_input(payload),
        dry_run=payload.dry_run,
    )
    return Status(202, presenters.repeat_out(repeat))


def given_input(payload: RepeatIn | ForkIn) -> Any:
    return payload.input if "input" in payload.model_fields_set else repair.KEEP


@router.post("/runs/bulk/cancel", response={202: OperationOut}, tags=["runs"])
def cancel_runs(request: ApiRequest, payload: BulkCancelIn) -> Status[dict[str, Any]]:
    """Cancel the live runs that a filter matches."""
    return start_bulk(request, "cancel_runs", payload, {"reason": payload.reason})


@router.post("/runs/bulk/replay", response={202: OperationOut}, tags=["runs"])
def replay_runs(request: ApiRequest, payload: BulkReplayIn) -> Status[dict[str, Any]]:
    """Replay or resume the ended runs that a filter matches."""
    return start_bulk(request, "replay_runs", payload, repair.options(payload.mode, payload.version, payload.force))


def start_bulk(request: ApiRequest, action: str, payload: BulkIn, options: dict[str, Any]) -> Status[dict[str, Any]]:
    """Start a bulk operation, or only count what it would be done to."""
    if not payload.all and not any(payload.filter.values()):
        raise InvalidInput("filter: give at least one value, or all: true for everything.")
    if payload.dry_run:
        draft = bulk.draft(request.organization, action, payload.filter, options=options, per_second=payload.per_second)
        return Status(202, {**presenters.operation_out(draft), "id": None, "status": "dry run", "changes": []})
    operation = bulk.start(
        request.organization, action, payload.filter, by=who(request), options=options, per_second=payload.per_second
    )
    return Status(202, presenters.operation_out(operation))


@router.get("/schedules", response=list[ScheduleOut], tags=["workflows"])
def list_schedules(request: ApiRequest) -> list[dict[str, Any]]:
    """The cron triggers with their policies, next fire times and latest outcomes."""
    return schedules.schedules(request.organization)


@router.post("/scheduler/refresh", response=SchedulerOut, tags=["workflows"])
def refresh_scheduler(request: ApiRequest) -> dict[str, Any]:
    """Write the rows of celery-beat anew. (Changes of triggers take effect by themselves.)"""
    return {"success": True, "scheduledWorkflows": schedules.refresh(request.organization)}


@router.get("/steps/{uuid:step_run_id}/items", response=ItemsOut, tags=["runs"])
def list_items(
    request: ApiRequest, step_run_id: UUID, status: str = "", limit: int = 50, cursor: str = ""
) -> dict[str, Any]:
    """The items of a map, batch, loop or group in order, page by page, with the steps of each."""
    page, more = items.items_page(request.organization, step_run_id, status=status, limit=limit, cursor=cursor)
    return {"items": [presenters.item_out(item) for item in page], "nextCursor": more or None}


@router.get("/operations", response=list[OperationOut], tags=["operations"])
def list_operations(request: ApiRequest) -> list[dict[str, Any]]:
    """The latest bulk operations."""
    return [presenters.operation_out(each) for each in bulk.recent(request.organization)]


@router.get("/operations/{uuid:operation_id}", response=OperationOut, tags=["operations"])
def get_operation(request: ApiRequest, operation_id: UUID) -> dict[str, Any]:
    """A bulk operation and its progress."""
    return presenters.operation_out(bulk.get(request.organization, operation_id))


@router.post("/operations/{uuid:operation_id}/stop", response=OperationOut, tags=["operations"])
def stop_operation(request: ApiRequest, operation_id: UUID) -> dict[str, Any]:
    """Stop a bulk operation after the items under way."""
    return presenters.operation_out(bulk.stop(request.organization, operation_id, by=who(request)))


@router.post("/operations/{uuid:operation_id}/resume", response=OperationOut, tags=["operations"])
def resume_operation(request: ApiRequest, operation_id: UUID) -> dict[str, Any]:
    """Go on with a stopped bulk operation."""
    return presenters.operation_out(bulk.resume(request.organization, operation_id, by=who(request)))


@router.get("/jobs/{uuid:reference}", response=JobOut, tags=["runs"])
def get_job(request: ApiRequest, reference: UUID) -> dict[str, Any]:
    """The state of a job, by the job's (run's) id or by the id of the event that started it. While the run of an event
    is being made, the job is `waiting` and has no `runId`."""
    try:
        run_id = selectors.find_run(request.organization, reference)
    except RunNotFound:
        if event_selectors.is_unmatched(request.organization, reference):
            return presenters.job_of_event(reference)
        run_id = selectors.find_run(request.organization, reference)  # its run may have been made meanwhile
    return presenters.job_out(selectors.run_detail(request.organization, run_id))


def make_api() -> NinjaAPI:
    """The API with its documentation at `/api/docs`."""
    api = DocumentedAPI(
        parser=BoundedParser(),
        title="Headrace",
        version="1",
        urls_namespace="headrace-api",
        docs_url="/docs",
        openapi_url="/openapi.json",
        description="Durable workflows on Postgres, Celery and Redis. Authorize with an API key.",
    )
    api.add_router("", router)
    api.add_router("", pauses.router)
    api.add_router("", archives.router)
    api.add_router("", keys.router)
    api.add_router("/secrets", secrets.router)
    api.add_router("/limits", limits.router)
    api.add_router("/organization", organization.router)
    api.add_router("/events", events.router)
    api.add_router("/observed", observed.router)
    api.add_router("/approvals", approvals.router)
    api.add_router("/organization", retention.router)
    problems.install(api)
    return api
