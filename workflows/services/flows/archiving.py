"""Archiving a flow, bringing it back, and deleting it with all its history.

An archived flow starts nothing: no event, cron, webhook, call or other flow starts it. Its versions, runs and addresses
stay, its slug too: publishing brings it back. A flow is neither archived nor deleted while something of it is open.

Its history is deleted in batches, so that no lock is held for long: the first of them at once, the rest by the leader.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.models import F, Q, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from throttling import overrides
from throttling.models import ThrottleOverride
from workflows import signals
from workflows.engine.maintenance import sweeps
from workflows.errors import FlowBeingDeleted, FlowNotFound, InvalidInput, WorkflowsError
from workflows.models import CronFire, Flow, FlowVersion, Organization, Run, Wait
from workflows.models.run import LIVE_RUN
from workflows.services import limits, schedules
from workflows.services.flows import deletion

log = structlog.get_logger(__name__)
History = Literal["keep", "delete"]
HISTORIES: tuple[str, ...] = get_args(History)
SHOWN = 10
FLOWS = 10
LONGEST_TRANSACTION = dt.timedelta(minutes=10)
"""One that has been open for longer makes no run any more: a backup, a console that somebody left."""
AT_ONCE_S = 2.0
"""Seconds that a request may delete for; the leader does the rest."""
TURN_S = 5.0
DELETIONS = "deletion of flows"


class FlowInUse(WorkflowsError):
    """Something of the flow is open: let it end, cancel it, or take the flow out of what refers to it."""

    status, code = 409, "flow_in_use"

    def __init__(self, message: str | None = None, *, open_: Sequence[OpenPart] = ()) -> None:
        super().__init__(message)
        self.open = list(open_)


class FlowNotArchived(WorkflowsError):
    """The flow is not archived."""

    status, code = 409, "flow_not_archived"


@dataclass(frozen=True, kw_only=True)
class OpenPart:
    """What keeps a flow from being archived: its kind, and the ids (of references: slugs and versions)."""

    what: str
    ids: list[str]

    def __str__(self) -> str:
        more = f" and {len(self.ids) - SHOWN} more" if len(self.ids) > SHOWN else ""
        return f"{self.what}: {', '.join(self.ids[:SHOWN])}{more}"


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What deleting a flow did. `is_done` is false while its history is still being deleted."""

    slug: str
    history: History
    is_done: bool


# --- the verbs ------------------------------------------------------------------------------------------------------


def archive(organization: Organization, slug: str, *, by: str) -> Flow:
    """The flow starts nothing any more, and leaves the lists. One that is archived stays so.

    Raises FlowNotFound, FlowBeingDeleted, and FlowInUse with the ids of what is open.
    """
    with transaction.atomic():
        flow = _close(organization, slug)
    log.info("flow archived", flow=slug, org=organization.slug, by=by)
    return flow


def unarchive(organization: Organization, slug: str, *, by: str) -> Flow:
    """The flow starts runs again, with the triggers that it had; what a schedule missed is not caught up.

    Raises FlowNotFound, FlowNotArchived, FlowBeingDeleted.
    """
    with transaction.atomic():
        flow = _locked(organization, slug)
        if not bring_back(flow):
            raise FlowNotArchived(f"The flow {slug!r} is not archived.")
        schedules.sync_beat_rows(flow)
    log.info("flow unarchived", flow=slug, org=organization.slug, by=by)
    return flow


def delete(organization: Organization, slug: str, *, history: str, by: str) -> Removal:
    """Delete a flow: with `history` kept it is archived, else everything of it goes: versions, runs, dead letters.

    Raises InvalidInput, FlowNotFound, FlowBeingDeleted, and FlowInUse with the ids of what is open.
    """
    if history not in HISTORIES:
        raise InvalidInput(f"history {history!r} is unknown; use {' or '.join(HISTORIES)}.")
    if history == "keep":
        archive(organization, slug, by=by)
        return Removal(slug=slug, history="keep", is_done=True)
    with transaction.atomic():
        flow = _close(organization, slug)
        flow.deletion_asked_at = timezone.now()
        flow.save(update_fields=["deletion_asked_at"])
        _drop_overrides(flow, by=by)
    log.info("flow is being deleted with its history", flow=slug, org=organization.slug, by=by)
    return Removal(slug=slug, history="delete", is_done=go_on(flow, budget_s=AT_ONCE_S))


def go_on(flow: Flow, *, budget_s: float) -> bool:
    """Go on with deleting a flow. Returns whether it is gone. Idempotent: each call deletes what is left."""
    return not _has_to_wait(flow) and deletion.delete_flow(flow, until=time.monotonic() + budget_s)


def delete_rest() -> bool:
    """The leader's part: go on with the flows that are being deleted. Returns whether there is more to do at once."""
    due = Flow.objects.exclude(deletion_asked_at=None)
    rows = sweeps.fair_page(DELETIONS, due, by="deletion_asked_at", limit=FLOWS, org="organization_id")
    unfinished: list[UUID] = []

    def delete_more(some: Sequence[sweeps.Row]) -> None:
        flow = Flow.objects.filter(id=some[0].id).first()
        if flow is not None and not _has_to_wait(flow) and not go_on(flow, budget_s=TURN_S / FLOWS):
            unfinished.append(flow.id)

    sweeps.isolated(
        sweeps.Items(name=DELETIONS, work=delete_more, key=sweeps.row_id, org=sweeps.row_org, budget_s=2 * TURN_S), rows
    )
    return bool(unfinished)


# --- what publishing needs ------------------------------------------------------------------------------------------


