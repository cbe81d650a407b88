"""Reads for screens, API and CLI."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection
from django.db.models import Count, Model, Q, QuerySet
from django.utils import timezone

from throttling.limits import MAX_WEIGHT, MIN_WEIGHT
from workflows import this_process
from workflows.definitions.compiled import CompiledFlow, CompiledStep
from workflows.edge import tags
from workflows.edge.values import check_limit, identifier, in_new_words, moment, refuse_unknown
from workflows.engine.repair import chain
from workflows.engine.state import flow_cache
from workflows.errors import RunNotFound
from workflows.models import (
    Attempt,
    FanOut,
    Flow,
    LeaderLease,
    Organization,
    Run,
    StepRun,
    Trigger,
    TriggerOutcome,
    Worker,
)
from workflows.models.run import AT_WORK, LIVE_RUN
from workflows.models.worker import SILENT_AFTER_S
from workflows.selectors.kept_query import KeptQuery
from workflows.selectors.run_lists import RunFilter, shown_status

MAX_STEPS_SHOWN = 2_000
SHORTEST_KEPT = dt.timedelta(hours=1)
"""No run is deleted sooner after its end."""
NOT_OF_AN_ITEM = Q(path="") | Q(container_id__isnull=False, index=None)
"""Steps at the top, and those that a function has asked for: what the page and the answer of a run list."""


@dataclass(frozen=True, kw_only=True)
class StepDetail:
    """A step of a run with its attempts and its compiled definition."""

    step_run: StepRun
    attempts: list[Attempt]
    compiled: CompiledStep | None
    fan_out: FanOut | None = None
    """Of a container: how far it is."""


@dataclass(frozen=True, kw_only=True)
class RunDetail:
    """A run with its steps in the order of the definition; what stands in containers is read page by page."""

    run: Run
    steps: list[StepDetail]
    flow: CompiledFlow | None
    """None for a version that can't be loaded."""
    is_busy: bool = False
    """Something of it is ready or running."""
    counts: dict[str, int] = field(default_factory=dict)
    repeats: list[dict[str, str]] = field(default_factory=list)
    """The runs that repeat it, or handle its failure: {id, kind}."""
    repaired_by: UUID | None = None
    """The first repair that came after it."""

    @property
    def status(self) -> str:
        """The run's status; *waiting* while nothing of it is ready or running."""
        return shown_status(self.run.status, is_busy=self.is_busy)


def run_detail(organization: Organization, run_id: UUID, *, bodies: bool = True) -> RunDetail:
    """The run, its steps and attempts: a handful of queries. Raises RunNotFound.

    `bodies`: with inputs, outputs, errors of tries and logs, which may be large; without them they are read when they
    are asked for.
    """
    queries = this_process.own(_Queries)
    runs, rows, later = KeptQuery.together(
        (queries.run[not bodies], (organization.id, run_id)),
        (queries.steps[not bodies], (run_id,)),
        (queries.repeats, (run_id,)),
    )
    if not runs:
        raise RunNotFound
    run = runs[0]
    flow = flow_cache.find(run.version_id)
    compiled: Mapping[str, CompiledStep] = flow.steps if flow is not None else {}
    has_containers = any(step.body for step in compiled.values())
    fan_outs = {row.step_run_id: row for row in FanOut.objects.filter(run_id=run_id)} if has_containers else {}
    attempts = attempts_of(run_id, rows, bodies=bodies) if has_containers else _attempts_of_all(run_id, bodies=bodies)
    steps = [
        StepDetail(
            step_run=row, attempts=attempts[row.id], compiled=compiled.get(row.key), fan_out=fan_outs.get(row.id)
        )
        for row in rows
    ]
    if run.ended_at is not None and run.ended_at < timezone.now() - SHORTEST_KEPT:
        _refuse_deleted(organization, run_id)
    busy = any(row.status in AT_WORK for row in rows)
    if has_containers and run.is_live and not busy:
        busy = StepRun.objects.filter(run_id=run_id, status__in=AT_WORK).exists()
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row.status] += 1
    repeats = [{"id": str(each.id), "kind": each.origin_kind} for each in later]
    return RunDetail(
        run=run, steps=steps, flow=flow, is_busy=busy, counts=dict(counts), repeats=repeats,
        repaired_by=chain.repair_of(run) if repeats or run.repair_root_id else None,
    )  # fmt: skip


def _refuse_deleted(organization: Organization, run_id: UUID) -> None:
    """Raises RunNotFound where the run was deleted while it was read: some of its rows may be missing."""
    if not Run.objects.filter(org_id=organization.id, id=run_id).exists():
        raise RunNotFound


