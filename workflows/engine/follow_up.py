"""After a run has failed: its flow's `on_failure` flow starts, once, with error, event and run."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

import psycopg
import structlog
from django.db import OperationalError, transaction
from django.utils import timezone

from workflows.engine import catalog, recording, scope, store
from workflows.engine.failure import describe
from workflows.engine.trigger import Lineage, NewRun, trigger
from workflows.errors import ConfigurationFailure, WorkflowsError
from workflows.models import Flow, Run
from workflows.payload import MAX_EVENT_BYTES

log = structlog.get_logger(__name__)
EVENT = "headrace/run.failed"
BATCH = 100
GIVE_UP_AFTER_S = 600.0


def follow_up() -> int:
    """Start what is to start for runs that have failed. Returns how many there were."""
    ids = Run.objects.filter(follow_up=True, status=Run.Status.FAILED).order_by("id").values_list("id", flat=True)
    found = list(ids[:BATCH])
    for run_id in found:
        try:
            _follow(run_id)
        except (psycopg.OperationalError, OperationalError):
            raise
        except Exception:  # a version that this process can't load, say: another one may
            log.exception("what follows a failure can't be started now", run_id=str(run_id))
            long_ago = timezone.now() - dt.timedelta(seconds=GIVE_UP_AFTER_S)
            Run.objects.filter(id=run_id, ended_at__lt=long_ago).update(follow_up=False)
    return len(found)


def _follow(run_id: UUID) -> None:
    with transaction.atomic():
        run = Run.objects.select_for_update(skip_locked=True).filter(id=run_id, follow_up=True).first()
        if run is None:
            return
        Run.objects.filter(id=run.id).update(follow_up=False)
        try:
            with transaction.atomic():
                _start(run)
        except WorkflowsError as error:  # nobody would see it otherwise: it becomes a dead letter
            log.warning("the on_failure flow does not start", run_id=str(run_id), error=str(error))
            described = describe(error)
            failure = recording.of_run(catalog.flow_of(run.version_id), run.id, described, what="on_failure")
            with store.transaction() as cursor:
                recording.announce([failure], cursor)


def _start(run: Run) -> None:
    flow = catalog.flow_of(run.version_id)
    handler = Flow.objects.filter(organization_id=run.org_id, slug=flow.on_failure or "").first()
    if handler is None or handler.current_id is None:
        raise ConfigurationFailure(f"on_failure: there is no published flow {flow.on_failure!r}.")
    trigger(
        catalog.flow_of(handler.current_id),
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
    loaded = scope.load([run.id], ())[run.id]
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
