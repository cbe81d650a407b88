"""What the pages of flows show: a page of flows, how their last runs did, and what limits one."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db import connection
from django.db.models import Q

from throttling.answers import LimitState
from throttling.errors import EpochClosed, StoreUnavailable
from throttling.limits import ConcurrencyLimit, Limit
from workflows.definitions.compiled import CompiledFlow
from workflows.edge.values import refuse_unstorable
from workflows.engine.pipeline import admit
from workflows.engine.state import flow_cache
from workflows.errors import FlowNotFound, WorkflowsError
from workflows.models import CronFire, DiscoveredStep, Flow, FlowVersion, Organization, Run, Trigger
from workflows.selectors.limits import describe

FLOWS_SHOWN = 100
NAMES_SHOWN = 200
RUNS_SHOWN = 30
VERSIONS_SHOWN = 50
FIRES_SHOWN = 20
MOST_COUNTED = 10_000


@dataclass(frozen=True, kw_only=True)
class RecentRun:
    """One of the last runs of a flow. `duration_ms` is None while it lives."""

    id: UUID
    status: str
    created_at: dt.datetime
    duration_ms: int | None


@dataclass(frozen=True, kw_only=True)
class Health:
    """How the last runs of a flow did, the oldest first."""

    runs: list[RecentRun] = field(default_factory=list)

    @property
    def ended(self) -> list[RecentRun]:
        return [run for run in self.runs if run.status in {"completed", "failed"}]

    @property
    def failed(self) -> int:
        return sum(run.status == "failed" for run in self.runs)

    @property
    def failure_percent(self) -> int | None:
        """Of those that completed or failed."""
        return round(100 * self.failed / len(self.ended)) if self.ended else None

    @property
    def last(self) -> RecentRun | None:
        return self.runs[-1] if self.runs else None

    @property
    def median_ms(self) -> int | None:
        known = sorted(run.duration_ms for run in self.ended if run.duration_ms is not None)
        return known[len(known) // 2] if known else None


@dataclass(frozen=True, kw_only=True)
class FlowPage:
    """Some flows by slug, and the slug after which the next page begins (empty at the end)."""

    flows: list[Flow]
    following: str


def flow_page(organization: Organization, *, archived: bool = False, search: str = "", after: str = "") -> FlowPage:
    """Some flows; `search`: a part of slug or name. Raises InvalidInput for a text that can't be one."""
    refuse_unstorable(search=search, after=after)
    found = Flow.objects.filter(organization=organization, archived_at__isnull=not archived, slug__gt=after)
    if search:
        found = found.filter(Q(slug__icontains=search) | Q(name__icontains=search))
    found = found.select_related("current").defer("current__definition", "current__source")
    rows = list(found.prefetch_related("triggers").order_by("slug")[: FLOWS_SHOWN + 1])
    return FlowPage(flows=rows[:FLOWS_SHOWN], following=rows[FLOWS_SHOWN - 1].slug if len(rows) > FLOWS_SHOWN else "")


@dataclass(frozen=True, kw_only=True)
class FlowNames:
    """Slugs to choose from; `is_cut`: there are more, so that any may be written."""

    slugs: list[str]
    is_cut: bool


def flow_names(organization: Organization, *, published: bool = False) -> FlowNames:
    """The slugs of the first NAMES_SHOWN flows in use; `published`: of those that have a version."""
    found = Flow.objects.filter(organization=organization, archived_at=None)
    if published:
        found = found.filter(current__isnull=False)
    slugs = list(found.order_by("slug").values_list("slug", flat=True)[: NAMES_SHOWN + 1])
    return FlowNames(slugs=slugs[:NAMES_SHOWN], is_cut=len(slugs) > NAMES_SHOWN)


def slugs_of(organization: Organization, ids: Collection[UUID]) -> dict[UUID, str]:
    """By id, the slugs of those of these flows that are the organization's."""
    return dict(Flow.objects.filter(organization=organization, id__in=ids).values_list("id", "slug"))


def heard_events(organization: Organization) -> list[str]:
    """The first NAMES_SHOWN names of events that flows in use listen to, in their order."""
    heard = Trigger.objects.filter(organization=organization, flow__archived_at=None).exclude(event_name="")
    return list(heard.order_by("event_name").values_list("event_name", flat=True).distinct()[:NAMES_SHOWN])


def find_flow(organization: Organization, slug: str) -> Flow:
    """Raises FlowNotFound."""
    found = Flow.objects.select_related("current").filter(organization=organization, slug=slug).first()
    if found is None:
        raise FlowNotFound(f"There is no flow {slug!r}.")
    return found


def find_trigger(organization: Organization, slug: str, trigger_id: UUID) -> Trigger | None:
    """A trigger of a flow."""
    found = Trigger.objects.select_related("flow").filter(organization=organization, flow__slug=slug, id=trigger_id)
    return found.first()


_RECENT = """
SELECT f.id, r.id, r.status, r.created_at, round(extract(epoch FROM r.ended_at - r.created_at) * 1000)::bigint
  FROM unnest(%(ids)s::uuid[]) AS f (id)
 CROSS JOIN LATERAL (SELECT x.id, x.status, x.created_at, x.ended_at FROM headrace_workflows_run x
                      WHERE x.flow_id = f.id ORDER BY x.id DESC LIMIT %(shown)s) r
 ORDER BY r.id
"""