def _runs(org_id: UUID, run_id: UUID) -> QuerySet[Run]:
    found = Run.objects.select_related("flow", "version").filter(org_id=org_id, id=run_id).order_by()
    return found.defer("version__definition", "version__source")


def _steps(run_id: UUID) -> QuerySet[StepRun]:
    """Those at the top, and those that a function has asked for, the first of them."""
    return StepRun.objects.filter(NOT_OF_AN_ITEM, run_id=run_id).order_by("path", "position", "id")[:MAX_STEPS_SHOWN]


def _attempts(run_id: UUID) -> QuerySet[Attempt]:
    return Attempt.objects.filter(run_id=run_id).order_by("id")


def _repeats(run_id: UUID) -> QuerySet[Run]:
    return Run.objects.filter(origin_id=run_id).order_by("id").only("id", "origin_kind")[:100]


_BODIES_OF_ATTEMPTS = ("input", "error", "logs")


class _Queries:
    """The queries of a run's detail, with the bodies and without."""

    def __init__(self) -> None:
        self.run = KeptQuery(_runs, 2), KeptQuery(lambda *ids: _runs(*ids).defer("input", "output"), 2)
        self.steps = KeptQuery(_steps, 1), KeptQuery(lambda id_: _steps(id_).defer("output"), 1)
        self.attempts = KeptQuery(_attempts, 1), KeptQuery(lambda id_: _attempts(id_).defer(*_BODIES_OF_ATTEMPTS), 1)
        self.repeats = KeptQuery(_repeats, 1)


def _attempts_of_all(run_id: UUID, *, bodies: bool) -> dict[UUID, list[Attempt]]:
    return by_step_run(this_process.own(_Queries).attempts[not bodies].all(run_id))


def attempts_of(run_id: UUID, rows: Sequence[StepRun], *, bodies: bool = True) -> dict[UUID, list[Attempt]]:
    """The tries of these step runs, by step run; without bodies, without inputs, errors and logs."""
    found = _attempts(run_id).filter(step_run_id__in=[row.id for row in rows])
    return by_step_run(found if bodies else found.defer(*_BODIES_OF_ATTEMPTS))


def by_step_run(found: Iterable[Attempt]) -> dict[UUID, list[Attempt]]:
    """The tries by step run, in the order in which they are found; an empty list for a step run that has none."""
    attempts: dict[UUID, list[Attempt]] = defaultdict(list)
    for attempt in found:
        attempts[attempt.step_run_id].append(attempt)
    return attempts


def step_detail(organization: Organization, run_id: UUID, key: str) -> StepDetail:
    """One step of a run, with its tries and their bodies. Raises RunNotFound where there is none."""
    rows = StepRun.objects.filter(NOT_OF_AN_ITEM, org_id=organization.id, run_id=run_id, key=key)
    row = rows.order_by("path").first()
    if row is None:
        raise RunNotFound
    _refuse_deleted(organization, run_id)
    flow = flow_cache.find(row.version_id)
    compiled = flow.steps.get(key) if flow is not None else None
    fan_out = FanOut.objects.filter(step_run_id=row.id).first() if compiled and compiled.body else None
    attempts = attempts_of(run_id, [row])[row.id]
    return StepDetail(step_run=row, attempts=attempts, compiled=compiled, fan_out=fan_out)


FILTERS = {
    "status": "status",
    "flow": "workflow",
    "trigger": "trigger",
    "userId": "user_id",
    "event": "event_name",
    "since": "since",
    "until": "until",
    "tag": "tags",
}


def runs_matching(organization: Organization, given: Mapping[str, Any]) -> QuerySet[Run]:
    """The runs that a filter of the REST API (its names and texts) matches. Raises InvalidInput for a bad one."""
    given = in_new_words(given, what="filter")
    refuse_unknown(given, FILTERS, what="filter")
    values: dict[str, Any] = {FILTERS[name]: value for name, value in given.items() if value not in (None, "")}
    for name in values.keys() & {"since", "until"}:
        values[name] = moment(values[name], name)
    words = tags.wanted(str(values.pop("tags", "")))
    found = RunFilter(**values).apply(organization)
    return found.filter(tags__contains=list(words)) if words else found


def live_runs_matching(organization: Organization, given: Mapping[str, Any]) -> QuerySet[Run]:
    return runs_matching(organization, given).filter(status__in=LIVE_RUN, cancel_requested_at=None)


def ended_runs_matching(organization: Organization, given: Mapping[str, Any]) -> QuerySet[Run]:
    return runs_matching(organization, given).exclude(status__in=LIVE_RUN)


