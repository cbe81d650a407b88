"""What a changed limit would have done to the runs that came within the last week.

The busiest hour of the week is found by its ids (they begin with the time); its first runs are let arrive as they did,
under the limits of now and under the changed ones. It is bounded by MAX_RUNS, MAX_STEPS_REPLAYED, MAX_FLOWS and MAX_S.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Avg, F

from throttling.limits import LimitSet
from throttling.policy import Override, Policies
from workflows.engine.pipeline import admit
from workflows.engine.state import flow_cache
from workflows.errors import WorkflowsError
from workflows.models import Attempt, Organization, Run
from workflows.models.run import first_id
from workflows.simulation.forecast import Forecast, Mixture, Part, fullest_window, permits_of_queues

HOURS = 7 * 24
HOUR_S = 3_600
COUNTED = 300
"""Runs of an hour that are counted; of a fuller one, how soon it had so many."""
MAX_RUNS = 2_000
MAX_STEPS_REPLAYED = 6_000
MAX_FLOWS = 30
MAX_S = 10.0
"""Both replays together; somebody waits for them."""
SAMPLED = 20
"""Runs of a flow that say how long its steps take."""
INPUTS = 50
"""Inputs of a flow whose limits have a key."""

_HOURS = """
SELECT hour.first, count(run.id), (array_agg(run.id ORDER BY run.id DESC))[1]
  FROM unnest(%(firsts)s::uuid[], %(ends)s::uuid[]) AS hour (first, ended)
 CROSS JOIN LATERAL (
     SELECT r.id FROM headrace_workflows_run r
      WHERE r.id >= hour.first AND r.id < hour.ended {where}
      ORDER BY r.id LIMIT %(counted)s
 ) AS run
 GROUP BY hour.first
