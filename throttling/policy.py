"""Which policy applies to a step. Pure: the shipped table, the environment, the definition and the overrides come in.

Every scope adds its limits (all must have room): run limits, the organization's, the flow's, the step's own or its
type's, the provider's, the global one, the queue's. An override replaces a value of its scope; a step's own
`throttling` replaces what its type says, dimension by dimension.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from uuid import UUID

from throttling.defaults import BY_TYPE, CRITICAL_BY_TYPE
from throttling.environment import RunPolicy, global_policy, global_run_policy
from throttling.errors import ThrottlingError
from throttling.limits import ConcurrencyLimit, Limit, RateLimit, StepPolicy, usable_weight
from throttling.names import DIMENSIONS, STOPS, Dimension, LimitName, Scope
from throttling.retry import BackoffKind, RetryPolicy

BOOT = int(time.time())
"""Seconds of the epoch at which this process began."""
SCOPES = ("global", "runs", "type", "flow", "org", "limit")
Bound = ConcurrencyLimit | RateLimit


def step_policy(step_type: str, *, critical: bool, retry: RetryPolicy | None = None) -> StepPolicy:
    """The shipped policy of a step. `critical` means that the definition says `critical: true` itself."""
    table = CRITICAL_BY_TYPE if critical and step_type in CRITICAL_BY_TYPE else BY_TYPE
    policy = table.get(step_type) or global_policy()
    return replace(policy, retry=retry) if retry else policy


PRIORITY_LEVELS = {"critical": 600, "high": 300, "normal": 0, "low": -300, "background": -600}
"""Seconds of head start."""
MAX_HEAD_START_S = max(PRIORITY_LEVELS.values())


def level_of(priority: int) -> str:
    """The level that a priority (seconds of head start) is nearest to."""
    return min(PRIORITY_LEVELS, key=lambda level: (abs(PRIORITY_LEVELS[level] - priority), PRIORITY_LEVELS[level]))


@dataclass(frozen=True, kw_only=True)
class DeclaredLimit:
    """A limit that a flow declares: `bound` per value of `key`; with `runs` it counts whole runs. With `level` it holds
    for runs of that priority only."""

    bound: Bound
    key: str | None = None
    runs: bool = False
    level: str = ""


@dataclass(frozen=True, kw_only=True)
class StepThrottling:
    """What a step says itself: limits of its own, or the name of a shared one."""

    concurrency: int | None = None
    rate: RateLimit | None = None
    key: str | None = None
    rate_key: str | None = None
    named: str | None = None


@dataclass(frozen=True, kw_only=True)
class StepFacts:
    """What the policy of a step depends on. `critical`: the definition says `critical: true` itself."""

    type: str
    critical: bool
    key: str
    flow_id: UUID
    org_id: UUID
    version: int
    lane: str
    """Where its queue's permits are counted: the queue, or a part of it."""
    retry: RetryPolicy | None = None
    throttling: StepThrottling | None = None
    flow_limits: tuple[DeclaredLimit, ...] = ()
    provider: str = ""
    """The host that the step calls, where it is known before the step runs."""
    queue: str = ""
    """What pauses and drains name; empty: as `lane`."""
    only_drives: bool = False
    """It only asks for steps: limits of runs hold for it, and stops."""


@dataclass(frozen=True, kw_only=True)
class Override:
    """A row that replaces values live; empty fields leave them as they are."""

    scope: str
    type: str = ""
    flow_id: UUID | None = None
    org_id: UUID | None = None
    name: str = ""
    concurrency: int | None = None
    rate: RateLimit | None = None
    key: str = ""
    max_attempts: int | None = None
    backoff: BackoffKind | None = None
    delay_ms: int | None = None
    max_delay_ms: int | None = None
    weight: float | None = None

    @property
    def subject(self) -> tuple[str, str, UUID | None, UUID | None, str]:
        return (self.scope, self.type, self.flow_id, self.org_id, self.name)

    def bound(self, dimension: Dimension) -> Bound | None:
        """The override's value of a dimension; None where it leaves that as it is."""
        if dimension == Dimension.CONCURRENCY:
            return ConcurrencyLimit(max_running=self.concurrency) if self.concurrency is not None else None
        return self.rate

    def retry(self, base: RetryPolicy) -> RetryPolicy:
        """The base with what the override says."""
        return base.overridden(
            max_attempts=self.max_attempts,
            backoff=self.backoff,
            delay_ms=self.delay_ms,
            max_delay_ms=self.max_delay_ms,
        )


