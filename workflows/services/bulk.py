"""Bulk operations: one action over all that a filter matches, at a chosen pace, with progress, stop and resume.

The leader does them in small steps. A step locks the operation, takes the next items in the order of their ids, acts on
each, and saves how far it came: all in one transaction, so that a process that is killed leaves every item either done
and counted, or neither. What was made after the operation was asked for does not belong to it.
"""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
import uuid6
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from workflows.edge.unavailable import may_pass
from workflows.engine.maintenance import sweeps
from workflows.errors import AlreadyDone, InvalidInput, OperationNotFound, WorkflowsError
from workflows.models import BulkOperation, OperationChange, Organization
from workflows.selectors.searching import counting

log = structlog.get_logger(__name__)
BATCH = 200
MAX_PROBLEMS = 100
MAX_AT_ONCE = 1_000
OPERATIONS = "bulk operations"
BEHIND_S = 2.0
MAX_PER_SECOND = 1_000.0
MOST_READ = 10_000
Filter = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Action:
    """What can be done in bulk.

    `select` gives the matching rows (with a uuid7 as `id`) and raises InvalidInput for a bad filter; `act` does it to
    one of them, and raises AlreadyDone where somebody else has done it, another WorkflowsError where that one is to be
    passed over.

    `among`: the rows that they are selected from, in the order of their ids by an index. `searched`: filters that no
    index serves, for which a step looks through MOST_READ of those, however few match.
    """

    select: Callable[[Organization, Filter], QuerySet[Any]]
    act: Callable[[BulkOperation, Organization, UUID], None]
    among: Callable[[UUID], QuerySet[Any]]
    searched: frozenset[str] = frozenset()
    per_second: float = 100.0


ACTIONS: dict[str, Action] = {}


def register(actions: Mapping[str, Action]) -> None:
    """Add the actions of an app, by name. Raises ValueError where another has a name already."""
    for name, action in actions.items():
        if ACTIONS.setdefault(name, action) is not action:
            raise ValueError(f"the bulk action {name!r} is registered twice")


def start(
    organization: Organization,
    action: str,
    where: Filter,
    *,
    by: str,
    options: Mapping[str, Any] | None = None,
    per_second: float | None = None,
) -> BulkOperation:
    """Ask for a bulk operation. Raises InvalidInput for an unknown action, a bad filter or a bad pace."""
    with transaction.atomic():
        operation = draft(organization, action, where, by=by, options=options, per_second=per_second)
        operation.save(force_insert=True)
        _record_change(operation, "started", by)
    return operation


def draft(
    organization: Organization,
    action: str,
    where: Filter,
    *,
    by: str = "",
    options: Mapping[str, Any] | None = None,
    per_second: float | None = None,
) -> BulkOperation:
    """The operation as it would be, with the number of items that match now: of many, or of few among many, with a
    number that it is at least. Raises as `start` does.
    """
    known = _action(action)
    pace = known.per_second if per_second is None else float(per_second)
    if not (math.isfinite(pace) and 0 < pace <= MAX_PER_SECOND):
        raise InvalidInput(f"perSecond {pace:g} is out of range; use more than 0 and at most {MAX_PER_SECOND:g}.")
    upto = uuid6.uuid7()
    rows = known.select(organization, where).filter(id__lte=upto)
    counted = counting.count(rows, known.among(organization.id).filter(id__lte=upto))
    return BulkOperation(
        org_id=organization.id,
        action=action,
        filter=dict(where),
        options=dict(options or {}),
        per_second=pace,
        matched=counted.number,
        matched_at_least=counted.is_least,
        upto=upto,
        created_by=by,
    )


def _action(name: str) -> Action:
    if name not in ACTIONS:
        raise InvalidInput(f"action {name!r} is unknown; use {', '.join(sorted(ACTIONS))}.")
    return ACTIONS[name]


def get(organization: Organization, operation_id: UUID) -> BulkOperation:
    """Raises OperationNotFound."""
    found = BulkOperation.objects.filter(org_id=organization.id, id=operation_id).first()
    if found is None:
        raise OperationNotFound
    return found


def recent(
    organization: Organization, *, actions: Collection[str] | None = None, limit: int = 50
) -> list[BulkOperation]:
    """The latest operations, newest first; `actions`: of these actions only."""
    found = BulkOperation.objects.filter(org_id=organization.id)
    if actions is not None:
        found = found.filter(action__in=[*actions])
    return list(found.prefetch_related("changes").order_by("-id")[:limit])


def stop(organization: Organization, operation_id: UUID, *, by: str) -> BulkOperation:
    """Stop it after the items under way; one that has ended stays as it is."""
    return _turn(organization, operation_id, BulkOperation.Status.RUNNING, BulkOperation.Status.STOPPED, "stopped", by)


def resume(organization: Organization, operation_id: UUID, *, by: str) -> BulkOperation:
    """Go on with a stopped one, after the last item that it looked at."""
    return _turn(organization, operation_id, BulkOperation.Status.STOPPED, BulkOperation.Status.RUNNING, "resumed", by)


def _turn(organization: Organization, operation_id: UUID, before: str, after: str, what: str, by: str) -> BulkOperation:
    with transaction.atomic():
        operation = BulkOperation.objects.select_for_update().filter(org_id=organization.id, id=operation_id).first()
        if operation is None:
            raise OperationNotFound
        if operation.status == before:
            operation.status, operation.paced_from, operation.paced_count = after, None, 0
            operation.save(update_fields=["status", "paced_from", "paced_count"])
            _record_change(operation, what, by)
    return operation


