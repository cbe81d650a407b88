"""Reads of the application's own Celery tasks, as they were observed. They stand outside of all promises."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db.models import Q, QuerySet, Sum
from django.utils import timezone

from workflows.edge.values import check_limit, decode_cursor, encode_cursor, refuse_unstorable
from workflows.errors import InvalidInput, ObservedTaskNotFound
from workflows.models import ObservationLoss, ObservedTask, Organization

UNKNOWN = "unknown"
"""Shown of a task that is open and of which nothing was heard for an hour: it may run, be done, or be lost."""
UNKNOWN_AFTER_S = 3_600.0
OPEN = ("sent", "started", "retrying")
MAX_FAMILY = 500
_ORDER = "observed"


def shown_state(task: ObservedTask, now: dt.datetime | None = None) -> str:
    """The state that a task is shown with."""
    silent = (now or timezone.now()) - task.seen_at
    return UNKNOWN if task.state in OPEN and silent.total_seconds() > UNKNOWN_AFTER_S else task.state


def with_state(tasks: QuerySet[ObservedTask], state: str) -> QuerySet[ObservedTask]:
    """Those that are shown with this state. Raises InvalidInput for one that there is not."""
    if state != UNKNOWN and state not in ObservedTask.State.values:
        raise InvalidInput(f"state {state!r} is unknown; use {', '.join([*ObservedTask.State.values, UNKNOWN])}.")
    limit = timezone.now() - dt.timedelta(seconds=UNKNOWN_AFTER_S)
    if state == UNKNOWN:
        return tasks.filter(state__in=OPEN, seen_at__lt=limit)
    return tasks.filter(state=state, seen_at__gte=limit) if state in OPEN else tasks.filter(state=state)


@dataclass(frozen=True, kw_only=True)
class ObservedPage:
    """Some tasks, and the cursor of the next page (empty at the end)."""

    tasks: list[ObservedTask]
    next_cursor: str


def observed_page(
    organization: Organization, *, state: str = "", name: str = "", limit: int = 50, cursor: str = ""
) -> ObservedPage:
    """One page, those with the latest signs first. Raises InvalidInput for a bad state, limit or cursor."""
    refuse_unstorable(name=name, state=state)
    check_limit(limit)
    found = ObservedTask.objects.filter(org_id=organization.id)
    if state:
        found = with_state(found, state)
    if name:
        found = found.filter(name=name)
    if cursor:
        place = decode_cursor(cursor, _ORDER, {"at": dt.datetime, "id": str})
        refuse_unstorable(cursor=place["id"])
        found = found.filter(Q(seen_at__lt=place["at"]) | Q(seen_at=place["at"], id__lt=place["id"]))
    rows = list(found.order_by("-seen_at", "-id")[: limit + 1])
    page = rows[:limit]
    more = len(rows) > limit
    next_cursor = encode_cursor(_ORDER, {"at": page[-1].seen_at.isoformat(), "id": page[-1].id}) if more else ""
    return ObservedPage(tasks=page, next_cursor=next_cursor)


def observed_family(organization: Organization, task_id: str) -> list[ObservedTask]:
    """A task, and after it those of its chain, group or chord: 500 at most. Raises ObservedTaskNotFound."""
    refuse_unstorable(id=task_id)
    task = ObservedTask.objects.filter(org_id=organization.id, id=task_id).first()
    if task is None:
        raise ObservedTaskNotFound
    if not task.root_id:
        return [task]
    family = ObservedTask.objects.filter(org_id=organization.id, root_id=task.root_id).exclude(id=task.id)
    return [task, *family.order_by("sent_at", "id")[:MAX_FAMILY]]


def observed_counts() -> dict[str, int]:
    """What `doctor` says: tasks that are kept, failed and lost within a day, of which nothing was heard, and
    observations that were dropped within the last days."""
    since = timezone.now() - dt.timedelta(days=1)
    tasks = ObservedTask.objects.all()
    dropped = ObservationLoss.objects.aggregate(all=Sum("dropped"))["all"] or 0
    return {
        "observedTasks": tasks.count(),
        "observedFailed": tasks.filter(state="failed", ended_at__gte=since).count(),
        "observedLost": tasks.filter(state="lost", ended_at__gte=since).count(),
        "observedUnknown": with_state(tasks, UNKNOWN).count(),
        "observationsDropped": int(dropped),
    }