class UnknownLimit(ThrottlingError):
    """There is no shared limit of this name."""


_Subject = tuple[str, str, UUID | None, UUID | None, str]


@dataclass(frozen=True, kw_only=True)
class Policies:
    """All policies at one revision."""

    steps: StepPolicy = field(default_factory=global_policy)
    runs: RunPolicy = field(default_factory=global_run_policy)
    overrides: Mapping[_Subject, Override] = field(default_factory=dict)
    revision: int = 0

    def override(
        self, scope: str, *, type_: str = "", flow_id: UUID | None = None, org_id: UUID | None = None, name: str = ""
    ) -> Override | None:
        return self.overrides.get((scope, type_, flow_id, org_id, name))

    def shared(self, name: str, org_id: UUID) -> Override | None:
        """A shared limit: the organization's own, else the one for all."""
        return self.override("limit", name=name, org_id=org_id) or self.override("limit", name=name)

    @property
    def run_places(self) -> int | None:
        """How many runs may work at once; None: as many as there are."""
        found = self.override("runs")
        return (found.concurrency if found else None) or self.runs.concurrency

    def weight(self, org_id: UUID) -> float:
        """The share of an organization among those that wait for the same limit."""
        found = self.override("org", org_id=org_id)
        return usable_weight(found.weight if found else None)

    def retry(self, facts: StepFacts) -> RetryPolicy:
        """The step's own or its flow's; else that of its type, with the overrides for all, for the organization and for
        the flow, in this order."""
        if facts.retry:
            return facts.retry
        base = step_policy(facts.type, critical=facts.critical).retry
        if facts.type not in BY_TYPE:
            base = self._global_retry()
        for found in self._type_overrides(facts):
            base = found.retry(base)
        of_flow = self.flow_override(facts.flow_id)
        return of_flow.retry(base) if of_flow else base

    def flow_override(self, flow_id: UUID) -> Override | None:
        """The override of a flow, which names its organization too: a limit's name in the store does not."""
        return self._by_flow.get(flow_id)

    @cached_property
    def _by_flow(self) -> dict[UUID, Override]:
        of_flows = [override for override in self.overrides.values() if override.scope == Scope.FLOW]
        return {override.flow_id: override for override in of_flows if override.flow_id and override.org_id}

    def _global_retry(self) -> RetryPolicy:
        found = self.override("global")
        return found.retry(self.steps.retry) if found else self.steps.retry

    def globals(self) -> StepPolicy:
        """The global policy as it is now."""
        found = self.override("global")
        if found is None:
            return self.steps
        return StepPolicy(
            concurrency=found.concurrency or self.steps.concurrency,
            rate=found.rate or self.steps.rate,
            retry=self._global_retry(),
        )

    def _type_overrides(self, facts: StepFacts) -> Iterator[Override]:
        """Least specific first."""
        for org_id in (None, facts.org_id):
            found = self.override("type", type_=facts.type, org_id=org_id)
            if found:
                yield found

    def effective(self, facts: StepFacts) -> StepPolicy:
        """The closest limits and the retries of a step, as the metrics show them."""
        bounds: dict[Dimension, Bound] = {}
        for limit in self.limits(facts, lenient=True):
            if limit.bound is not None and not limit.runs and limit.source in {"step", "named", "type"}:
                dimension = limit.bound.dimension
                known = bounds.get(dimension)
                narrower = isinstance(limit.bound, ConcurrencyLimit) and isinstance(known, ConcurrencyLimit)
                if known is None or (narrower and limit.bound.max_running < known.max_running):  # type: ignore[union-attr]
                    bounds[dimension] = limit.bound
        whole = self.globals()
        concurrency, rate = bounds.get(Dimension.CONCURRENCY), bounds.get(Dimension.RATE)
        return StepPolicy(
            concurrency=concurrency.max_running if isinstance(concurrency, ConcurrencyLimit) else whole.concurrency,
            rate=rate if isinstance(rate, RateLimit) else whole.rate,
            retry=self.retry(facts),
        )

    def limits(self, facts: StepFacts, *, lenient: bool = False) -> list[Limit]:
        """Every limit of a step, in the order in which they are asked.

        Raises UnknownLimit for a shared limit that does not exist (`lenient`: it is left out).
        """
        found = [
            *self._stops(facts),
            *self._run_limits(facts),
            *self._scope_limits(
                LimitName(scope=Scope.ORG, org_id=facts.org_id), self.override("org", org_id=facts.org_id)
            ),
            *self._flow_limits(facts),
            *self._own_limits(facts, lenient=lenient),
        ]
        if facts.provider:
            provider = LimitName(scope=Scope.PROVIDER, org_id=facts.org_id, subject=facts.provider)
            found.append(Limit(name=provider, bound=None, source="provider"))
        found += [self._global_limit(dimension) for dimension in DIMENSIONS]
        return [limit for limit in found if limit.runs or limit.source == "stop"] if facts.only_drives else found

    def _stops(self, facts: StepFacts) -> Iterator[Limit]:
        """Pauses and drains of the flow, the organization and the queue."""
        for scope in STOPS:
            for found in (
                self.override(scope, flow_id=facts.flow_id, org_id=facts.org_id),
                self.override(scope, org_id=facts.org_id),
                self.override(scope, name=facts.queue or facts.lane),
            ):
                if found is not None:
                    name = LimitName.of_stop(scope, org_id=found.org_id, flow_id=found.flow_id, queue=found.name)
                    bound = ConcurrencyLimit(max_running=1)  # its definition in the store says 0
                    yield Limit(
                        name=name, bound=bound, base="0", base_stamp=BOOT, runs=scope is Scope.DRAIN, source="stop"
                    )

    def _global_limit(self, dimension: Dimension) -> Limit:
        base = self.steps.bound(dimension)
        return self._limit(
            LimitName(scope=Scope.GLOBAL, dimension=dimension),
            base,
            BOOT,
            source="global",
            override=self.override("global"),
        )

    def _limit(
        self,
        name: LimitName,
        base: Bound | None,
        stamp: int,
        *,
        source: str,
        override: Override | None = None,
        key: str | None = None,
        runs: bool = False,
    ) -> Limit:
        over = override.bound(name.dimension) if override and name.dimension else None
        bound = over or base
        assert bound is not None
        return Limit(
            name=name,
            bound=bound,
            base=base.value if base else "",
            base_stamp=stamp,
            override=over.value if over else "",
            override_revision=self.revision,
            key=key,
            runs=runs,
            source=source,
        )

    def _run_limits(self, facts: StepFacts) -> Iterator[Limit]:
        override = self.override("runs")
        bases: dict[Dimension, Bound | None] = {
            Dimension.CONCURRENCY: _concurrency(self.runs.concurrency or None),
            Dimension.RATE: self.runs.rate,
        }
        for dimension, base in bases.items():
            if base or (override and override.bound(dimension)):
                name = LimitName(scope=Scope.RUNS, dimension=dimension)
                yield self._limit(name, base, BOOT, source="runs", override=override, runs=True)
        for position, declared in enumerate(facts.flow_limits):
            if declared.runs:
                yield self._declared(facts, position, declared)

    def _declared(self, facts: StepFacts, position: int, declared: DeclaredLimit) -> Limit:
        scope = Scope.RUN if declared.runs else Scope.FLOW
        name = LimitName(scope=scope, dimension=declared.bound.dimension, flow_id=facts.flow_id, position=position)
        limit = self._limit(name, declared.bound, facts.version, source=scope, key=declared.key, runs=declared.runs)
        return replace(limit, level=declared.level) if declared.level else limit

    def _scope_limits(self, subject: LimitName, override: Override | None) -> Iterator[Limit]:
        """The limits that only an override makes. `subject`: their name without a dimension."""
        for dimension in DIMENSIONS:
            if override and override.bound(dimension):
                name = replace(subject, dimension=dimension)
                yield self._limit(name, None, 0, source=name.scope, override=override, key=override.key or None)

    def _flow_limits(self, facts: StepFacts) -> Iterator[Limit]:
        for position, declared in enumerate(facts.flow_limits):
            if not declared.runs:
                yield self._declared(facts, position, declared)
        yield from self._scope_limits(
            LimitName(scope=Scope.FLOW, flow_id=facts.flow_id), self.flow_override(facts.flow_id)
        )

    def _own_limits(self, facts: StepFacts, *, lenient: bool) -> Iterator[Limit]:
        own = facts.throttling or StepThrottling()
        replaced: set[Dimension] = set()
        if own.named:
            override = self.shared(own.named, facts.org_id)
            if override is None and not lenient:
                raise UnknownLimit(
                    f"There is no shared limit {own.named!r}; `manage.py limits set --limit {own.named} …` creates it."
                )
            if override is not None:
                shared = partial(LimitName, scope=Scope.LIMIT, org_id=override.org_id, subject=own.named)
                for dimension in DIMENSIONS:
                    if override.bound(dimension):
                        replaced.add(dimension)
                        key, name = own.key or override.key or None, shared(dimension=dimension)
                        yield self._limit(name, None, 0, source="named", override=override, key=key)
        typed = list(self._type_limits(facts))
        for dimension in DIMENSIONS:
            key = (own.rate_key if dimension == Dimension.RATE else None) or own.key
            base = own.rate if dimension == Dimension.RATE else _concurrency(own.concurrency)
            if base is None and key and dimension not in replaced:
                base = next((limit.bound for limit in typed if limit.name.dimension == dimension), None)
            if base is not None:
                replaced.add(dimension)
                name = LimitName(scope=Scope.STEP, dimension=dimension, flow_id=facts.flow_id, subject=facts.key)
                yield self._limit(name, base, facts.version, source="step", key=key)
        yield from (limit for limit in typed if limit.name.dimension not in replaced)

    def _type_limits(self, facts: StepFacts) -> Iterator[Limit]:
        """Types are kept apart by organization; critical steps have a stricter concurrency within their type's."""
        base = BY_TYPE.get(facts.type)
        overrides = list(self._type_overrides(facts))
        named = partial(LimitName, scope=Scope.TYPE, org_id=facts.org_id, subject=facts.type)
        for dimension in DIMENSIONS:
            given = base.bound(dimension) if base else None
            override = next((o for o in reversed(overrides) if o.bound(dimension)), None)
            if given or override:
                key = (override.key or None) if override else None
                name = named(dimension=dimension)
                yield self._limit(name, given, BOOT, source="type", override=override, key=key)
        strict = CRITICAL_BY_TYPE.get(facts.type)
        if facts.critical and strict and not any(o.bound(Dimension.CONCURRENCY) for o in overrides):
            bound = ConcurrencyLimit(max_running=strict.concurrency)
            name = named(dimension=Dimension.CONCURRENCY, critical=True)
            yield self._limit(name, bound, BOOT, source="type")

    def override_value(self, name: LimitName) -> str:
        """The override's value of a limit by its name in the store; empty where there is none."""
        if name.dimension is None:
            return ""
        found: Override | None = None
        if name.scope in {Scope.GLOBAL, Scope.RUNS}:
            found = self.override(name.scope)
        elif name.scope is Scope.TYPE and not name.critical:
            rows = [self.override("type", type_=name.subject, org_id=org) for org in (name.org_id, None)]
            found = next((row for row in rows if row and row.bound(name.dimension)), None)
        elif name.scope is Scope.ORG:
            found = self.override("org", org_id=name.org_id)
        elif name.scope is Scope.FLOW and name.flow_id and name.position is None:
            found = self.flow_override(name.flow_id)
        elif name.scope is Scope.LIMIT:
            found = self.override("limit", name=name.subject, org_id=name.org_id)
        bound = found.bound(name.dimension) if found else None
        return bound.value if bound else ""


def _concurrency(value: int | None) -> ConcurrencyLimit | None:
    return ConcurrencyLimit(max_running=value) if value is not None else None