def _record_change(operation: BulkOperation, what: str, by: str) -> None:
    OperationChange.objects.create(operation=operation, what=what, by=by)


STEP_CHANGES = (
    "status", "ended_at", "cursor", "done", "passed_over", "repaired_before", "paced_from", "paced_count", "matched",
    "matched_at_least",
)  # fmt: skip
"""What a step of an operation changes, besides its problems."""


def pump() -> bool:
    """Take a step of every running operation. True while there is one."""
    running = BulkOperation.objects.filter(status=BulkOperation.Status.RUNNING)
    rows = sweeps.fair_page(OPERATIONS, running, by="id", limit=MAX_AT_ONCE)
    random.shuffle(rows)  # where the time of a turn does not suffice for all, it is not always the same ones that wait
    sweeps.isolated(
        sweeps.Items(
            name=OPERATIONS,
            work=lambda some: _step(some[0].id),
            key=sweeps.row_id,
            org=sweeps.row_org,
            give_up=lambda row, error: _give_up(row.id, error),
        ),
        rows,
    )
    return bool(rows)


def _give_up(operation_id: UUID, error: BaseException) -> None:
    """Stop an operation that could not go on for ten minutes. It can be resumed, after its last item."""
    with transaction.atomic():
        operation = BulkOperation.objects.select_for_update().get(id=operation_id)
        if operation.status != BulkOperation.Status.RUNNING:
            return
        reason = f"It was stopped, since it can't go on: {sweeps.reason_of(error)}"
        operation.status = BulkOperation.Status.STOPPED
        operation.problems = [*operation.problems[: MAX_PROBLEMS - 1], {"id": str(operation_id), "reason": reason}]
        operation.save(update_fields=["status", "problems"])
        _record_change(operation, "given up", "the leader")


def _step(operation_id: UUID) -> None:
    with transaction.atomic():
        operation = (
            BulkOperation.objects.select_for_update(skip_locked=True)
            .filter(id=operation_id, status=BulkOperation.Status.RUNNING)
            .first()
        )
        allowed = _allowance(operation, timezone.now()) if operation is not None else 0
        if operation is None or allowed <= 0:
            return
        organization = Organization.objects.get(id=operation.org_id)
        ids, is_last = _next(operation, organization, allowed)
        refused_before = operation.passed_over
        for item in ids:
            _act(operation, organization, item)
        operation.paced_count += len(ids)
        if is_last:
            operation.status, operation.ended_at = BulkOperation.Status.COMPLETED, timezone.now()
            if operation.matched_at_least:  # now it is known
                operation.matched, operation.matched_at_least = max(operation.matched, operation.looked_at), False
            _record_change(operation, "completed", "the leader")
        payloads = ["problems"] if operation.passed_over > refused_before else []
        operation.save(update_fields=[*STEP_CHANGES, *payloads])  # payloads that stay are not encrypted anew


def _allowance(operation: BulkOperation, now: dt.datetime) -> int:
    """How many items the pace allows now. What it allowed while nobody worked is forgone, so that there is no burst."""
    if operation.paced_from is not None:
        due = (
            math.floor((now - operation.paced_from).total_seconds() * operation.per_second) + 1 - operation.paced_count
        )
        if due <= max(1.0, BEHIND_S * operation.per_second):
            return min(due, BATCH)
    operation.paced_from, operation.paced_count = now, 0
    return 1


def _next(operation: BulkOperation, organization: Organization, limit: int) -> tuple[list[UUID], bool]:
    """The next items, and whether they are the last."""
    known = ACTIONS[operation.action]
    rows = known.select(organization, operation.filter).filter(id__lte=operation.upto)
    if operation.cursor is not None:
        rows = rows.filter(id__gt=operation.cursor)
    looked_to = _looked_to(operation, known) if known.searched & operation.filter.keys() else None
    if looked_to is not None:
        rows = rows.filter(id__lte=looked_to)
    ids = list(rows.order_by("id").values_list("id", flat=True)[:limit])
    if len(ids) == limit:
        operation.cursor = ids[-1]
    elif looked_to is not None:
        operation.cursor = looked_to
    elif ids:
        operation.cursor = ids[-1]
    return ids, len(ids) < limit and looked_to is None


def _looked_to(operation: BulkOperation, known: Action) -> UUID | None:
    """The last row that a step looks at; None where it looks at all that are left."""
    left = known.among(operation.org_id).filter(id__lte=operation.upto)
    if operation.cursor is not None:
        left = left.filter(id__gt=operation.cursor)
    found: UUID | None = left.order_by("id").values_list("id", flat=True)[MOST_READ - 1 : MOST_READ].first()
    return found


def _act(operation: BulkOperation, organization: Organization, item: UUID) -> None:
    try:
        with transaction.atomic():
            ACTIONS[operation.action].act(operation, organization, item)
        operation.done += 1
    except AlreadyDone as error:
        operation.repaired_before += 1
        log.info("nothing is left to do", operation=str(operation.id), item=str(item), reason=str(error))
    except BaseException as error:
        if may_pass(error):
            raise  # the whole step is taken again
        if not isinstance(error, WorkflowsError):
            log.exception("an item of a bulk operation fails", operation=str(operation.id), item=str(item))
        operation.passed_over += 1
        if len(operation.problems) < MAX_PROBLEMS:
            operation.problems.append({"id": str(item), "reason": str(error)[:500]})
        log.info("an item is passed over", operation=str(operation.id), item=str(item), reason=str(error))