"""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Runs as they came. `is_cut`: it ends before its hour does.

    `left_out`: how many of the time are not replayed, since their flows can't be, or are too many.
    """

    since: dt.datetime
    until: dt.datetime
    parts: list[Part]
    arrivals: list[tuple[float, int]]
    left_out: int
    is_cut: bool

    @property
    def runs(self) -> int:
        return len(self.arrivals)

    @property
    def flows(self) -> int:
        return len({part.flow.flow_id for part in self.parts})


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a replay comes to; times in milliseconds."""

    mean_wait_ms: int
    p95_wait_ms: int
    longest_wait_ms: int
    last_start_ms: int
    most_at_once: int
    most_a_minute: int
    binding: list[tuple[str, int]]
    """(limit's instance, percent of all waiting), the one that costs most first."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The same runs under the limits of now, and under the changed ones."""

    stretch: Stretch
    now: Figures
    changed: Figures


def compare(organization: Organization | None, subject: tuple[Any, ...], changed: Override | None) -> Comparison | None:
    """What an override (None: none) of a subject would do to the busiest hour of the last week.

    `organization`: whose runs; None: everybody's. None where no run came, or none that can be replayed. Raises
    InvalidInput where the replays take longer than MAX_S.
    """
    until_s = time.monotonic() + MAX_S
    stretch = busiest(organization)
    if stretch is None:
        return None
    policies = admit.policies()
    overrides = {key: value for key, value in policies.overrides.items() if key != subject}
    if changed is not None:
        overrides[changed.subject] = changed
    permits = permits_of_queues()
    now, then = (
        _figures(_Replay(stretch.parts, each, permits).replay(stretch.arrivals, until_s=until_s))
        for each in (policies, replace(policies, overrides=overrides))
    )
    return Comparison(stretch=stretch, now=now, changed=then)


class _Replay(Mixture):
    """A mixture under given policies; a limit whose key has no value for a run is left out for it."""

    def __init__(self, parts: Sequence[Part], policies: Policies, permits: Mapping[str, int]) -> None:
        flows = {part.flow.version_id: part.flow for part in parts}
        super().__init__(
            parts,
            permits=permits,
            limits_of=lambda version_id, key: admit.limits_under(policies, flows[version_id].steps[key].facts),
        )

    def _evaluate(self, limits: admit.StepLimits, scope: Mapping[str, Any]) -> LimitSet:
        try:
            return super()._evaluate(limits, scope)
        except WorkflowsError:
            return limits.fixed


def _figures(forecast: Forecast) -> Figures:
    waits = sorted(delay for step in forecast.steps for delay in step.delays_s)
    return Figures(
        mean_wait_ms=round(1_000 * sum(waits) / len(waits)) if waits else 0,
        p95_wait_ms=round(1_000 * waits[int(len(waits) * 0.95)]) if waits else 0,
        longest_wait_ms=round(1_000 * waits[-1]) if waits else 0,
        last_start_ms=round(1_000 * forecast.starts_s[-1]) if forecast.starts_s else 0,
        most_at_once=forecast.most_steps,
        most_a_minute=fullest_window(forecast.starts_s, 60),
        binding=[(limit, round(100 * share)) for limit, share in forecast.binding[:3] if share >= 0.01],
    )


def busiest(organization: Organization | None) -> Stretch | None:
    """The first runs of the hour of the last week in which runs came fastest."""
    first = _busiest_hour(organization)
    if first is None:
        return None
    start_s = _second_of(first)
    rows = Run.objects.filter(id__gte=first, id__lt=first_id(start_s + HOUR_S))
    if organization is not None:
        rows = rows.filter(org_id=organization.id)
    runs = list(rows.order_by("id").values_list("id", "org_id", "version_id")[: MAX_RUNS + 1])
    parts, places = _parts(runs[:MAX_RUNS])
    arrivals: list[tuple[float, int]] = []
    steps, last_s = 0, start_s
    for run_id, _, version_id in runs[:MAX_RUNS]:
        place = places.get(version_id)
        if place is None:
            continue
        steps += len(parts[place].flow.top)
        if steps > MAX_STEPS_REPLAYED:
            break
        last_s = _second_of(run_id)
        arrivals.append((last_s - start_s, place))
    if not arrivals:
        return None
    is_cut = len(runs) > MAX_RUNS or steps > MAX_STEPS_REPLAYED
    left_out = sum(1 for run_id, _, version_id in runs[:MAX_RUNS] if version_id not in places)
    until = last_s if is_cut else start_s + HOUR_S
    return Stretch(
        since=_moment(start_s), until=_moment(until), parts=parts, arrivals=arrivals, left_out=left_out, is_cut=is_cut
    )


def _busiest_hour(organization: Organization | None) -> UUID | None:
    now = int(time.time())
    starts = [now - HOUR_S * number for number in range(1, HOURS + 1)]
    where = "AND r.org_id = %(org)s" if organization is not None else ""
    parameters: dict[str, Any] = {
        "firsts": [first_id(start) for start in starts],
        "ends": [first_id(start + HOUR_S) for start in starts],
        "counted": COUNTED,
        "org": organization.id if organization is not None else None,
    }
    with connection.cursor() as cursor:
        cursor.execute(_HOURS.format(where=where), parameters)
        rows = cursor.fetchall()
    paces = [(_pace(first, count, last), first) for first, count, last in rows]
    return max(paces)[1] if paces else None


def _pace(first: UUID, count: int, last: UUID) -> float:
    """Runs a second: within the hour, or until so many were counted."""
    return count / HOUR_S if count < COUNTED else count / max(0.001, _second_of(last) - _second_of(first))


def _second_of(id_: UUID) -> float:
    """The moment of a uuid7, in epoch seconds."""
    return (id_.int >> 80) / 1_000


def _moment(second: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(second, dt.UTC)


def _parts(runs: Sequence[tuple[UUID, UUID, UUID]]) -> tuple[list[Part], dict[UUID, int]]:
    """The flows of runs, and by version which of them it is; without those that can't be loaded."""
    frequent = [version_id for version_id, _ in Counter(version for _, _, version in runs).most_common(MAX_FLOWS)]
    flows = flow_cache.load(frequent).flows
    organizations = Organization.objects.in_bulk({org_id for _, org_id, _ in runs})
    owners = {version_id: org_id for _, org_id, version_id in runs}
    parts: list[Part] = []
    places: dict[UUID, int] = {}
    for version_id in frequent:
        flow, owner = flows.get(version_id), organizations.get(owners[version_id])
        if flow is None or owner is None or not flow.top:
            continue
        sample = [run_id for run_id, _, version in runs if version == version_id][:INPUTS]
        keyed = any(admit.limits_of(version_id, key).keyed for key in flow.top)
        inputs = list(Run.objects.filter(id__in=sample).order_by("id").values_list("input", flat=True)) if keyed else []
        places[version_id] = len(parts)
        parts.append(
            Part(organization=owner, flow=flow, inputs=inputs or [{}], durations_s=_durations(sample[:SAMPLED]))
        )
    return parts, places


def _durations(run_ids: Sequence[UUID]) -> dict[str, float]:
    """How long steps took in these runs, in seconds."""
    rows = (
        Attempt.objects.filter(run_id__in=run_ids, status="completed", started_at__isnull=False)
        .order_by()
        .values("step_run__key")
        .annotate(mean=Avg(F("ended_at") - F("started_at")))
    )
    return {row["step_run__key"]: row["mean"].total_seconds() for row in rows if row["mean"] is not None}
