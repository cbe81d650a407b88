"""The groups of dead letters, for the pages: each read looks at a bounded number of letters, and says so.

`dlq.selectors.groups` counts all letters of the organization; a page may not, with a million of them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils import timezone

from dlq import selectors
from dlq.errors import GroupNotFound
from dlq.models import DeadLetter, DeadLetterComment, DeadLetterGroup
from workflows.edge.values import refuse_unstorable
from workflows.errors import InvalidInput
from workflows.models import Organization

SQL = Path(__file__).parent / "sql"
PER_PAGE = 50
LOOKED_AT = 5_000
"""Letters that the list of causes, or the history of one, is made from: the latest, by equal parts of each status."""
COUNTED = 500
"""A count in the list says `500+` from here on."""
COUNTED_ALONE = 10_000
"""The same of a group's own page."""
HOURS = 24
DAYS = 7
MOST_COMMENTS = 200
STATUSES = DeadLetter.Status.values
DRAWN = LOOKED_AT // len(STATUSES)
"""Letters of each status that the history of one cause is made from."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """A number of letters, or so many at least."""

    number: int
    is_more: bool = False

    def __str__(self) -> str:
        return f"{self.number:,}+" if self.is_more else f"{self.number:,}"

    def __bool__(self) -> bool:
        return self.number > 0


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A group with its counts by status, and how many letters came in each hour (the oldest first)."""

    group: DeadLetterGroup
    counts: dict[str, Count]
    last_seen: dt.datetime | None
    history: list[int]
    is_snoozed: bool
    comments: list[DeadLetterComment] = field(default_factory=list)

    @property
    def open(self) -> Count:
        """The letters that nobody has dealt with."""
        return self.counts["failed"]


@dataclass(frozen=True, kw_only=True)
class CausePage:
    """Some causes. `is_cut`: there are letters that were not looked at; `is_history_cut`: of the last 24 hours."""

    causes: list[Cause]
    number: int
    has_next: bool
    is_cut: bool
    is_history_cut: bool


def page(
    organization: Organization,
    *,
    status: str = "failed",
    snoozed: bool = False,
    search: str = "",
    assigned: str | None = None,
    number: int = 1,
) -> CausePage:
    """The groups with a letter of this status (`all`: any) among the latest, the one that failed last first.

    `assigned`: to whom; None: whoever. Raises InvalidInput for a bad status, text or number of the page.
    """
    statuses = _statuses(status)
    refuse_unstorable(search=search, assigned=assigned or "")
    if search:
        selectors.refuse_search(organization)
    if not 1 <= number <= LOOKED_AT // PER_PAGE:
        raise InvalidInput(f"page: from 1 to {LOOKED_AT // PER_PAGE}.")
    rows = _rows(
        "causes", org=organization.id, statuses=statuses, at_most=_part(statuses), snoozed=snoozed, assigned=assigned,
        search=_pattern(search), first=(number - 1) * PER_PAGE, number=PER_PAGE + 1,
    )  # fmt: skip
    ids = [row[0] for row in rows[:PER_PAGE]]
    groups = DeadLetterGroup.objects.in_bulk(ids)
    counts, (history, is_history_cut) = _counts(ids, COUNTED), _recent_history(organization, ids)
    causes = [
        _cause(groups[id_], counts[id_], last_seen, history[id_]) for id_, last_seen, _ in rows[:PER_PAGE]
    ]  # fmt: skip
    return CausePage(
        causes=causes, number=number, has_next=len(rows) > PER_PAGE,
        is_cut=bool(rows) and rows[0][2] >= _part(statuses), is_history_cut=is_history_cut,
    )  # fmt: skip


def _part(statuses: Sequence[str]) -> int:
    return max(1, LOOKED_AT // len(statuses))


def _pattern(search: str) -> str | None:
    """For ILIKE: what has this text in it; None for no text."""
    plain = search.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{plain}%" if plain else None


def _statuses(status: str) -> list[str]:
    if status not in {*STATUSES, "all"}:
        raise InvalidInput(f"status {status!r} is unknown; use {', '.join(STATUSES)} or all.")
    return list(STATUSES) if status == "all" else [status]


def one(organization: Organization, group_id: UUID) -> Cause:
    """A group with its comments and the hours of its last week. Raises GroupNotFound."""
    group = DeadLetterGroup.objects.filter(org_id=organization.id, id=group_id).first()
    if group is None:
        raise GroupNotFound
    counts = _counts([group_id], COUNTED_ALONE)[group_id]
    present = [status for status in STATUSES if counts[status]]  # looking for the latest of none reads all letters
    latest = DeadLetter.objects.filter(group_id=group_id).order_by("-id").values_list("failed_at", flat=True)
    seen = [latest.filter(status=status).first() for status in present]
    start = _this_hour() - dt.timedelta(hours=DAYS * 24 - 1)
    hours = [0] * (DAYS * 24)
    for hour, number in _rows("cause_history", group=group_id, statuses=present, since=start, at_most=DRAWN):
        hours[_place(hour, start, len(hours))] += number
    cause = _cause(group, counts, max((at for at in seen if at), default=None), hours)
    cause.comments.extend(reversed(group.comments.order_by("-id")[:MOST_COMMENTS]))
    return cause


def _cause(
    group: DeadLetterGroup, counts: dict[str, Count], last_seen: dt.datetime | None, history: list[int]
) -> Cause:
    is_snoozed = group.snoozed_until is not None and group.snoozed_until > timezone.now()
    return Cause(group=group, counts=counts, last_seen=last_seen, history=history, is_snoozed=is_snoozed)


def _counts(ids: Sequence[UUID], at_most: int) -> dict[UUID, dict[str, Count]]:
    found: dict[UUID, dict[str, Count]] = {id_: {status: Count(number=0) for status in STATUSES} for id_ in ids}
    for id_, status, number in _rows("cause_counts", groups=list(ids), statuses=STATUSES, at_most=at_most):
        found[id_][status] = Count(number=number, is_more=number == at_most)
    return found


def _recent_history(organization: Organization, ids: Sequence[UUID]) -> tuple[dict[UUID, list[int]], bool]:
    start = _this_hour() - dt.timedelta(hours=HOURS - 1)
    history = {id_: [0] * HOURS for id_ in ids}
    is_cut = False
    for id_, hour, number in _rows(
        "recent_history", org=organization.id, groups=list(ids), since=start, at_most=LOOKED_AT
    ):
        if id_ is None:
            is_cut = number >= LOOKED_AT
        else:
            history[id_][_place(hour, start, HOURS)] += number
    return history, is_cut


def _this_hour() -> dt.datetime:
    return timezone.now().astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)


def _place(hour: dt.datetime, start: dt.datetime, size: int) -> int:
    return min(max(int((hour - start).total_seconds() // 3_600), 0), size - 1)


def _rows(name: str, **parameters: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute((SQL / f"{name}.sql").read_text(encoding="utf-8"), parameters)
        return list(cursor.fetchall())
