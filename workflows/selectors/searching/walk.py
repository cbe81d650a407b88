"""Searching runs, newest first: so many rows or so long, then it says how far it came, and can go on from there."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from workflows.edge.values import check_limit, decode_cursor, encode_cursor
from workflows.errors import EncryptionKeyMissing, ExpressionError, InvalidInput
from workflows.expressions import Expression
from workflows.models import Organization, Run
from workflows.models.payload_fields import is_on
from workflows.selectors.run_lists import runs_page
from workflows.selectors.searching.criteria import Criteria, scope_of

MAX_READ = 10_000
MAX_S = 0.150
FIRST, MOST = 50, 2_000
"""Rows that are read at once: at first, and at most. Bodies may be large, so it begins with few."""
FAST_S = 0.02
WALK = "search"


@dataclass(frozen=True, kw_only=True)
class SearchPage:
    """Some runs, and the cursor from which to go on (empty at the end).

    `searched_to`: how far back it came, of a search that was stopped before it had a page. `problem`: the first error
    of an expression.
    """

    runs: list[Run]
    next_cursor: str
    read: int = 0
    searched_to: dt.datetime | None = None
    problem: str = ""


def find(
    organization: Organization,
    criteria: Criteria,
    *,
    sort: str = "created",
    limit: int = 50,
    cursor: str = "",
    only_sorted: bool = False,
) -> SearchPage:
    """A page of the runs that match. What no index knows is searched, newest first, whatever `sort` says.

    `only_sorted`: another order of a search is refused. Raises InvalidInput for that, and for bad criteria, a bad sort
    or a bad cursor.
    """
    if criteria.text and is_on(organization.id):
        raise InvalidInput(
            "text: the payloads of this organization are stored encrypted, and texts in them are not searched. Search "
            "by an expression (cel: input.orderId == '42'), by event, user or time."
        )
    if not criteria.is_walk:
        page = runs_page(organization, criteria.where, sort=sort, limit=limit, cursor=cursor)
        return SearchPage(runs=page.runs, next_cursor=page.next_cursor)
    if only_sorted and sort != "created":
        raise InvalidInput(f"sort {sort!r}: what is searched comes newest first; leave sort out, or the tag.")
    check_limit(limit)
    last = decode_cursor(cursor, WALK, {"id": UUID})["id"] if cursor else None
    return _Walk(organization, criteria, limit, last).go()


class _Walk:
    """One search: what it has found, how much it has read, and where it stands."""

    def __init__(self, organization: Organization, criteria: Criteria, limit: int, last: UUID | None) -> None:
        self._base = criteria.where.apply(organization).order_by("-id")
        self._criteria, self._limit, self._last = criteria, limit, last
        self._expression = criteria.expression(organization.id)
        self._until_s = time.monotonic() + MAX_S
        self._found: list[Run] = []
        self._read, self._problem = 0, ""

    def go(self) -> SearchPage:
        """Read on until there is a page, nothing is left, or the bounds are reached."""
        size, is_whole = FIRST if self._criteria.reads_bodies else MOST, False
        while len(self._found) < self._limit and self._read < MAX_READ and time.monotonic() < self._until_s:
            begun = time.monotonic()
            rows = self._base if self._last is None else self._base.filter(id__lt=self._last)
            ids = list(rows.values_list("id", flat=True)[: min(size, MAX_READ - self._read)])
            if not ids:
                is_whole = True
                break
            self._take(ids)
            size = min(size * 2, MOST) if time.monotonic() - begun < FAST_S else max(FIRST, size // 2)
        at = None if is_whole or self._last is None else _made_at(self._last)
        is_full = len(self._found) >= self._limit
        return SearchPage(
            runs=self._found,
            next_cursor=encode_cursor(WALK, {"id": self._last}) if at else "",
            read=self._read,
            searched_to=None if is_full else at,
            problem=self._problem,
        )

    def _take(self, ids: list[UUID]) -> None:
        """Those of some rows that match; at a full page, and where the time is over, it stands after the last one."""
        rows: QuerySet[Run] = self._criteria.narrow(Run.objects.filter(id__in=ids)).order_by("-id")
        rows = rows.prefetch_related("flow", "version")
        if self._expression is None:
            rows = rows.defer("input", "output")
        wanted = rows[: self._limit - len(self._found)] if self._expression is None else rows
        for run in wanted:
            if self._expression is None or self._holds(self._expression, run):
                self._found.append(run)
            if len(self._found) >= self._limit or (self._expression and time.monotonic() > self._until_s):
                self._read += ids.index(run.id) + 1
                self._last = run.id
                return
        self._read += len(ids)
        self._last = ids[-1]

    def _holds(self, expression: Expression, run: Run) -> bool:
        try:
            return expression.is_true(scope_of(run))
        except (ExpressionError, EncryptionKeyMissing) as error:
            self._problem = self._problem or str(error)
            return False


def _made_at(run_id: UUID) -> dt.datetime:
    """The time in an id."""
    return dt.datetime.fromtimestamp((run_id.int >> 80) / 1000, dt.UTC)


def newer(organization: Organization, criteria: Criteria, than: UUID | None, limit: int = 50) -> SearchPage:
    """The newest runs that match, of those that were made after a run: of a search, of so many rows (MOST). The cursor
    is there where it is a page of them, and no search."""
    if than is None:
        return find(organization, criteria, limit=limit)
    rows: Any = criteria.where.apply(organization).filter(id__gt=than)
    if criteria.is_walk:
        ids = rows.order_by("-id").values_list("id", flat=True)[:MOST]
        rows = criteria.narrow(Run.objects.filter(id__in=list(ids)))
    found = list(rows.order_by("-id").prefetch_related("flow", "version").defer("input", "output")[:limit])
    is_page = len(found) == limit and not criteria.is_walk
    return SearchPage(runs=found, next_cursor=encode_cursor("created", {"id": found[-1].id}) if is_page else "")


def rows_of(organization: Organization, ids: list[UUID]) -> dict[UUID, Run]:
    """Runs of a list, as they are now."""
    rows: Any = Run.objects.filter(org_id=organization.id, id__in=ids).prefetch_related("flow", "version")
    return {run.id: run for run in rows.defer("input", "output")}
