"""What the reference gate knows: permits, waiters and starts, and how much room they leave. Times in microseconds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from throttling import clocks
from throttling.names import Kind, LimitInstance, Scope, kind_of, queue_instance, run_of_permit, run_permit

START_COSTS_S = 1


@dataclass(kw_only=True)
class Rule:
    """What a limit's instance allows. `kind`: c, w, g or p, as in the store."""

    kind: str
    limit: int = 0
    period_us: int = 0
    burst: int = 1
    timed: bool = False
    """A queue that its tenants share by time."""
    kept: int = 0
    """Of such a queue: how many places one tenant leaves free."""

    @property
    def bucket_us(self) -> int:
        return clocks.bucket_us(self.period_us)

    @property
    def slack_us(self) -> int:
        return clocks.slack_us(self.period_us)


@dataclass(frozen=True, kw_only=True)
class Item:
    """A step that wants to start, with the instances that it needs; `runs` are those of its run."""

    id: str
    steps: tuple[str, ...]
    tenant: str = "t"
    weight: float = 1.0
    lane: str = "q"
    head_start_us: int = 0
    runs: tuple[str, ...] = ()
    run: str = ""
    lease: str = ""


def is_place(limit: str) -> bool:
    """Whether it counts the places among all runs, which a run that only waits gives up."""
    instance = LimitInstance.parse(limit)
    return instance.kind == Kind.CONCURRENCY and instance.name.scope is Scope.RUNS


@dataclass(kw_only=True)
class Permit:
    """State r, l, L, h or s (see `lua/core/permits.lua`)."""

    item: Item
    state: str
    token: str
    stamp_us: int
    score: int
    expires_us: float


@dataclass(kw_only=True)
class Waiter:
    """A place in the wait set of `limit`."""

    item: Item
    limit: str
    score: int
    since_us: int


