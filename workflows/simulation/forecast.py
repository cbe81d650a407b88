"""Predict what limits do to a flow before anyone ships them: the same policies and the gate's model on a virtual clock.

What it leaves out is what the machine costs: a step starts the moment it is granted. Conditions count as true.
"""

from __future__ import annotations

import heapq
import itertools
import math
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Avg, F

from throttling.limits import ConcurrencyLimit, Limit, LimitSet, RateLimit, queue_limit
from throttling.names import Kind, LimitInstance
from throttling.reference.gate import ReferenceGate
from throttling.reference.state import Item, ReferenceState, Rule
from workflows import selectors
from workflows.definitions.compiled import CompiledFlow
from workflows.engine.pipeline import admit
from workflows.errors import InvalidInput
from workflows.models import Attempt, Organization
from workflows.models.run import first_id
from workflows.payload import Json

MAX_STEPS = 50_000
DEFAULT_PERMITS = 400
TOO_LONG = (
    "Trying it took too long, since very many steps wait at once: nothing was changed. Save it without a try, or "
    "simulate fewer arrivals: `manage.py limits simulate`."
)
HISTORY_S = 7 * 24 * 3_600.0


@dataclass(kw_only=True)
class StepForecast:
    """One step over all runs; times in seconds."""

    key: str
    type: str
    duration_s: float
    delays_s: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        ordered = sorted(self.delays_s)
        return {
            "id": self.key,
            "type": self.type,
            "starts": len(ordered),
            "duration": round(self.duration_s * 1000, 1),
            "queueDelay": {
                "mean": round(statistics.fmean(ordered) * 1000, 1) if ordered else 0,
                "p50": round(_quantile(ordered, 0.5) * 1000, 1),
                "p95": round(_quantile(ordered, 0.95) * 1000, 1),
                "max": round(ordered[-1] * 1000, 1) if ordered else 0,
            },
        }


@dataclass(kw_only=True)
class Forecast:
    """What a simulation found. `starts_s`: of steps, from the first arrival; `waited_s`: by limit, over all steps."""

    runs: int
    steps: list[StepForecast]
    starts_s: list[float]
    run_starts_s: list[float]
    ended_s: float
    most_steps: int
    most_runs: int
    waited_s: dict[str, float]

    @property
    def binding(self) -> list[tuple[str, float]]:
        """(limit, share of all waiting), the one that costs most first."""
        total = sum(self.waited_s.values())
        ordered = sorted(self.waited_s.items(), key=lambda entry: -entry[1])
        return [(limit, seconds / total) for limit, seconds in ordered if total and seconds > 0]

    def as_json(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "lastStart": round(self.starts_s[-1], 3) if self.starts_s else 0,
            "lastRunStart": round(self.run_starts_s[-1], 3) if self.run_starts_s else 0,
            "finished": round(self.ended_s, 3),
            "runsPerMinute": round(self.runs / self.ended_s * 60, 2) if self.ended_s else None,
            "mostStepsAtOnce": self.most_steps,
            "mostRunsAtOnce": self.most_runs,
            "bindingLimits": [{"limit": limit, "shareOfWaiting": round(share, 3)} for limit, share in self.binding],
            "steps": [step.as_json() for step in self.steps],
        }


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def durations(organization: Organization, flow: CompiledFlow) -> dict[str, float]:
    """How long the flow's steps took within a week, in seconds; nothing for those that did not run."""
    tries = Attempt.objects.filter(org_id=organization.id, id__gte=first_id(time.time() - HISTORY_S))
    rows = (
        tries.filter(status="completed", step_run__version_id=flow.version_id)
        .values("step_run__key")
        .annotate(mean=Avg(F("ended_at") - F("started_at")))
    )
    return {row["step_run__key"]: row["mean"].total_seconds() for row in rows if row["mean"] is not None}


def permits_of_queues() -> dict[str, int]:
    """What the live workers announce; without any, one I/O worker as `up` starts it."""
    found: Counter[str] = Counter()
    for worker in selectors.live_workers():
        for queue in worker.queues:
            found[queue] += worker.slots + worker.capacity
    return dict(found)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A flow of a simulation: whose it is, its runs' inputs (they take turns), and how long its steps take."""

    organization: Organization
    flow: CompiledFlow
    inputs: Sequence[Json] = ({},)
    durations_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(kw_only=True)
class _Run:
    id: str
    index: int
    part: Part
    left: dict[str, int]
    open: int
    sets: dict[str, LimitSet]
    started: bool = False