def health(flows: Iterable[Flow]) -> dict[UUID, Health]:
    """How the last runs of each did: a range of the index by flow for each, whatever the history."""
    ids = [flow.id for flow in flows]
    recent: dict[UUID, list[RecentRun]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_RECENT, {"ids": ids, "shown": RUNS_SHOWN})
        for flow_id, run_id, status, created_at, duration_ms in cursor.fetchall():
            recent[flow_id].append(
                RecentRun(id=run_id, status=status, created_at=created_at, duration_ms=duration_ms)
            )  # fmt: skip
    return {id_: Health(runs=recent[id_]) for id_ in ids}


_LIVE = """
SELECT flow_id, count(*) FROM (SELECT flow_id FROM headrace_workflows_run
        WHERE org_id = %(org)s AND status IN ('queued', 'running') LIMIT %(most)s) r GROUP BY flow_id
"""


def live_runs(organization: Organization) -> tuple[dict[UUID, int], bool]:
    """By flow, how many of its runs live; and whether there are more than are counted."""
    with connection.cursor() as cursor:
        cursor.execute(_LIVE, {"org": organization.id, "most": MOST_COUNTED})
        counts = dict(cursor.fetchall())
    return counts, sum(counts.values()) >= MOST_COUNTED


_COUNT = """
SELECT count(*) FROM (SELECT FROM headrace_workflows_run WHERE flow_id = %(flow)s ORDER BY id DESC LIMIT %(most)s) r
"""


def count_runs(flow: Flow) -> int:
    """How many runs the flow has, counted up to MOST_COUNTED."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"flow": flow.id, "most": MOST_COUNTED})
        return int(cursor.fetchone()[0])


def latest_runs(flow: Flow) -> list[Run]:
    """The latest runs of a flow."""
    runs = Run.objects.filter(org_id=flow.organization_id, flow_id=flow.id)
    return list(runs.prefetch_related("flow", "version").defer("input", "output").order_by("-id")[:RUNS_SHOWN])


def versions(flow: Flow) -> list[FlowVersion]:
    """The latest versions, newest first, without their texts."""
    return list(flow.versions.defer("definition", "source").order_by("-number")[:VERSIONS_SHOWN])


def version(flow: Flow, number: int) -> FlowVersion | None:
    """The version of this number; None where there is none."""
    return flow.versions.filter(number=number).first() if 0 < number < 2**31 else None


def latest_fires(flows: Sequence[Flow]) -> dict[UUID, list[CronFire]]:
    """By flow, its latest fire times, newest first, each flow's read by its index."""
    return {flow.id: list(CronFire.objects.filter(flow=flow).order_by("-fire_at")[:FIRES_SHOWN]) for flow in flows}


@dataclass(kw_only=True)
class FlowLimit:
    """A limit that steps of a flow meet. `state` is None for one with a key, and while the store does not answer."""

    name: str
    what: str
    bound: str
    source: str
    key: str
    steps: list[str]
    state: LimitState | None = None


def limits_of(flow: Flow) -> tuple[list[FlowLimit], str]:
    """The limits that the steps of the flow's current version meet; and why they can't be told, where they can't."""
    current, problem = compiled(flow.current_id)
    if current is None:
        return [], problem
    found: dict[str, FlowLimit] = {}
    limits: dict[str, Limit] = {}
    for step in current.steps:
        for limit in admit.limits_of(current.version_id, step).limits:
            if limit.bound is None:
                continue
            instance = limit.instance()
            if instance not in found:
                found[instance] = FlowLimit(
                    name=limit.name.text, what=describe(instance), bound=_bound_of(limit), source=limit.source,
                    key=limit.key or "", steps=[],
                )  # fmt: skip
                limits[instance] = limit
            found[instance].steps.append(step)
    unkeyed = {name: limit for name, limit in limits.items() if not limit.key}
    try:
        known = dict(limit.stored for limit in unkeyed.values() if limit.is_defined)
        for state in admit.gate().explain(instances=unkeyed, definitions=known).limits:
            if state.instance in found:
                found[state.instance].state = state
    except (StoreUnavailable, EpochClosed):
        return list(found.values()), "The throttle store does not answer: how many are in use is not known now."
    return list(found.values()), ""


def _bound_of(limit: Limit) -> str:
    if isinstance(limit.bound, ConcurrencyLimit):
        return f"{limit.bound.max_running} at once"
    if limit.bound is None:
        return ""
    seconds = limit.bound.per_ms / 1000
    span = (
        f"{seconds:g} s" if seconds < 600 else f"{seconds / 60:g} min" if seconds < 36_000 else f"{seconds / 3600:g} h"
    )
    return f"{limit.bound.max_executions} per {span}"


def compiled(version_id: UUID | None) -> tuple[CompiledFlow | None, str]:
    """A version with its steps; or why it can't be loaded here."""
    if version_id is None:
        return None, "Nothing of it is published yet."
    try:
        return flow_cache.flow_of(version_id), ""
    except WorkflowsError as error:
        return None, str(error)


def discovered(flow: Flow) -> list[DiscoveredStep]:
    """The steps that the code of the current version has asked for so far, by name."""
    return list(DiscoveredStep.objects.filter(version_id=flow.current_id).order_by("name")[:VERSIONS_SHOWN])