def find_run(organization: Organization, reference: UUID) -> UUID:
    """The run with this id, or the first one that this event started or joined. Raises RunNotFound."""
    found = (
        Run.objects.filter(Q(id=reference) | Q(event_id=reference), org_id=organization.id)
        .order_by("id")
        .values_list("id", flat=True)
        .first()
    )
    if found is None:
        joined = TriggerOutcome.objects.filter(event_id=reference, org_id=organization.id).exclude(run_id=None)
        found = joined.order_by("id").values_list("run_id", flat=True).first()
    if found is None:
        raise RunNotFound
    return found


Row = TypeVar("Row", bound=Model)


def page_by_id(rows: QuerySet[Row], *, limit: int, cursor: str) -> tuple[list[Row], str]:
    """Some rows, newest first, and the cursor of the next page (empty at the end).

    Raises InvalidInput for a bad limit or cursor.
    """
    check_limit(limit)
    if cursor:
        rows = rows.filter(id__lt=identifier(cursor, "cursor"))
    found = list(rows.order_by("-id")[: limit + 1])
    return found[:limit], str(found[limit - 1].pk) if len(found) > limit else ""


@dataclass(frozen=True, kw_only=True)
class FlowSummary:
    """A flow, and how many of its runs are live."""

    flow: Flow
    live_runs: int


def flows(organization: Organization, *, archived: bool = False) -> list[FlowSummary]:
    """The organization's flows, by slug; `archived`: those that are archived instead.

    Three queries, whatever the history.
    """
    live = dict(
        Run.objects.filter(org_id=organization.id, status__in=LIVE_RUN).order_by()
        .values_list("flow_id").annotate(number=Count("id"))
    )  # fmt: skip
    found = Flow.objects.filter(organization=organization, archived_at__isnull=not archived)
    found = found.select_related("current").prefetch_related("triggers")
    return [FlowSummary(flow=flow, live_runs=live.get(flow.id, 0)) for flow in found]


@dataclass(frozen=True, kw_only=True)
class QueueCounts:
    """Runs by state: waiting to start, executing, delayed (nothing ready or running), and ended lately."""

    waiting: int
    active: int
    delayed: int
    completed: int
    failed: int

    @property
    def total(self) -> int:
        return self.waiting + self.active + self.delayed


_COUNTS = """
WITH at_work AS MATERIALIZED (
    SELECT run_id FROM headrace_workflows_steprun WHERE status = 'running' AND org_id = %(org)s
    UNION
    SELECT run_id FROM headrace_workflows_steprun WHERE status = 'ready' AND waiting_for = '' AND org_id = %(org)s
    UNION
    SELECT run_id FROM headrace_workflows_steprun WHERE status = 'ready' AND waiting_for = 'limit' AND org_id = %(org)s
), awake AS MATERIALIZED (
    SELECT count(*) FILTER (WHERE r.status = 'queued') AS queued,
           count(*) FILTER (WHERE r.status = 'running') AS running
      FROM at_work a JOIN headrace_workflows_run r ON r.id = a.run_id WHERE r.status IN ('queued', 'running')
)
SELECT awake.queued, awake.running,
       (SELECT count(*) FROM headrace_workflows_run WHERE org_id = %(org)s AND status IN ('queued', 'running'))
       - awake.queued - awake.running,
       (SELECT count(*) FROM headrace_workflows_run WHERE org_id = %(org)s AND status = 'completed'
           AND ended_at IS NOT NULL AND ended_at > %(now)s - interval '24 hours')
       + (SELECT COALESCE(sum(runs), 0) FROM headrace_workflows_prunedcount WHERE org_id = %(org)s
             AND status = 'completed' AND minute > %(now)s - interval '24 hours'),
       (SELECT count(*) FROM headrace_workflows_run WHERE org_id = %(org)s AND status = 'failed'
           AND ended_at IS NOT NULL AND ended_at > %(now)s - interval '7 days')
       + (SELECT COALESCE(sum(runs), 0) FROM headrace_workflows_prunedcount WHERE org_id = %(org)s
             AND status = 'failed' AND minute > %(now)s - interval '7 days')
  FROM awake
"""


