"""After a run has failed: its flow's `on_failure` flow starts, once, with error, event and run."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog
from django.db import transaction

from workflows.definitions.compiled import CompiledFlow
from workflows.edge.unavailable import may_pass
from workflows.engine.maintenance import sweeps
from workflows.engine.pipeline import announcements
from workflows.engine.pipeline.retry_decision import describe
from workflows.engine.pipeline.trigger import NewRun, trigger
from workflows.engine.state import database, expression_context, flow_cache
from workflows.engine.state.records import Lineage
from workflows.errors import ConfigurationFailure, WorkflowsError
from workflows.models import Flow, Run
from workflows.models.event import SYSTEM
from workflows.payload import MAX_EVENT_BYTES

log = structlog.get_logger(__name__)
EVENT = f"{SYSTEM}run.failed"
BATCH = 100
NAME = "follow-up"


def follow_up() -> int:
    """Start what is to start for runs that have failed. Returns how many there were."""
    due = Run.objects.filter(follow_up=True, status=Run.Status.FAILED)
    rows = sweeps.fair_page(NAME, due, by="id", limit=BATCH)
    sweeps.isolated(
        sweeps.Items(
            name=NAME,
            work=lambda some: _start_handler(some[0].id),
            key=sweeps.row_id,
            org=sweeps.row_org,
            stays=flow_cache.is_newer,
            give_up=lambda row, _: Run.objects.filter(id=row.id).update(follow_up=False),
        ),
        rows,
    )
    return len(rows)


def _start_handler(run_id: UUID) -> None:
    with transaction.atomic():
        run = Run.objects.select_for_update(skip_locked=True).filter(id=run_id, follow_up=True).first()
        if run is None:
            return
        Run.objects.filter(id=run.id).update(follow_up=False)
        try:
            flow = flow_cache.flow_of(run.version_id)
        except WorkflowsError as error:
            if flow_cache.is_newer(error):
                raise  # another process may load it
            log.warning("nobody knows what follows the failure", run_id=str(run_id), error=str(error))
            return  # its dead letter says why it can't be loaded
        try:
            with transaction.atomic():
                _start(run, flow)
        except WorkflowsError as error:  # nobody would see it otherwise: it becomes a dead letter
            if may_pass(error):
                raise
            log.warning("the on_failure flow does not start", run_id=str(run_id), error=str(error))
            with database.transaction() as cursor:
                announcements.announce([announcements.of_run(flow, run.id, describe(error), what="on_failure")], cursor)


def _start(run: Run, flow: CompiledFlow) -> None:
    handler = Flow.objects.filter(organization_id=run.org_id, slug=flow.on_failure or "").first()
    if handler is None or handler.current_id is None:
        raise ConfigurationFailure(f"on_failure: there is no published flow {flow.on_failure!r}.")
    if handler.archived_at is not None:
        raise ConfigurationFailure(f"on_failure: the flow {flow.on_failure!r} is archived and starts nothing.")
    trigger(
        flow_cache.flow_of(handler.current_id),
        [NewRun(input=facts(run), priority=run.priority)],
        org_id=run.org_id,
        kind="on_failure",
        event_name=EVENT,
        user_id=run.user_id,
        lineage=Lineage(origin_id=run.id, origin_kind="on_failure"),
        limit_bytes=2 * MAX_EVENT_BYTES,
    )


def facts(run: Run) -> dict[str, Any]:
    """What the handler of a failure gets: {error, event, run}."""
    loaded = expression_context.load([run.id], ())[run.id]
    return {
        "error": run.error,
        "event": loaded["event"],
        "run": {
            "id": str(run.id),
            "flow": loaded["run"]["flow"],
            "trigger": run.trigger,
            "userId": run.user_id,
            "createdAt": run.created_at.isoformat(),
            "endedAt": run.ended_at.isoformat() if run.ended_at else None,
        },
    }
