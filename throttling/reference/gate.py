"""The gate as plain Python on a clock that is passed in: what the Lua is tested against, and what `simulate` runs.

It keeps to the rules of `lua/core` and none of its tricks: sets and lists, scanned. Times are in microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from throttling import clocks
from throttling.names import RATE_KINDS, Kind, kind_of, queue_instance, run_of_permit, run_permit
from throttling.reference.state import START_COSTS_S, Item, Permit, ReferenceState, Rule, is_place


@dataclass(kw_only=True)
class ReferenceGate:
    """The verbs. Each reads and changes the `state`, whose clock the caller sets before."""

    state: ReferenceState = field(default_factory=ReferenceState)
    lease_us: int = round(clocks.LEASE_S * 1e6)
    reservation_us: int = round(clocks.RESERVATION_S * 1e6)
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
            permit = self.state.permits.get(id_)
            if permit and permit.state == "r" and (not permit.item.runs or self.state.run_of(permit.item)):
                run = self.state.run_of(permit.item)
                if run and run.state == "r":
                    self.state.stamp(permit.item.runs, 1)
                    run.state, run.expires_us = "h", math.inf
                    touched |= set(permit.item.runs)
                self.state.stamp(permit.item.steps, 1)
                touched |= set(permit.item.steps)
                permit.state, permit.token, permit.stamp_us = "L", lease, self.state.now_us
                permit.expires_us = self.state.now_us + self.lease_us
            elif not (permit and permit.state == "L" and permit.token == lease):
                unknown.append(id_)
        self._pump_all({limit for limit in touched if kind_of(limit) in RATE_KINDS})
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
        touched = self._drop_held(leases)
        for id_ in unused:
            permit = self.state.permits.get(id_)
            if permit and permit.state in "rl":
                touched |= self._drop(id_)
            if id_ in self.state.waiters:
                touched.add(self.state.leave(id_).limit)
        for run in runs:
            if run_permit(run) in self.state.permits:
                touched |= self._drop(run_permit(run))
        for run in sleepers:
            touched |= self._put_to_sleep(run)
        for limit, micros in (pauses or {}).items():
            self.state.pauses[limit] = max(self.state.pauses.get(limit, 0), self.state.now_us + micros)
        self._pump_all(touched)
        for item in items:
            self._admit_one(item)
        return self._end()

    def ahead(
        self, item: Item, lease: str, *, after: str, held: str, leases: Mapping[str, Iterable[str]]
    ) -> tuple[list[str], list[str], list[str]]:
        """(granted, taken, parked): the item is taken, or nothing is done about it."""
        self._begin()
        self._pump_all(self._drop_held(leases))
        if self._may_follow(item, self.state.permits.get(after), held):
            self._sequence += 1
            self.state.stamp(item.steps, 1)
            now_us = self.state.now_us
            self.state.permits[item.id] = Permit(
                item=item, state="L", token=lease, stamp_us=now_us, score=now_us, expires_us=now_us + self.lease_us
            )
            self.taken.append(item.id)
        return self._end()

    def renew(self, leases: Mapping[str, Iterable[str]]) -> None:
        for token, ids in leases.items():
            for id_ in ids:
                permit = self.state.permits.get(id_)
                if permit and permit.state == "L" and permit.token == token:
                    permit.expires_us = self.state.now_us + self.lease_us

    def wake(self, rules: Mapping[str, Rule] | None = None) -> list[str]:
        """What may start by the passing of time; `rules` are values that were changed."""
        self._begin()
        self.state.rules.update(rules or {})
        touched: set[str] = set()
        for id_, permit in sorted(self.state.permits.items(), key=lambda entry: (entry[1].expires_us, entry[0])):
            if permit.expires_us <= self.state.now_us:
                if permit.state == "r" and run_of_permit(id_) is None:
                    touched |= set(permit.item.steps) - {queue_instance(permit.item.lane)}
                    permit.state, permit.expires_us = "l", math.inf
                else:
                    touched |= self._drop(id_)
        self._pump_all(touched | {*self.state.waited_for()})
        return self._end()[0]

    def next_due_us(self) -> float:
        """When `wake` has something to do next."""
        times = [permit.expires_us for permit in self.state.permits.values()]
        times += [self.state.next_free(limit) for limit in self.state.waited_for()]
        return min(times, default=math.inf)

    # --- the parts of a verb ----------------------------------------------------------------------------------

    def _begin(self, take: int = 0, lanes: Iterable[str] = (), lease: str = "") -> None:
        self.granted, self.taken, self.parked = [], [], []
        self._take, self._lanes, self._lease, self._sequence = take, frozenset(lanes), lease, 0

    def _end(self) -> tuple[list[str], list[str], list[str]]:
        for limit in [limit for limit in self.state.virtual if self.state.is_timed(limit)]:
            if not self.state.has_waiters(limit) and not self.state.in_use(limit):
                self.state.forget_shares(limit)
        return self.granted, self.taken, self.parked

    def _may_follow(self, item: Item, before: Permit | None, held: str) -> bool:
        if item.id in self.state.permits or item.id in self.state.waiters:
            return False
        run = self.state.run_of(item) if item.runs else None
        if item.runs and (run is None or run.state != "h"):
            return False
        places = before.item.steps if before and before.state == "L" and before.token == held else ()
        for limit in item.steps:
            place = int(limit in places and kind_of(limit) == Kind.CONCURRENCY)
            is_paused = self.state.pauses.get(limit, 0) > self.state.now_us
            if self.state.has_waiters(limit) or self.state.is_timed(limit) or is_paused:
                return False
            if self.state.room(limit) + place < 1:
                return False
        return True

    def _drop_held(self, leases: Mapping[str, Iterable[str]]) -> set[str]:
        touched: set[str] = set()
        for token, ids in leases.items():
            for id_ in ids:
                permit = self.state.permits.get(id_)
                if permit and permit.state == "L" and permit.token == token:
                    touched |= self._drop(id_)
        return touched

    def _put_to_sleep(self, run: str) -> set[str]:
        permit = self.state.permits.get(run_permit(run))
        steps = (p for id_, p in self.state.permits.items() if run_of_permit(id_) is None and p.item.runs)
        if permit is None or permit.state != "h" or any(p.item.run == run for p in steps):
            return set()
        places = {limit for limit in permit.item.runs if is_place(limit)}
        permit.state = "s" if places else "h"
        return places

    def _drop(self, id_: str) -> set[str]:
        permit = self.state.permits.pop(id_)
        if run_of_permit(id_) is not None:
            return set(permit.item.runs)
        self.state.bill_end(permit)
        return {queue_instance(permit.item.lane)} if permit.state == "l" else set(permit.item.steps)

    def _blocker(self, item: Item, *, ahead: bool) -> str | None:
        run = self.state.run_of(item) if item.runs else None
        wanted = [*item.steps] if run else [*item.runs, *item.steps]
        if run and run.state == "s":
            wanted = [*filter(is_place, run.item.runs), *item.steps]
        for limit in wanted:
            if (ahead and self.state.has_waiters(limit)) or self.state.room(limit) < 1:
                return limit
            if self.state.is_timed(limit) and self.state.share_left(limit, item.tenant) < 1:
                return limit
        return None

    def _admit_one(self, item: Item) -> None:
        self._sequence += 1
        score = self.state.now_us + self._sequence - item.head_start_us
        if item.id in self.state.waiters:
            self.parked.append(item.id)
            return
        permit = self.state.permits.get(item.id)
        touched: set[str] = set()
        if permit:
            if permit.state == "r" and not self._take:
                permit.expires_us = self.state.now_us + self.reservation_us
                self.granted.append(item.id)
                return
            if permit.state != "L" or permit.token == item.lease:
                score = permit.score
            touched = self._drop(item.id)
        run = self.state.run_of(item) if item.runs else None
        if run and run.state == "s":
            score = min(score, run.score)
        limit = self._blocker(item, ahead=True)
        if limit:
            self.parked.append(item.id)
            self.refused[limit] = self.refused.get(limit, 0) + 1
            self.state.park(item, limit, score)
            touched.add(limit)
        else:
            self._grant(item, score)
        self._pump_all(touched)

    def _grant(self, item: Item, score: int, by: str = "") -> None:
        starts = self._take > 0 and item.lane in self._lanes
        if item.runs:
            run = self.state.run_of(item)
            if run is None:
                state, expires = ("h", math.inf) if starts else ("r", self.state.now_us + self.reservation_us)
                self.state.permits[run_permit(item.run)] = Permit(
                    item=item, state=state, token="", stamp_us=self.state.now_us, score=score, expires_us=expires
                )
                if starts:
                    self.state.stamp(item.runs, 1)
            elif run.state == "s":
                run.state = "h"
            elif starts and run.state == "r":
                run.state, run.expires_us = "h", math.inf
                self.state.stamp(item.runs, 1)
        for limit in item.steps:
            if limit != by and self.state.is_timed(limit):
                self.state.bill_start(limit, item)
        if starts:
            self.state.stamp(item.steps, 1)
            self._take -= 1
        self.state.permits[item.id] = Permit(
            item=replace(item, lease=""),
            state="L" if starts else "r",
            token=self._lease if starts else "",
            stamp_us=self.state.now_us,
            score=score,
            expires_us=self.state.now_us + (self.lease_us if starts else self.reservation_us),
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
        while self.state.has_waiters(limit) and self.state.room(limit) >= 1:
            here = self.state.waiting(limit)
            times = self.state.virtual[limit]
            tenants = {w.item.tenant for w in here}
            if self.state.is_timed(limit):
                tenants = {tenant for tenant in tenants if self.state.share_left(limit, tenant) >= 1}
                if not tenants:
                    break
            tenant = min(tenants, key=lambda name: (times[name], name))
            first = min((w for w in here if w.item.tenant == tenant), key=lambda w: (w.score, w.item.id))
            self.state.leave(first.item.id)
            other = self._blocker(first.item, ahead=False)
            if other:
                self.state.park(first.item, other, first.score)
                moved.add(other)
                continue
            self._grant(first.item, first.score, limit)
            self.state.served[limit] = times[tenant]
            times[tenant] += START_COSTS_S / first.item.weight
        if not self.state.has_waiters(limit) and not self.state.is_timed(limit):
            self.state.forget_shares(limit)
        return moved