def queue_counts(organization: Organization) -> QueueCounts:
    """Real numbers, by one statement: completed over 24 hours, failed over 7 days, those that are deleted included."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, {"org": organization.id, "now": timezone.now()})
        waiting, active, delayed, completed, failed = cursor.fetchone()
    return QueueCounts(waiting=waiting, active=active, delayed=delayed, completed=completed, failed=failed)


def active_cron_triggers(organization: Organization) -> int:
    found = Trigger.objects.filter(organization=organization, kind=Trigger.Kind.CRON, enabled=True)
    return found.filter(flow__archived_at=None).count()


def has_leader() -> bool:
    """Whether a worker leads: it fires cron triggers each second, whether celery-beat runs or not."""
    return LeaderLease.objects.filter(expires_at__gt=timezone.now()).exists()


def live_workers() -> list[Worker]:
    """The worker processes that were seen within the last seconds."""
    return list(Worker.objects.filter(seen_at__gt=timezone.now() - dt.timedelta(seconds=SILENT_AFTER_S)))


LOST_AFTER_S = 5.0
"""The leader looks each second for leases that have run out and for timers that are due: it should have acted then."""
LEFT_OVER_AFTER_S = 10.0
"""A ready step that nobody has published, or an event that nobody has matched, should have been found then."""
_HEALTH = """
SELECT (SELECT count(*) FROM headrace_workflows_steprun WHERE status = 'running'
           AND lease_until < clock_timestamp() - make_interval(secs => %(lost_s)s)) AS zombies,
       (SELECT count(*) FROM headrace_workflows_steprun WHERE status = 'ready' AND dispatched_at IS NULL
           AND waiting_for = '' AND ready_at < clock_timestamp() - make_interval(secs => %(left_over_s)s))
           AS undispatched,
       (SELECT count(*) FROM headrace_workflows_steprun WHERE status = 'waiting'
           AND wake_at < clock_timestamp() - make_interval(secs => %(lost_s)s)) AS "overdueTimers",
       (SELECT count(*) FROM headrace_workflows_steprun WHERE status = 'pending' AND needs_left = 0) AS "lostJoins",
       (SELECT count(*) FROM headrace_workflows_run r WHERE r.status IN ('queued', 'running') AND NOT EXISTS (
           SELECT 1 FROM headrace_workflows_steprun s WHERE s.run_id = r.id
              AND s.status IN ('pending', 'ready', 'running', 'waiting'))) AS "stuckRuns",
       (SELECT count(*) FROM headrace_workflows_steprun s JOIN headrace_workflows_run r ON r.id = s.run_id
         WHERE ((s.status = 'ready' AND s.waiting_for = '') OR (s.status = 'ready' AND s.waiting_for = 'limit')
                OR s.status = 'running' OR s.status = 'waiting')
            AND r.status NOT IN ('queued', 'running')) AS "orphanSteps",
       (SELECT count(*) FROM headrace_workflows_event WHERE matched_at IS NULL
           AND received_at < clock_timestamp() - make_interval(secs => %(left_over_s)s)) AS "unmatchedEvents",
       (SELECT count(*) FROM headrace_workflows_sweepfailure WHERE kind = 'fails' AND item = '') AS "failingSweeps",
       (SELECT count(*) FROM headrace_workflows_sweepfailure
           WHERE kind = 'fails' AND item <> '' AND given_up_at IS NULL)
           AS "failingItems",
       (SELECT count(*) FROM headrace_workflows_sweepfailure WHERE kind = 'overran') AS "overBudget",
       (SELECT count(*) FROM headrace_workflows_sweepfailure WHERE given_up_at IS NOT NULL) AS "givenUp",
       (SELECT count(*) FROM headrace_workflows_steprun
         WHERE (status = 'ready' AND waiting_for = '') OR (status = 'ready' AND waiting_for = 'limit')) AS ready,
       (SELECT count(*) FROM headrace_workflows_steprun WHERE status = 'ready' AND waiting_for = 'limit')
           AS "waitingForLimits",
       (SELECT count(*) FROM headrace_workflows_steprun WHERE status = 'running') AS running,
       (SELECT count(*) FROM headrace_workflows_steprun WHERE dispatch_count > 1) AS "publishedAgain",
       (SELECT count(*) FROM headrace_workflows_run WHERE status IN ('queued', 'running')) AS "liveRuns",
       (SELECT count(*) FROM headrace_throttling_throttleoverride
         WHERE NOT weight BETWEEN %(lowest)s AND %(highest)s) AS "weightsOutOfRange"
"""
FAULTS = (
    "zombies",
    "undispatched",
    "overdueTimers",
    "lostJoins",
    "stuckRuns",
    "orphanSteps",
    "unmatchedEvents",
    "failingSweeps",
    "failingItems",
    "overBudget",
)


def health() -> dict[str, int]:
    """What `doctor` reports: the FAULTS should all be zero, the rest describes the load."""
    with connection.cursor() as cursor:
        bounds = {"lowest": MIN_WEIGHT, "highest": MAX_WEIGHT}
        cursor.execute(_HEALTH, {**bounds, "lost_s": LOST_AFTER_S, "left_over_s": LEFT_OVER_AFTER_S})
        names = [column.name for column in cursor.description]
        return dict(zip(names, cursor.fetchone(), strict=True))
