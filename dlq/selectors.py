"""Reads of dead letters for API, admin and CLI."""

from __future__ import annotations

import datetime as dt
import operator
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any
from uuid import UUID

from django.db.models import Count, Max, Min, Q, QuerySet
from django.db.models.functions import TruncHour
from django.utils import timezone

from dlq.errors import DeadLetterNotFound
from dlq.models import Alert, DeadLetter, DeadLetterChange, DeadLetterComment, DeadLetterGroup
from workflows.edge.values import (
    MAX_PAGE,
    check_limit,
    identifier,
    in_new_words,
    moment,
    refuse_unknown,
    refuse_unstorable,
)
from workflows.errors import InvalidInput
from workflows.models import Flow, Organization, Run
from workflows.models.payload_fields import is_on
from workflows.selectors.around_run.letters import Change, Letter
from workflows.selectors.runs import page_by_id

HISTORY_HOURS = 24
SHORTEST_REFERENCE = 6
"""Characters of a fingerprint that name its group."""
FILTERS = {
    "status": "status",
    "flow": "flow__slug",
    "category": "category",
    "type": "step_type",
    "step": "step_key",
    "event": "event_name",
    "run": "run_id",
    "since": "failed_at__gte",
    "until": "failed_at__lt",
}
NAMES = (*FILTERS, "group", "search")


def refuse_search(organization: Organization) -> None:
    """Raises InvalidInput where the messages of errors are stored encrypted."""
    if is_on(organization.id):
        raise InvalidInput(
            "search: the payloads of this organization are stored encrypted, and so are the messages of its errors; "
            "they are not searched. Filter by category, flow, step, type or time."
        )


def matching(organization: Organization, given: Mapping[str, Any]) -> QuerySet[DeadLetter]:
    """The letters that a filter matches. Raises InvalidInput for an unknown name or a bad value."""
    given = in_new_words(given, what="filter")
    refuse_unknown(given, NAMES, what="filter")
    values = {name: value for name, value in given.items() if value not in (None, "")}
    refuse_unstorable(**values)
    if values.get("status", "failed") not in DeadLetter.Status.values:
        raise InvalidInput(f"status {values['status']!r} is unknown; use {', '.join(DeadLetter.Status.values)}.")
    letters = DeadLetter.objects.filter(org_id=organization.id)
    for name in values.keys() & FILTERS.keys():
        value = values[name]
        if name in {"since", "until"}:
            value = moment(value, name)
        elif name == "run":
            letters = letters.filter(_of_run(UUID(str(identifier(value, name)))))
            continue
        letters = letters.filter(**{FILTERS[name]: value})
    if "group" in values:
        letters = letters.filter(group__in=group_where(organization, str(values["group"])).values("id"))
    if "search" in values:
        refuse_search(organization)
        letters = letters.filter(error_message__icontains=str(values["search"]))
    return letters


def _of_run(run_id: UUID) -> Q:
    """Those of its failure: a letter goes on with the repairs of the run in which its step failed first."""
    root_id = Run.objects.filter(id=run_id).values_list("repair_root_id", flat=True).first()
    return Q(run_id=run_id) | Q(first_run_id=root_id or run_id)


def letters_of_run(run: Run, **_: Any) -> list[Letter]:
    """The dead letters of a run's failure, with what was done to them, for its page."""
    found = DeadLetter.objects.filter(_of_run(run.id), org_id=run.org_id).prefetch_related("changes").order_by("id")
    return [
        Letter(
            id=row.id,
            step_key=row.step_key,
            status=row.status,
            error=f"{row.error_name}: {row.error_message[:500]}",
            failed_at=row.failed_at,
            changes=[
                Change(what=each.what, by=each.by, at=each.at, reason=each.reason, run_id=each.run_id)
                for each in row.changes.all()
            ],
        )
        for row in found.defer("event_data", "error_stack")[:MAX_PAGE]
    ]