def lock(flow_id: UUID) -> Flow:
    """The flow, locked against other changes of it. Rows that refer to it may be inserted meanwhile.

    Its version is read afterwards: joined in the statement that waits for the lock, it would be that from before, which
    the changed row does not point to, and so none.
    """
    found = Flow.objects.select_for_update(no_key=True).filter(id=flow_id).first()
    if found is None:
        raise FlowBeingDeleted("The flow was deleted just now; its slug is free.")
    return found


def bring_back(flow: Flow) -> bool:
    """In the caller's transaction: the flow is archived no more. Returns whether it was."""
    if flow.archived_at is None:
        return False
    flow.archived_at = None
    flow.save(update_fields=["archived_at"])
    flow.triggers.update(fires_from=None, next_fire_at=None)
    return True


# --- how it is done -------------------------------------------------------------------------------------------------


def _locked(organization: Organization, slug: str) -> Flow:
    found = Flow.objects.filter(organization=organization, slug=slug).values_list("id", flat=True).first()
    if found is None:
        raise FlowNotFound(f"There is no flow {slug!r}.")
    flow = lock(found)
    if flow.deletion_asked_at is not None:
        raise FlowBeingDeleted
    return flow


def _close(organization: Organization, slug: str) -> Flow:
    flow = _locked(organization, slug)
    open_ = open_parts(flow)
    if open_:
        listed = "; ".join(str(part) for part in open_)
        raise FlowInUse(f"The flow {slug!r} is in use, and stays as it is. {listed}.", open_=open_)
    if flow.archived_at is None:
        flow.archived_at = timezone.now()
        flow.save(update_fields=["archived_at"])
        queued = CronFire.objects.filter(flow=flow, outcome=CronFire.Outcome.QUEUED)
        queued.update(outcome=CronFire.Outcome.REFUSED, reason="The flow was archived.")
    schedules.sync_beat_rows(flow)
    return flow


def open_parts(flow: Flow) -> list[OpenPart]:
    """What keeps the flow from being archived or deleted."""
    runs = Run.objects.filter(org_id=flow.organization_id, status__in=LIVE_RUN)
    own = _texts(runs.filter(flow_id=flow.id).order_by("id").values_list("id", flat=True))
    awaiting = _texts(
        Run.objects.filter(flow_id=flow.id, follow_up=True, status=Run.Status.FAILED).values_list("id", flat=True)
    )
    waits = Wait.objects.filter(org_id=flow.organization_id, run_id__in=own, taken_at=None)
    children = runs.filter(parent_id__in=Run.objects.filter(flow_id=flow.id).values("id")).exclude(flow_id=flow.id)
    found = [
        ("live runs", own),
        ("runs whose on_failure flow has not started yet", awaiting),
        ("waits (by step run)", _texts(waits.values_list("step_run_id", flat=True))),
        ("live runs that its runs have started", _texts(children.values_list("id", flat=True))),
        ("flows that start it (on_failure, invoke_flow)", list(_references(flow))),
    ]
    answers: list[tuple[Any, Any]] = signals.flow_closing.send(sender=None, flow=flow)
    found += [part for _, parts in answers for part in parts]
    return [OpenPart(what=what, ids=ids) for what, ids in found if ids]


def _texts(ids: Any) -> list[str]:
    return [str(id_) for id_ in ids]


def _references(flow: Flow) -> Iterator[str]:
    """The other flows whose current version, or one that a live run has, names this flow."""
    live = Run.objects.filter(org_id=flow.organization_id, status__in=LIVE_RUN).values("version_id")
    versions = (
        FlowVersion.objects.filter(Q(flow__current_id=F("id"), flow__archived_at=None) | Q(id__in=live))
        .filter(flow__organization_id=flow.organization_id)
        .exclude(flow_id=flow.id)
        .annotate(text=Cast("definition", TextField()))
        .filter(text__contains=json.dumps(flow.slug))
        .select_related("flow")
        .order_by("flow__slug", "number")
    )
    for version in versions.iterator(chunk_size=100):
        if names_flow(version.definition, flow.slug):
            yield f"{version.flow.slug} (version {version.number})"


def names_flow(definition: Any, slug: str) -> bool:
    """Whether a definition starts the flow of this slug: as its `on_failure`, or by a step.

    A name that a template makes is not known before the step runs.
    """
    if definition.get("on_failure") == slug:
        return True
    open_ = [definition]
    while open_:
        for step in open_.pop().get("steps") or ():
            if step.get("type") == "invoke_flow" and (step.get("config") or {}).get("flow") == slug:
                return True
            open_.append(step)
    return False


def _drop_overrides(flow: Flow, *, by: str) -> None:
    """Its limits and pauses."""
    structural = False
    for row in ThrottleOverride.objects.filter(flow_id=flow.id):
        structural = overrides.delete(row, by=by) or structural
    limits.announce(structural)


_OLDER = """
SELECT EXISTS (SELECT 1 FROM pg_stat_activity
                WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
                  AND xact_start < %s)
"""


def _has_to_wait(flow: Flow) -> bool:
    """Whether a run may still be made by a transaction that has not seen that the flow is closed, or is live."""
    if Run.objects.filter(flow_id=flow.id, org_id=flow.organization_id, status__in=LIVE_RUN).exists():
        return True
    if flow.deletion_asked_at is None or timezone.now() - flow.deletion_asked_at > LONGEST_TRANSACTION:
        return False
    with connection.cursor() as cursor:
        cursor.execute(_OLDER, [flow.deletion_asked_at])
        return bool(cursor.fetchone()[0])
