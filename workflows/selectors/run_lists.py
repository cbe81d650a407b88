"""The lists of runs, for screens, API and CLI: filters and orders that indexes serve, whatever the history.

Ordered by priority, a page is one range of `run_by_priority`. A duration is that of an index (`run_by_duration`) for
runs that have ended only; those that live get longer as one looks, the oldest first. So each page by duration is
merged from three ranges: what has ended, what runs and what is queued, all as of the moment that the cursor carries.

A filter that few runs pass is answered by its own index, and the few are sorted then. Postgres would walk the index of
the order instead, through all runs of the organization, where the values are rare here and common with others: its
statistics know columns, not tenants. No page joins tables for the same reason; flows and versions come afterwards.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import DurationField, Exists, ExpressionWrapper, F, Model, OuterRef, Q, QuerySet
from django.db.models.fields.tuple_lookups import Tuple, TupleLessThan
from django.utils import timezone

from workflows.edge.values import check_limit, decode_cursor, encode_cursor, moment, refuse_unstorable
from workflows.errors import InvalidInput
from workflows.models import Flow, Organization, Run, StepRun
from workflows.models.run import AT_WORK, LIVE_RUN, first_id

WAITING = "waiting"
"""Of a live run: nothing of it is ready or runs. No status of its own, but shown as one."""
SORTS = ("created", "priority", "duration")
CLOCKS_S = 3_600.0
"""Seconds by which the time in a run's id and its creation time may differ: they are of two clocks. A wider margin is
read with every filter by time, by all runs of the organization in it, and misleads the planner."""
MAX_SPAN = dt.timedelta(days=366 * 1_000)
Row = TypeVar("Row", bound=Model)
FEW = 2_000
"""So many rows are sorted rather than found in the order of an index."""
SPAN = ExpressionWrapper(F("ended_at") - F("created_at"), output_field=DurationField())


AT_WORK_INDEXES: tuple[dict[str, str], ...] = (
    {"status": "running"},
    {"status": "ready", "waiting_for": ""},
    {"status": "ready", "waiting_for": "limit"},
)
"""Of steps that are ready or run: the conditions of their partial indexes."""


def at_work(steps: QuerySet[StepRun]) -> QuerySet[Any, Any]:
    """The runs of those of these steps that are ready or run, each read from its own partial index."""
    first, *others = (steps.order_by().filter(**each).values("run_id") for each in AT_WORK_INDEXES)
    return first.union(*others)


def with_status(runs: QuerySet[Run], status: str, *, org_id: UUID | None = None) -> QuerySet[Run]:
    """Those of the runs (all of this organization, if one is named) that are shown with this status.

    Raises InvalidInput for an unknown one.
    """
    steps = StepRun.objects.filter(**({"org_id": org_id} if org_id else {}))
    if status == WAITING:
        of_it = steps.order_by().filter(run_id=OuterRef("pk"))
        return runs.filter(*(~Exists(of_it.filter(**each)) for each in AT_WORK_INDEXES), status__in=LIVE_RUN)
    if status not in Run.Status.values:
        raise InvalidInput(f"status {status!r} is unknown; use {', '.join([*Run.Status.values, WAITING])}.")
    if status in LIVE_RUN:
        return runs.filter(id__in=at_work(steps), status=status)
    return runs.filter(status=status)


def shown_statuses(runs: Iterable[Run]) -> dict[UUID, str]:
    """The status that each is shown with, in one query."""
    known = {run.id: run.status for run in runs}
    live = [id_ for id_, status in known.items() if status in LIVE_RUN]
    steps = StepRun.objects.filter(run_id__in=live, status__in=AT_WORK) if live else StepRun.objects.none()
    at_work = set(steps.values_list("run_id", flat=True).distinct())
    return {id_: shown_status(status, is_busy=id_ in at_work) for id_, status in known.items()}


def shown_status(status: str, *, is_busy: bool) -> str:
    """The status that a run is shown with. `is_busy`: something of it is ready or runs."""
    return WAITING if status in LIVE_RUN and not is_busy else status


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Which runs to list; empty fields don't filter. `status` is the one that is shown; `since` and `until` bound the
    creation time."""

    status: str = ""
    workflow: str = ""
    trigger: str = ""
    user_id: str = ""
    event_name: str = ""
    since: dt.datetime | None = None
    until: dt.datetime | None = None

    def apply(self, organization: Organization) -> QuerySet[Run]:
        """The organization's runs that it matches. Raises InvalidInput for an unknown status or an unstorable text."""
        runs = self._rest(organization, Run.objects.filter(org_id=organization.id))
        return with_status(runs, self.status, org_id=organization.id) if self.status else runs

    @property
    def is_empty(self) -> bool:
        return self == RunFilter()

    @property
    def live_statuses(self) -> list[str]:
        """Those of runs that live, as far as they can match."""
        return [status for status in LIVE_RUN if self.status in {"", WAITING, status}]

    def _rest(self, organization: Organization, runs: QuerySet[Run]) -> QuerySet[Run]:
        refuse_unstorable(flow=self.workflow, trigger=self.trigger, userId=self.user_id, event=self.event_name)
        if self.workflow:  # its id, not a join: the planner knows how many runs a flow has, not what its name is
            flow = Flow.objects.filter(organization=organization, slug=self.workflow).first()
            runs = runs.filter(flow_id=flow.id) if flow else runs.none()
        for name, value in (
            ("trigger", self.trigger),
            ("user_id", self.user_id),
            ("event_name", self.event_name),
        ):
            if value:
                runs = runs.filter(**{name: value})
        if self.since:
            since = moment(self.since, "since")
            runs = runs.filter(created_at__gte=since, id__gte=first_id(max(0.0, since.timestamp() - CLOCKS_S)))
        if self.until:
            until = moment(self.until, "until")
            runs = runs.filter(created_at__lt=until, id__lt=first_id(max(0.0, until.timestamp() + CLOCKS_S)))
        return runs


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some runs, and the cursor of the next page (empty at the end)."""

    runs: list[Run]
    next_cursor: str


def runs_page(
    organization: Organization, where: RunFilter, *, sort: str = "created", limit: int = 50, cursor: str = ""
) -> Page:
    """One page, newest (or most urgent, or longest) first. Raises InvalidInput for a bad status, sort or cursor."""
    if sort not in SORTS:
        raise InvalidInput(f"sort {sort!r} is unknown; use {', '.join(SORTS)}.")
    check_limit(limit)
    page_of = {"created": _by_creation, "priority": _by_priority, "duration": _by_duration}[sort]
    runs = where.apply(organization)
    if sort != "created" and not where.is_empty:
        runs = narrowed(runs, "-id")
    runs = runs.prefetch_related("flow", "version").defer("input", "output")
    found, place_of = page_of(where, runs, limit + 1, cursor)
    page = found[:limit]
    return Page(runs=page, next_cursor=encode_cursor(sort, place_of(page[-1])) if len(found) > limit else "")


def narrowed(rows: QuerySet[Row], order: str) -> QuerySet[Row]:
    """The same rows, named by their ids where they are few. `order`: that of the index which the filter has."""
    few = list(rows.order_by(order).values_list("pk", flat=True)[: FEW + 1])
    return rows.model._default_manager.filter(pk__in=few) if len(few) <= FEW else rows


Found = tuple[list[Run], Callable[[Run], dict[str, Any]]]
"""Some runs, and the place of one of them in their order."""


def _by_creation(_: RunFilter, runs: QuerySet[Run], count: int, cursor: str) -> Found:
    if cursor:
        runs = runs.filter(id__lt=decode_cursor(cursor, "created", {"id": UUID})["id"])
    return list(runs.order_by("-id")[:count]), lambda run: {"id": run.id}


def _by_priority(_: RunFilter, runs: QuerySet[Run], count: int, cursor: str) -> Found:
    if cursor:
        place = decode_cursor(cursor, "priority", {"priority": int, "id": UUID})
        runs = runs.filter(TupleLessThan(Tuple("priority", "id"), (place["priority"], place["id"])))
    return list(runs.order_by("-priority", "-id")[:count]), lambda run: {"priority": run.priority, "id": run.id}


def _by_duration(where: RunFilter, runs: QuerySet[Run], count: int, cursor: str) -> Found:
    as_of, last = timezone.now(), None
    if cursor:
        place = decode_cursor(cursor, "duration", {"microseconds": int, "id": UUID, "as_of": dt.datetime})
        as_of, last = place["as_of"], (_interval(place["microseconds"]), place["id"])

    def key(run: Run) -> tuple[dt.timedelta, UUID]:
        return (run.ended_at or as_of) - run.created_at, run.id

    ended = runs.filter(ended_at__isnull=False).annotate(span=SPAN).order_by("-span", "-id")
    if last:
        ended = ended.filter(TupleLessThan(Tuple("span", "id"), last))
    found: list[Run] = [*ended[:count]] if where.status not in [*LIVE_RUN, WAITING] else []
    for status in where.live_statuses:
        live = runs.filter(status=status).order_by("created_at", "-id")
        if last:
            since = _moment_before(as_of, last[0])
            live = live.filter(created_at__gte=since).filter(Q(created_at__gt=since) | Q(id__lt=last[1]))
        found += live[:count]
    found.sort(key=key, reverse=True)
    return found[:count], lambda run: {
        "microseconds": key(run)[0] // dt.timedelta(microseconds=1),
        "id": run.id,
        "as_of": as_of.isoformat(),
    }


def _interval(microseconds: int) -> dt.timedelta:
    """A timedelta, of a cursor. Raises InvalidInput for one that no run has."""
    span = dt.timedelta(microseconds=microseconds)
    if abs(span) > MAX_SPAN:
        raise InvalidInput("cursor: not one of this list; start without a cursor.")
    return span


def _moment_before(at: dt.datetime, span: dt.timedelta) -> dt.datetime:
    try:
        return at - span
    except OverflowError:
        raise InvalidInput("cursor: not one of this list; start without a cursor.") from None