def failed_matching(organization: Organization, given: Mapping[str, Any]) -> QuerySet[DeadLetter]:
    """Those of them that still want somebody to do something."""
    return matching(organization, given).filter(status=DeadLetter.Status.FAILED)


def group_where(organization: Organization, reference: str) -> QuerySet[DeadLetterGroup]:
    """The group with this id or fingerprint (or the first characters of one)."""
    return DeadLetterGroup.objects.filter(_has_name(reference), org_id=organization.id)


def groups_named(organization: Organization, references: Collection[str]) -> dict[str, DeadLetterGroup]:
    """By reference (as for `group_where`), its group, for those that are there."""
    if not references:
        return {}
    anyone = reduce(operator.or_, map(_has_name, references))
    found = DeadLetterGroup.objects.filter(anyone, org_id=organization.id).order_by("first_seen")
    return {name: group for group in found for name in references if _names(name, group)}


def _names(reference: str, group: DeadLetterGroup) -> bool:
    id_ = _id_of(reference)
    if id_ is not None:
        return group.id == id_ or group.fingerprint == reference
    return len(reference) >= SHORTEST_REFERENCE and group.fingerprint.startswith(reference)


def _id_of(reference: str) -> UUID | None:
    try:
        return UUID(reference)
    except ValueError:
        return None