@dataclass(kw_only=True)
class ReferenceState:
    """All of it. `now_us` is set by the caller before each verb."""

    rules: dict[str, Rule] = field(default_factory=dict)
    now_us: int = 0
    permits: dict[str, Permit] = field(default_factory=dict)
    waiters: dict[str, Waiter] = field(default_factory=dict)
    queues: dict[str, dict[str, Waiter]] = field(default_factory=dict)
    waited_us: dict[str, int] = field(default_factory=dict)
    starts: dict[str, list[int]] = field(default_factory=dict)
    arrival: dict[str, float] = field(default_factory=dict)
    pauses: dict[str, int] = field(default_factory=dict)
    virtual: dict[str, dict[str, float]] = field(default_factory=dict)
    served: dict[str, float] = field(default_factory=dict)

    # --- room -------------------------------------------------------------------------------------------------

    def in_use(self, limit: str) -> int:
        """Uses: permits of a concurrency limit, reservations of a rate limit."""
        kind = kind_of(limit)
        count = 0
        for id_, permit in self.permits.items():
            limits = permit.item.runs if run_of_permit(id_) is not None else permit.item.steps
            if permit.state == "s":
                limits = tuple(each for each in limits if not is_place(each))
            if permit.state == "l":
                limits = (queue_instance(permit.item.lane),)
            if limit in limits and (kind == Kind.CONCURRENCY or permit.state == "r"):
                count += 1
        return count

    def started(self, limit: str) -> int:
        """Starts that count in the window now."""
        rule = self.rules[limit]
        edge = self.now_us - rule.period_us - rule.slack_us
        self.starts[limit] = [bucket for bucket in self.starts.get(limit, []) if bucket > edge]
        return len(self.starts[limit])

    def room(self, limit: str) -> float:
        """How many more may start now."""
        if self.pauses.get(limit, 0) > self.now_us:
            return 0
        kind = kind_of(limit)
        if kind == Kind.PAUSE:
            return math.inf
        rule = self.rules[limit]
        if kind == Kind.CONCURRENCY:
            return rule.limit - self.in_use(limit)
        if kind == Kind.WINDOW:
            return rule.limit - self.started(limit) - self.in_use(limit)
        each = rule.period_us / rule.limit
        ahead = self.now_us + (rule.burst - 1) * each - max(self.now_us, self.arrival.get(limit, 0))
        return math.floor(ahead / each + 1e-9) + 1 - self.in_use(limit)

    def is_timed(self, limit: str) -> bool:
        """Whether it is a queue that its tenants share by time."""
        rule = self.rules.get(limit)
        return rule is not None and rule.timed and LimitInstance.parse(limit).name.scope is Scope.QUEUE

    def share_left(self, limit: str, tenant: str) -> int:
        """How many more places of a timed limit a tenant may hold."""
        rule = self.rules[limit]
        held = sum(
            limit in permit.item.steps and permit.item.tenant == tenant
            for id_, permit in self.permits.items()
            if run_of_permit(id_) is None
        )
        return max(1, rule.limit - rule.kept) - held

    def waiting(self, limit: str) -> list[Waiter]:
        return [*self.queues.get(limit, {}).values()]

    def has_waiters(self, limit: str) -> bool:
        return bool(self.queues.get(limit))

    def waited_for(self) -> list[str]:
        """The limits that somebody waits for."""
        return [limit for limit, queue in self.queues.items() if queue]

    def next_free(self, limit: str) -> float:
        if self.pauses.get(limit, 0) > self.now_us:
            return self.pauses[limit]
        if kind_of(limit) == Kind.WINDOW:
            rule = self.rules[limit]
            return min(self.starts.get(limit, []), default=math.inf) + rule.period_us + rule.slack_us
        if kind_of(limit) == Kind.GCRA:
            rule = self.rules[limit]
            each = rule.period_us / rule.limit
            first = max(self.now_us, self.arrival.get(limit, 0))
            return math.ceil(first + self.in_use(limit) * each - (rule.burst - 1) * each)
        return math.inf

    # --- what the verbs change --------------------------------------------------------------------------------

    def forget_shares(self, limit: str) -> None:
        self.virtual.pop(limit, None)
        self.served.pop(limit, None)

    def bill_start(self, limit: str, item: Item) -> None:
        times = self.virtual.setdefault(limit, {})
        self.served[limit] = max(times.get(item.tenant, 0.0), self.served.get(limit, 0.0))
        times[item.tenant] = self.served[limit] + START_COSTS_S / item.weight

    def bill_end(self, permit: Permit) -> None:
        limit = queue_instance(permit.item.lane)
        times = self.virtual.get(limit, {})
        if self.is_timed(limit) and permit.item.tenant in times:
            used = (self.now_us - permit.stamp_us) / 1_000_000 if permit.state == "L" else 0
            times[permit.item.tenant] += (used - START_COSTS_S) / permit.item.weight

    def run_of(self, item: Item) -> Permit | None:
        return self.permits.get(run_permit(item.run))

    def stamp(self, limits: Iterable[str], count: int) -> None:
        for limit in limits:
            rule = self.rules.get(limit)
            if kind_of(limit) == Kind.WINDOW and rule:
                bucket = math.ceil(self.now_us / rule.bucket_us) * rule.bucket_us
                known = self.starts.setdefault(limit, [])
                known += [max([bucket, *known[-1:]])] * count
            elif kind_of(limit) == Kind.GCRA and rule:
                first = max(self.now_us, self.arrival.get(limit, 0))
                self.arrival[limit] = first + count * rule.period_us / rule.limit

    def park(self, item: Item, limit: str, score: int) -> None:
        times = self.virtual.setdefault(limit, {})
        if not any(waiter.item.tenant == item.tenant for waiter in self.queues.get(limit, {}).values()):
            times[item.tenant] = max(times.get(item.tenant, 0.0), self.served.get(limit, 0.0))
        waiter = Waiter(item=item, limit=limit, score=score, since_us=self.now_us)
        self.waiters[item.id] = self.queues.setdefault(limit, {})[item.id] = waiter

    def leave(self, id_: str) -> Waiter:
        waiter = self.waiters.pop(id_)
        del self.queues[waiter.limit][id_]
        self.waited_us[waiter.limit] = self.waited_us.get(waiter.limit, 0) + self.now_us - waiter.since_us
        return waiter
