"""The gate as plain Python on a clock that is passed in: what the Lua is tested against, and what `simulate` runs.

It keeps to the rules of `lua/core` and none of its tricks: sets and lists, scanned. Times are in microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

RESERVATION_US = 15_000_000
START_COSTS_S = 1
LEASE_US = 15_000_000


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
        return max(1, self.period_us // 1000)

    @property
    def slack_us(self) -> int:
        return min(100_000, self.period_us // 50)


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
    return limit.startswith("c:runs:")


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
class Model:
    """The state. `now_us` is set by the caller before each verb."""

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
    granted: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    parked: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    _take: int = 0
    _lanes: frozenset[str] = frozenset()
    _lease: str = ""
    _sequence: int = 0

    # --- verbs ------------------------------------------------------------------------------------------------

    def admit(
        self, items: Iterable[Item], *, take: int = 0, lanes: Iterable[str] = (), lease: str = ""
    ) -> tuple[list[str], list[str], list[str]]:
        """(granted, taken, parked)."""
        self._begin(take, lanes, lease)
        for item in items:
            self._admit_one(item)
        return self._end()

    def confirm(self, lease: str, ids: Iterable[str]) -> list[str]:
        """The ids without a permit to start; `granted` has those who may start by what became certain."""
        self._begin()
        unknown = []
        touched: set[str] = set()
        for id_ in ids:
            permit = self.permits.get(id_)
            if permit and permit.state == "r" and (not permit.item.runs or self._run(permit.item)):
                run = self._run(permit.item)
                if run and run.state == "r":
                    self._stamp(permit.item.runs, 1)
                    run.state, run.expires_us = "h", math.inf
                    touched |= set(permit.item.runs)
                self._stamp(permit.item.steps, 1)
                touched |= set(permit.item.steps)
                permit.state, permit.token, permit.stamp_us = "L", lease, self.now_us
                permit.expires_us = self.now_us + LEASE_US
            elif not (permit and permit.state == "L" and permit.token == lease):
                unknown.append(id_)
        self._pump_all({limit for limit in touched if limit[0] in "wg"})
        self._end()
        return unknown

    def release(
        self,
        leases: Mapping[str, Iterable[str]],
        items: Iterable[Item] = (),
        *,
        unused: Iterable[str] = (),
        runs: Iterable[str] = (),
        sleepers: Iterable[str] = (),
        pauses: Mapping[str, int] | None = None,
        take: int = 0,
        lanes: Iterable[str] = (),
        lease: str = "",
    ) -> tuple[list[str], list[str], list[str]]:
        """(granted, taken, parked)."""
        self._begin(take, lanes, lease)
        touched: set[str] = set()
        for token, ids in leases.items():
            for id_ in ids:
                permit = self.permits.get(id_)
                if permit and permit.state == "L" and permit.token == token:
                    touched |= self._drop(id_)
        for id_ in unused:
            permit = self.permits.get(id_)
            if permit and permit.state in "rl":
                touched |= self._drop(id_)
            if id_ in self.waiters:
                touched.add(self._leave(id_).limit)
        for run in runs:
            if "run:" + run in self.permits:
                touched |= self._drop("run:" + run)
        for run in sleepers:
            touched |= self._put_to_sleep(run)
        for limit, micros in (pauses or {}).items():
            self.pauses[limit] = max(self.pauses.get(limit, 0), self.now_us + micros)
        self._pump_all(touched)
        for item in items:
            self._admit_one(item)
        return self._end()

    def renew(self, leases: Mapping[str, Iterable[str]]) -> None:
        for token, ids in leases.items():
            for id_ in ids:
                permit = self.permits.get(id_)
                if permit and permit.state == "L" and permit.token == token:
                    permit.expires_us = self.now_us + LEASE_US

    def wake(self, rules: Mapping[str, Rule] | None = None) -> list[str]:
        """What may start by the passing of time; `rules` are values that were changed."""
        self._begin()
        self.rules.update(rules or {})
        touched: set[str] = set()
        for id_, permit in sorted(self.permits.items(), key=lambda entry: (entry[1].expires_us, entry[0])):
            if permit.expires_us <= self.now_us:
                if permit.state == "r" and not id_.startswith("run:"):
                    touched |= set(permit.item.steps) - {"c:queue:" + permit.item.lane}
                    permit.state, permit.expires_us = "l", math.inf
                else:
                    touched |= self._drop(id_)
        self._pump_all(touched | {waiter.limit for waiter in self.waiters.values()})
        return self._end()[0]

    def next_due_us(self) -> float:
        """When `wake` has something to do next."""
        times = [permit.expires_us for permit in self.permits.values()]
        times += [self._next_free(waiter.limit) for waiter in self.waiters.values()]
        return min(times, default=math.inf)

    # --- room -------------------------------------------------------------------------------------------------

    def in_use(self, limit: str) -> int:
        """Uses: permits of a concurrency limit, reservations of a rate limit."""
        kind = limit[0]
        count = 0
        for id_, permit in self.permits.items():
            limits = permit.item.runs if id_.startswith("run:") else permit.item.steps
            if permit.state == "s":
                limits = tuple(each for each in limits if not is_place(each))
            if permit.state == "l":
                limits = ("c:queue:" + permit.item.lane,)
            if limit in limits and (kind == "c" or permit.state == "r"):
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
        kind = limit[0]
        if kind == "p":
            return math.inf
        rule = self.rules[limit]
        if kind == "c":
            return rule.limit - self.in_use(limit)
        if kind == "w":
            return rule.limit - self.started(limit) - self.in_use(limit)
        each = rule.period_us / rule.limit
        ahead = self.now_us + (rule.burst - 1) * each - max(self.now_us, self.arrival.get(limit, 0))
        return math.floor(ahead / each + 1e-9) + 1 - self.in_use(limit)

    def is_timed(self, limit: str) -> bool:
        """Whether it is a queue that its tenants share by time."""
        rule = self.rules.get(limit)
        return limit.startswith("c:queue:") and rule is not None and rule.timed

    def share_left(self, limit: str, tenant: str) -> int:
        """How many more places of a timed limit a tenant may hold."""
        rule = self.rules[limit]
        held = sum(
            limit in permit.item.steps and permit.item.tenant == tenant
            for id_, permit in self.permits.items()
            if not id_.startswith("run:")
        )
        return max(1, rule.limit - rule.kept) - held

    def waiting(self, limit: str) -> list[Waiter]:
        return [*self.queues.get(limit, {}).values()]

    def _next_free(self, limit: str) -> float:
        if self.pauses.get(limit, 0) > self.now_us:
            return self.pauses[limit]
        if limit[0] == "w":
            rule = self.rules[limit]
            return min(self.starts.get(limit, []), default=math.inf) + rule.period_us + rule.slack_us
        if limit[0] == "g":
            rule = self.rules[limit]
            each = rule.period_us / rule.limit
            first = max(self.now_us, self.arrival.get(limit, 0))
            return math.ceil(first + self.in_use(limit) * each - (rule.burst - 1) * each)
        return math.inf

    # --- the parts of a verb ----------------------------------------------------------------------------------

    def _begin(self, take: int = 0, lanes: Iterable[str] = (), lease: str = "") -> None:
        self.granted, self.taken, self.parked = [], [], []
        self._take, self._lanes, self._lease, self._sequence = take, frozenset(lanes), lease, 0

    def _end(self) -> tuple[list[str], list[str], list[str]]:
        for limit in [limit for limit in self.virtual if self.is_timed(limit)]:
            if not self.waiting(limit) and not self.in_use(limit):
                self._forget_shares(limit)
        return self.granted, self.taken, self.parked

    def _forget_shares(self, limit: str) -> None:
        self.virtual.pop(limit, None)
        self.served.pop(limit, None)

    def _bill_start(self, limit: str, item: Item) -> None:
        times = self.virtual.setdefault(limit, {})
        self.served[limit] = max(times.get(item.tenant, 0.0), self.served.get(limit, 0.0))
        times[item.tenant] = self.served[limit] + START_COSTS_S / item.weight

    def _bill_end(self, permit: Permit) -> None:
        limit = "c:queue:" + permit.item.lane
        times = self.virtual.get(limit, {})
        if self.is_timed(limit) and permit.item.tenant in times:
            used = (self.now_us - permit.stamp_us) / 1_000_000 if permit.state == "L" else 0
            times[permit.item.tenant] += (used - START_COSTS_S) / permit.item.weight

    def _run(self, item: Item) -> Permit | None:
        return self.permits.get("run:" + item.run)

    def _put_to_sleep(self, run: str) -> set[str]:
        permit = self.permits.get("run:" + run)
        steps = (p for id_, p in self.permits.items() if not id_.startswith("run:") and p.item.runs)
        if permit is None or permit.state != "h" or any(p.item.run == run for p in steps):
            return set()
        places = {limit for limit in permit.item.runs if is_place(limit)}
        permit.state = "s" if places else "h"
        return places

    def _drop(self, id_: str) -> set[str]:
        permit = self.permits.pop(id_)
        if id_.startswith("run:"):
            return set(permit.item.runs)
        self._bill_end(permit)
        return {"c:queue:" + permit.item.lane} if permit.state == "l" else set(permit.item.steps)

    def _stamp(self, limits: Iterable[str], count: int) -> None:
        for limit in limits:
            rule = self.rules.get(limit)
            if limit[0] == "w" and rule:
                bucket = math.ceil(self.now_us / rule.bucket_us) * rule.bucket_us
                known = self.starts.setdefault(limit, [])
                known += [max([bucket, *known[-1:]])] * count
            elif limit[0] == "g" and rule:
                first = max(self.now_us, self.arrival.get(limit, 0))
                self.arrival[limit] = first + count * rule.period_us / rule.limit

    def _blocker(self, item: Item, *, ahead: bool) -> str | None:
        run = self._run(item) if item.runs else None
        wanted = [*item.steps] if run else [*item.runs, *item.steps]
        if run and run.state == "s":
            wanted = [*filter(is_place, run.item.runs), *item.steps]
        for limit in wanted:
            if (ahead and self.waiting(limit)) or self.room(limit) < 1:
                return limit
            if self.is_timed(limit) and self.share_left(limit, item.tenant) < 1:
                return limit
        return None

    def _admit_one(self, item: Item) -> None:
        self._sequence += 1
        score = self.now_us + self._sequence - item.head_start_us
        if item.id in self.waiters:
            self.parked.append(item.id)
            return
        permit = self.permits.get(item.id)
        touched: set[str] = set()
        if permit:
            if permit.state == "r" and not self._take:
                permit.expires_us = self.now_us + RESERVATION_US
                self.granted.append(item.id)
                return
            if permit.state != "L" or permit.token == item.lease:
                score = permit.score
            touched = self._drop(item.id)
        run = self._run(item) if item.runs else None
        if run and run.state == "s":
            score = min(score, run.score)
        limit = self._blocker(item, ahead=True)
        if limit:
            self.parked.append(item.id)
            self.refused[limit] = self.refused.get(limit, 0) + 1
            self._park(item, limit, score)
            touched.add(limit)
        else:
            self._grant(item, score)
        self._pump_all(touched)

    def _park(self, item: Item, limit: str, score: int) -> None:
        times = self.virtual.setdefault(limit, {})
        if not any(waiter.item.tenant == item.tenant for waiter in self.waiting(limit)):
            times[item.tenant] = max(times.get(item.tenant, 0.0), self.served.get(limit, 0.0))
        waiter = Waiter(item=item, limit=limit, score=score, since_us=self.now_us)
        self.waiters[item.id] = self.queues.setdefault(limit, {})[item.id] = waiter

    def _leave(self, id_: str) -> Waiter:
        waiter = self.waiters.pop(id_)
        del self.queues[waiter.limit][id_]
        self.waited_us[waiter.limit] = self.waited_us.get(waiter.limit, 0) + self.now_us - waiter.since_us
        return waiter

    def _grant(self, item: Item, score: int, by: str = "") -> None:
        starts = self._take > 0 and item.lane in self._lanes
        if item.runs:
            run = self._run(item)
            if run is None:
                state, expires = ("h", math.inf) if starts else ("r", self.now_us + RESERVATION_US)
                self.permits["run:" + item.run] = Permit(
                    item=item, state=state, token="", stamp_us=self.now_us, score=score, expires_us=expires
                )
                if starts:
                    self._stamp(item.runs, 1)
            elif run.state == "s":
                run.state = "h"
            elif starts and run.state == "r":
                run.state, run.expires_us = "h", math.inf
                self._stamp(item.runs, 1)
        for limit in item.steps:
            if limit != by and self.is_timed(limit):
                self._bill_start(limit, item)
        if starts:
            self._stamp(item.steps, 1)
            self._take -= 1
        self.permits[item.id] = Permit(
            item=replace(item, lease=""),
            state="L" if starts else "r",
            token=self._lease if starts else "",
            stamp_us=self.now_us,
            score=score,
            expires_us=self.now_us + (LEASE_US if starts else RESERVATION_US),
        )
        (self.taken if starts else self.granted).append(item.id)

    def _pump_all(self, limits: set[str]) -> None:
        pending = set(limits)
        while pending:
            batch, pending = sorted(pending), set()
            for limit in batch:
                pending |= self._pump(limit)

    def _pump(self, limit: str) -> set[str]:
        moved: set[str] = set()
        while (here := self.waiting(limit)) and self.room(limit) >= 1:
            times = self.virtual[limit]
            tenants = {w.item.tenant for w in here}
            if self.is_timed(limit):
                tenants = {tenant for tenant in tenants if self.share_left(limit, tenant) >= 1}
                if not tenants:
                    break
            tenant = min(tenants, key=lambda name: (times[name], name))
            first = min((w for w in here if w.item.tenant == tenant), key=lambda w: (w.score, w.item.id))
            self._leave(first.item.id)
            other = self._blocker(first.item, ahead=False)
            if other:
                self._park(first.item, other, first.score)
                moved.add(other)
                continue
            self._grant(first.item, first.score, limit)
            self.served[limit] = times[tenant]
            times[tenant] += START_COSTS_S / first.item.weight
        if not self.waiting(limit) and not self.is_timed(limit):
            self._forget_shares(limit)
        return moved