class Mixture:
    """One simulation of runs of several flows, of one organization or more.

    `limits_of`: the limits of a step, by its version and key; those of this moment, where nothing else is said.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        default_s: float = 0.01,
        permits: Mapping[str, int] | None = None,
        limits_of: Callable[[UUID, str], admit.StepLimits] = admit.limits_of,
    ) -> None:
        self.parts, self._limits_of = list(parts), limits_of
        self.model = ReferenceGate(state=ReferenceState(now_us=1))
        self.permits = dict(permits or {})
        self._events: list[tuple[int, int, str, Any]] = []
        self._order = itertools.count()
        self._runs: dict[str, _Run] = {}
        self._ready_us: dict[str, int] = {}
        self._running = self._live = self._most_steps = self._most_runs = 0
        self._starts: list[float] = []
        self._run_starts: list[float] = []
        self._forecasts = {
            (part.flow.version_id, key): StepForecast(
                key=key, type=part.flow.steps[key].type.name, duration_s=part.durations_s.get(key, default_s)
            )
            for part in self.parts
            for key in part.flow.top
        }
        self._cache: dict[tuple[UUID, str, int], LimitSet] = {}

    def replay(self, arrivals: Sequence[tuple[float, int]], *, until_s: float = math.inf) -> Forecast:
        """Let runs arrive: each at a time, and of a part.

        Raises InvalidInput for more than MAX_STEPS steps, and where it is not done by `until_s` (of time.monotonic).
        """
        if sum(len(self.parts[part].flow.top) for _, part in arrivals) > MAX_STEPS:
            raise InvalidInput(f"That is more than {MAX_STEPS:,} steps; simulate a shorter time or a lower rate.")
        for index, (moment, part) in enumerate(arrivals):
            self._later(round(moment * 1e6) + 1, "arrive", (index, self.parts[part]))
        ended = 0
        while self._events:
            if time.monotonic() > until_s:
                raise InvalidInput(TOO_LONG)
            moment, _, kind, value = heapq.heappop(self._events)
            self.model.state.now_us = max(self.model.state.now_us, moment)
            if kind == "arrive":
                self._arrive(*value)
            elif kind == "end":
                ended = self.model.state.now_us
                self._end(*value)
            else:
                self._start(self.model.wake())
            self._plan_wake()
        return Forecast(
            runs=len(arrivals),
            steps=list(self._forecasts.values()),
            starts_s=sorted(self._starts),
            run_starts_s=sorted(self._run_starts),
            ended_s=(ended - 1) / 1e6 if ended else 0.0,
            most_steps=self._most_steps,
            most_runs=self._most_runs,
            waited_s={limit: us / 1e6 for limit, us in self.model.state.waited_us.items()},
        )

    def _later(self, moment: int, kind: str, value: Any = None) -> None:
        heapq.heappush(self._events, (moment, next(self._order), kind, value))

    def _plan_wake(self) -> None:
        if not self.model.state.waiters:
            return
        due = self.model.next_due_us()
        if due < math.inf and not (self._events and self._events[0][0] <= due):
            self._later(max(int(due), self.model.state.now_us), "wake")

    def _arrive(self, index: int, part: Part) -> None:
        flow, number = part.flow, index % len(part.inputs)
        run = _Run(
            id=f"r{index}",
            index=index,
            part=part,
            left={key: len(flow.steps[key].needs) for key in flow.top},
            open=len(flow.top),
            sets={key: self._limits(part, key, number) for key in flow.top},
        )
        self._runs[run.id] = run
        self._ask([self._item(run, key) for key, left in run.left.items() if left == 0])

    def _limits(self, part: Part, key: str, number: int) -> LimitSet:
        place = (part.flow.version_id, key, number)
        found = self._cache.get(place)
        if found is None:
            entry = self._limits_of(part.flow.version_id, key)
            lane = part.flow.steps[key].facts.lane
            queue = queue_limit(lane, self.permits.get(lane) or DEFAULT_PERMITS)
            limits = (*[limit for limit in entry.limits if limit.source != "queue"], queue)
            data = part.inputs[number]
            scope = {
                "input": data,
                "event": {"name": "", "data": data, "user": {}, "id": "", "ts": 0},
                "org": {"id": str(part.organization.id), "slug": part.organization.slug},
            }
            found = self._evaluate(
                admit.StepLimits(
                    revision=entry.revision, limits=limits, keyed=True, fixed=entry.fixed, slack_us=entry.slack_us,
                    lane=lane,
                    by_level=entry.by_level, problem=entry.problem,
                ),
                scope,
            )  # fmt: skip
            self._cache[place] = found
            for limit in limits:
                self._define(limit, found)
        return found

    def _evaluate(self, limits: admit.StepLimits, scope: Mapping[str, Any]) -> LimitSet:
        """The limits with their keys. Raises ConfigurationFailure."""
        return admit.evaluate(limits, scope)

    def _define(self, limit: Limit, found: LimitSet) -> None:
        for instance in (*found.steps, *found.runs):
            if LimitInstance.parse(instance).name != limit.name:
                continue
            if isinstance(limit.bound, ConcurrencyLimit):
                self.model.state.rules[instance] = Rule(kind=Kind.CONCURRENCY, limit=limit.bound.max_running)
            elif isinstance(limit.bound, RateLimit):
                self.model.state.rules[instance] = Rule(
                    kind=limit.kind,
                    limit=limit.bound.max_executions,
                    period_us=limit.bound.per_ms * 1000,
                    burst=limit.bound.burst,
                )

    def _item(self, run: _Run, key: str) -> Item:
        limits, step = run.sets[key], run.part.flow.steps[key]
        id_ = f"{run.id}/{key}"
        self._ready_us[id_] = self.model.state.now_us
        return Item(
            id=id_,
            steps=limits.steps,
            runs=limits.runs,
            run=run.id if limits.runs else "",
            lane=step.facts.lane,
            tenant=run.part.organization.id.hex,
        )

    def _ask(self, items: Sequence[Item]) -> None:
        if items:
            self._start(self.model.admit(items)[0])

    def _start(self, granted: Sequence[str]) -> None:
        for id_ in list(granted):
            self.model.confirm("s", [id_])
            run_id, key = id_.split("/", 1)
            run, now = self._runs[run_id], self.model.state.now_us
            if not run.started:
                run.started = True
                self._live += 1
                self._most_runs = max(self._most_runs, self._live)
                self._run_starts.append((now - 1) / 1e6)
            self._running += 1
            self._most_steps = max(self._most_steps, self._running)
            self._starts.append((now - 1) / 1e6)
            forecast = self._forecasts[run.part.flow.version_id, key]
            forecast.delays_s.append((now - self._ready_us.pop(id_)) / 1e6)
            self._later(now + max(1, round(forecast.duration_s * 1e6)), "end", (run, key))

    def _end(self, run: _Run, key: str) -> None:
        self._running -= 1
        run.open -= 1
        ready: list[Item] = []
        for successor in run.part.flow.steps[key].successors:
            run.left[successor] -= 1
            if run.left[successor] == 0:
                ready.append(self._item(run, successor))
        if run.open == 0:
            self._live -= 1
            del self._runs[run.id]
        ended = [run.id] if run.open == 0 else []
        self._start(self.model.release({"s": [f"{run.id}/{key}"]}, ready, runs=ended)[0])


class Simulation(Mixture):
    """One simulation of a flow under the policies of this moment."""

    def __init__(
        self,
        organization: Organization,
        flow: CompiledFlow,
        *,
        inputs: Sequence[Json] = ({},),
        durations_s: Mapping[str, float] | None = None,
        default_s: float = 0.01,
        permits: Mapping[str, int] | None = None,
    ) -> None:
        part = Part(organization=organization, flow=flow, inputs=list(inputs) or [{}], durations_s=durations_s or {})
        super().__init__([part], default_s=default_s, permits=permits)

    def run(self, arrivals_s: Iterator[float] | Sequence[float]) -> Forecast:
        """Let runs arrive at these times. Raises InvalidInput for more than MAX_STEPS steps."""
        return self.replay([(moment, 0) for moment in arrivals_s])


def steady(rate_per_s: float, seconds: float) -> list[float]:
    """Arrivals at an even rate. Raises InvalidInput for none, and for more than MAX_STEPS."""
    if not rate_per_s > 0 or rate_per_s * seconds > MAX_STEPS:
        raise InvalidInput(
            f"That is no run at all, or more than {MAX_STEPS:,} of them; simulate a shorter time or another rate."
        )
    return [number / rate_per_s for number in range(max(1, round(rate_per_s * seconds)))]


def fullest_window(starts: Sequence[float], period: float) -> int:
    """The most starts in any half-open window [t, t + period), in whatever unit both are."""
    ordered = sorted(starts)
    fullest = first = 0
    for position, moment in enumerate(ordered):
        while moment - ordered[first] >= period:
            first += 1
        fullest = max(fullest, position - first + 1)
    return fullest


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """The most (start, end) spans that overlap at an instant; one that ends as another starts does not."""
    events = sorted(event for start, end in spans for event in ((start, 1), (end, -1)))
    return max(itertools.accumulate(change for _, change in events), default=0)


def staircase(starts_s: Sequence[float], period_s: float) -> dict[int, int]:
    """Starts by period since the first."""
    counts: dict[int, int] = defaultdict(int)
    for moment in starts_s:
        counts[int((moment - min(starts_s)) / period_s)] += 1
    return dict(sorted(counts.items()))