def _has_name(reference: str) -> Q:
    id_ = _id_of(reference)
    if id_ is not None:
        return Q(id=id_) | Q(fingerprint=reference)
    return Q(fingerprint__startswith=reference) if len(reference) >= SHORTEST_REFERENCE else Q(pk__in=())


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some letters, newest first, and the cursor of the next page (empty at the end)."""

    letters: list[DeadLetter]
    next_cursor: str


def page(organization: Organization, given: Mapping[str, Any], *, limit: int = 50, cursor: str = "") -> Page:
    """Raises InvalidInput for a bad filter, limit or cursor."""
    found = matching(organization, given).select_related("flow", "group")
    letters, next_cursor = page_by_id(found, limit=limit, cursor=cursor)
    return Page(letters=letters, next_cursor=next_cursor)


@dataclass(frozen=True, kw_only=True)
class LetterDetail:
    """A letter and its audit trail."""

    letter: DeadLetter
    changes: list[DeadLetterChange]


def detail(organization: Organization, letter_id: UUID) -> LetterDetail:
    """Raises DeadLetterNotFound."""
    letter = DeadLetter.objects.select_related("flow", "group").filter(org_id=organization.id, id=letter_id).first()
    if letter is None:
        raise DeadLetterNotFound
    return LetterDetail(letter=letter, changes=list(letter.changes.order_by("at", "id")))


@dataclass(frozen=True, kw_only=True)
class GroupSummary:
    """A group, its letters by status, and how many came in each of the last 24 hours (the oldest first)."""

    group: DeadLetterGroup
    failed: int
    reprocessed: int
    ignored: int
    handled: int
    last_seen: dt.datetime | None
    history: list[int] = field(default_factory=list)
    comments: list[DeadLetterComment] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.failed + self.reprocessed + self.ignored + self.handled


def groups(
    organization: Organization, *, status: str = "failed", snoozed: bool = False, limit: int = 100
) -> list[GroupSummary]:
    """The groups with letters of this status (`all`: any), the latest first; snoozed ones only where asked for.

    Raises InvalidInput for a bad status or limit.
    """
    if status not in {*DeadLetter.Status.values, "all"}:
        raise InvalidInput(f"status {status!r} is unknown; use {', '.join(DeadLetter.Status.values)} or all.")
    check_limit(limit)
    found = DeadLetterGroup.objects.filter(org_id=organization.id)
    if not snoozed:
        found = found.filter(Q(snoozed_until=None) | Q(snoozed_until__lte=timezone.now()))
    counted = _counted(found)
    if status != "all":
        counted = counted.filter(**{f"{status}_count__gt": 0})
    return _summaries(list(counted.order_by("-last_seen")[:limit]))


def group_summary(organization: Organization, group: DeadLetterGroup) -> GroupSummary:
    """One group with its comments."""
    (summary,) = _summaries(list(_counted(DeadLetterGroup.objects.filter(id=group.id))))
    summary.comments.extend(group.comments.all())
    return summary


def _counted(found: QuerySet[DeadLetterGroup]) -> QuerySet[Any]:
    counts = {
        f"{status}_count": Count("letters", filter=Q(letters__status=status)) for status in DeadLetter.Status.values
    }
    return found.annotate(last_seen=Max("letters__failed_at"), **counts)


def _summaries(found: Sequence[Any]) -> list[GroupSummary]:
    history = _history([group.id for group in found])
    return [
        GroupSummary(
            group=group,
            failed=group.failed_count,
            reprocessed=group.reprocessed_count,
            ignored=group.ignored_count,
            handled=group.handled_count,
            last_seen=group.last_seen,
            history=history[group.id],
        )
        for group in found
    ]


def _history(group_ids: Sequence[UUID]) -> dict[UUID, list[int]]:
    this_hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    first = this_hour - dt.timedelta(hours=HISTORY_HOURS - 1)
    rows = (
        DeadLetter.objects.filter(group_id__in=group_ids, failed_at__gte=first)
        .order_by()
        .annotate(hour=TruncHour("failed_at"))
        .values_list("group_id", "hour")
        .annotate(number=Count("id"))
    )
    history: dict[UUID, list[int]] = defaultdict(lambda: [0] * HISTORY_HOURS)
    for group_id, hour, number in rows:
        place = min(max(int((hour - first).total_seconds() // 3600), 0), HISTORY_HOURS - 1)
        history[group_id][place] += number
    return history


def alerts(organization: Organization, *, open_only: bool = False, limit: int = 50) -> list[Alert]:
    """Alerts, newest first; with `open_only` those that have not recovered. Raises InvalidInput for a bad limit."""
    check_limit(limit)
    found = Alert.objects.filter(org_id=organization.id).select_related("rule")
    return list((found.filter(recovered_at=None) if open_only else found).order_by("-id")[:limit])


def stats(organization: Organization) -> dict[str, Any]:
    """Counts by status, and of what is open by category and flow; how many came in the last hour and day."""
    letters = DeadLetter.objects.filter(org_id=organization.id).order_by()
    now = timezone.now()
    recent = letters.aggregate(
        hour=Count("id", filter=Q(failed_at__gte=now - dt.timedelta(hours=1))),
        day=Count("id", filter=Q(failed_at__gte=now - dt.timedelta(days=1))),
        oldest=Min("failed_at", filter=Q(status="failed")),
    )
    by_status = dict(letters.values_list("status").annotate(number=Count("id")))
    # one pass over what is open: it may be most of the table
    opened = letters.filter(status="failed").values_list("flow_id", "category", "group_id").annotate(number=Count("id"))
    flows, categories, groups = Counter[UUID](), Counter[str](), set[UUID]()
    for flow_id, category, group_id, number in opened:
        flows[flow_id] += number
        categories[category] += number
        groups.add(group_id)
    slugs = dict(Flow.objects.filter(id__in=flows).values_list("id", "slug"))
    by_flow = {slugs[flow_id]: number for flow_id, number in flows.items() if flow_id in slugs}
    return {
        **{status: by_status.get(status, 0) for status in DeadLetter.Status.values},
        "lastHour": recent["hour"],
        "lastDay": recent["day"],
        "oldestFailedAt": recent["oldest"],
        "groups": len(groups),
        "byCategory": dict(categories),
        "byFlow": by_flow,
        "byWorkflow": by_flow,
    }


MOST_OF_A_PAGE = 500


def runs_of(ids: Collection[UUID]) -> list[UUID]:
    """The runs of these letters, and of letters of these groups, the latest first."""
    found = DeadLetter.objects.filter(Q(id__in=ids) | Q(group_id__in=ids)).order_by("-id")
    return list(found.values_list("run_id", flat=True)[:MOST_OF_A_PAGE])
