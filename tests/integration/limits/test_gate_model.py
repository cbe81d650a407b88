"""The real Lua against the plain model: any sequence of verbs, on a clock that the test moves."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from throttling.gate import Capacity, Gate, Held, Pause, Request
from throttling.limits import Algorithm, ConcurrencyLimit, Limit, LimitSet, RateLimit
from throttling.names import Definition, LimitName, run_of_permit
from throttling.reference.gate import ReferenceGate
from throttling.reference.state import Item, Rule
from workflows.this_process.configuration import configuration

LANE = "q"
TENANTS = ("a", "b", "c")
SMALL = st.integers(1, 4)
NAMES = st.frozensets(st.sampled_from(["a", "b", "w", "g", "p"]))


def concurrency(name: str, number: int, **more: Any) -> Limit:
    bound = ConcurrencyLimit(max_running=number)
    return Limit(name=LimitName.parse(name), bound=bound, base=bound.value, **more)


def rate(name: str, number: int, per_ms: int, **more: Any) -> Limit:
    burst = more.pop("burst", None)
    algorithm = Algorithm.GCRA if burst else Algorithm.WINDOW
    bound = RateLimit(max_executions=number, per_ms=per_ms, algorithm=algorithm, burst=burst or 1)
    return Limit(name=LimitName.parse(name), bound=bound, base=bound.value, **more)


PERSIST = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('PERSIST', key) end"


class GateMachine(RuleBasedStateMachine):
    """Steps of three tenants under every kind of limit; each verb is given to both, and both must agree."""

    gate: Gate
    client: Any

    @initialize(
        a=SMALL, b=SMALL, window=SMALL, gcra=SMALL, burst=st.integers(1, 3), runs=SMALL, queue=st.integers(2, 8),
        timed=st.booleans(), shared=st.booleans(),
    )  # fmt: skip
    def begin(
        self, a: int, b: int, window: int, gcra: int, burst: int, runs: int, queue: int, timed: bool, shared: bool
    ) -> None:
        self.timed = timed
        self.kept = kept = int(timed and shared)
        self.gate = Gate(configuration().redis_url, prefix=f"model-{uuid.uuid4().hex[:8]}")
        self.gate.open_epoch(self.gate.begin_epoch()[0], 1)
        self.gate.send_confirm("nobody's", []).answer()  # it has a connection for calls on their way from now on
        self.limits = {
            "a": concurrency("a", a),
            "b": concurrency("b", b),
            "w": rate("w", window, 1_000),
            "g": rate("g", gcra, 1_000, burst=burst),
            "p": Limit(name=LimitName.parse("p"), bound=None),
            "runs": concurrency("runs:concurrency", runs, runs=True),
            "starts": rate("runs:rate", runs + 1, 2_000, runs=True),
            "own": concurrency("run:f", runs + 1, runs=True),
            "queue": replace(concurrency(f"queue:{LANE}", queue), base=f"{queue},0,1,{kept},{int(timed)}"),
        }
        self.model = ReferenceGate()
        for limit in self.limits.values():
            self.model.state.rules[limit.instance()] = self.rule_of(limit)
        self.queue = self.model.state.rules[f"c:queue:{LANE}"]
        self.queue.kept, self.queue.timed = kept, timed
        self.time_us = 2_000_000_000_000_000
        self.number = 0
        self.items: dict[str, tuple[Item, Request]] = {}
        self.leases: dict[str, str] = {}
        self.began: dict[str, list[int]] = {}

    @staticmethod
    def rule_of(limit: Limit) -> Rule:
        bound = limit.bound
        if isinstance(bound, ConcurrencyLimit):
            return Rule(kind="c", limit=bound.max_running)
        if isinstance(bound, RateLimit):
            return Rule(kind=limit.kind, limit=bound.max_executions, period_us=bound.per_ms * 1000, burst=bound.burst)
        return Rule(kind="p")

    def teardown(self) -> None:
        if hasattr(self, "gate"):
            keys = list(self.gate.client.scan_iter(match=self.gate.prefix.replace("{", "[{]") + "*", count=1000))
            if keys:
                self.gate.client.delete(*keys)
            self.gate.close()

    def at(self) -> None:
        """Both clocks stand still at the test's time: the store's own is shifted to it, and no key expires by its real
        one, which a busy machine lets go on for seconds within an example."""
        self.time_us += 1_000
        self.gate.client.eval(PERSIST, 0, self.gate.prefix.replace("{", "[{]") + "*")
        self.gate.client.hset(self.gate.prefix + "epoch", "clock", self.time_us)

    def sync(self, now_us: int) -> None:
        self.model.state.now_us = self.time_us = now_us

    def note(self, taken: list[str], lease: str) -> None:
        for id_ in taken:
            self.leases[id_] = lease
            item = self.items[id_][0]
            for limit in item.steps:
                self.began.setdefault(limit, []).append(self.model.state.now_us)

    def new(self, names: frozenset[str], tenant: str, head_start_s: float, weight: float, run: int | None) -> str:
        self.number += 1
        id_ = f"{self.number:04d}"
        chosen = [self.limits[name] for name in sorted(names)]
        runs = [self.limits["runs"], self.limits["starts"], self.limits["own"]] if run is not None else []
        limits = LimitSet.of([(limit, None) for limit in (*runs, *chosen, self.limits["queue"])])
        run_id = f"r{run}" if run is not None else ""
        item = Item(id=id_, steps=limits.steps, tenant=tenant, weight=weight, lane=LANE, runs=limits.runs, run=run_id,
                    head_start_us=round(head_start_s * 1e6))  # fmt: skip
        request = Request(id_, limits, tenant, LANE, weight, head_start_s, run_id)
        self.items[id_] = (item, request)
        return id_

    @rule(
        steps=st.lists(
            st.tuples(
                NAMES,
                st.sampled_from(TENANTS),
                st.sampled_from([0.0, 0.0, 60.0, -60.0]),
                st.sampled_from([None, None, 1, 2, 3]),
            ),
            min_size=1,
            max_size=6,
        ),
        take=st.integers(0, 3),
    )
    def admit(self, steps: list[tuple[frozenset[str], str, float, int | None]], take: int) -> None:
        weights = {"a": 1.0, "b": 2.0, "c": 1.0}
        ids = [self.new(names, tenant, head, weights[tenant], run) for names, tenant, head, run in steps]
        self.ask(ids, take)

    def ask(self, ids: list[str], take: int, leases: dict[str, str] | None = None) -> None:
        lease = uuid.uuid4().hex
        wanted = Capacity(count=take, lanes=(LANE,), lease=lease) if take else None
        requests = [self.items[id_][1]._replace(lease=(leases or {}).get(id_, "")) for id_ in ids]
        # The store takes a group of equal limits together; the model is asked in the same order.
        order = [step for group in self.grouped(requests) for step in group]
        self.at()
        answer = self.gate.admit(requests, take=wanted)
        self.sync(answer.now_us)
        items = [self.with_lease(id_, leases) for id_ in order]
        expected = self.model.admit(items, take=take, lanes=[LANE], lease=lease)
        self.compare((answer.granted, answer.taken, answer.parked), expected)
        self.note(answer.taken, lease)

    def with_lease(self, id_: str, leases: dict[str, str] | None) -> Item:
        return replace(self.items[id_][0], lease=(leases or {}).get(id_, ""))

    @staticmethod
    def grouped(requests: list[Request]) -> list[list[str]]:
        groups: dict[Any, list[str]] = {}
        for r in requests:
            groups.setdefault((r.limits.text, r.tenant, r.weight, r.lane, r.run if r.limits.runs else ""), []).append(
                r.id
            )
        return list(groups.values())

    def compare(self, got: tuple[list[str], ...], expected: tuple[list[str], ...]) -> None:
        assert [sorted(part) for part in got] == [sorted(part) for part in expected]

    @precondition(
        lambda self: any(p.state == "r" and run_of_permit(i) is None for i, p in self.model.state.permits.items())
    )
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        known = sorted(id_ for id_, p in self.model.state.permits.items() if run_of_permit(id_) is None)
        ids = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=4, unique=True))
        lease = uuid.uuid4().hex
        self.at()
        answer, unknown = self.gate.confirm(lease, ids)
        self.sync(answer.now_us)
        assert sorted(unknown) == sorted(self.model.confirm(lease, ids))
        assert sorted(answer.granted) == sorted(self.model.granted)
        self.note([id_ for id_ in ids if id_ not in unknown], lease)

    @precondition(lambda self: self.model.state.permits)
    @rule(data=st.data(), take=st.integers(0, 3), wrong=st.booleans())
    def release(self, data: st.DataObject, take: int, wrong: bool) -> None:
        known = sorted(id_ for id_ in self.model.state.permits if run_of_permit(id_) is None)
        ids = data.draw(st.lists(st.sampled_from(known), max_size=4, unique=True)) if known else []
        leases: dict[str, list[str]] = {}
        for id_ in ids:
            leases.setdefault("zombie" if wrong else self.leases.get(id_, "none"), []).append(id_)
        runs = data.draw(st.lists(st.sampled_from(["r1", "r2", "r3"]), max_size=1))
        sleepers = data.draw(st.lists(st.sampled_from(["r1", "r2", "r3"]), max_size=2, unique=True))
        waiting = sorted(self.model.state.waiters)
        unused = data.draw(st.lists(st.sampled_from(waiting), max_size=2, unique=True)) if waiting else []
        pauses = {"w:w": 700_000} if data.draw(st.sampled_from([False, False, True])) else {}
        lease = uuid.uuid4().hex
        self.at()
        answer = self.gate.release(
            leases, unused=unused, runs=runs, sleepers=sleepers,
            pauses=[Pause(instance=k, seconds=v / 1e6) for k, v in pauses.items()],
            take=Capacity(count=take, lanes=(LANE,), lease=lease) if take else None,
        )  # fmt: skip
        self.sync(answer.now_us)
        expected = self.model.release(
            leases, unused=unused, runs=runs, sleepers=sleepers, pauses=pauses, take=take, lanes=[LANE], lease=lease
        )
        self.compare((answer.granted, answer.taken, answer.parked), expected)
        self.note(answer.taken, lease)

    @precondition(lambda self: any(p.state == "L" for p in self.model.state.permits.values()))
    @rule(data=st.data(), names=NAMES, same=st.booleans(), zombie=st.booleans(), back=st.booleans())
    def go_ahead(self, data: st.DataObject, names: frozenset[str], same: bool, zombie: bool, back: bool) -> None:
        """A permit for the successor of a step that is held, of the same limits or of others; perhaps a permit of
        another step is given back by the same call."""
        held = sorted(id_ for id_, p in self.model.state.permits.items() if p.state == "L")
        after = data.draw(st.sampled_from(held))
        lease, old = uuid.uuid4().hex, "zombie" if zombie else self.leases[after]
        before = self.items[after][0]
        run = int(before.run[1:]) if before.run else None
        if same:
            names = frozenset(limit.partition(":")[2] for limit in before.steps) - {f"queue:{LANE}"}
        id_ = self.new(names, before.tenant, 0.0, before.weight, run)
        ended = data.draw(st.sampled_from(held)) if back else after
        leases = {self.leases[ended]: [ended]} if ended != after else {}
        self.at()
        answer = self.gate.send_ahead(self.items[id_][1], lease, after=Held(after, old), leases=leases).answer()
        self.sync(answer.now_us)
        expected = self.model.ahead(self.items[id_][0], lease, after=after, held=old, leases=leases)
        self.compare((answer.granted, answer.taken, answer.parked), expected)
        self.note(answer.taken, lease)

    @precondition(lambda self: any(p.state == "L" for p in self.model.state.permits.values()))
    @rule(data=st.data(), crash=st.booleans())
    def hand_back_or_rescue(self, data: st.DataObject, crash: bool) -> None:
        """A worker hands a step back (it keeps its place), or its step is rescued (it goes to the back)."""
        held = sorted(id_ for id_, p in self.model.state.permits.items() if p.state == "L")
        id_ = data.draw(st.sampled_from(held))
        self.ask([id_], 0, None if crash else {id_: self.leases[id_]})

    @precondition(lambda self: any(p.state == "L" for p in self.model.state.permits.values()))
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        held = sorted(id_ for id_, p in self.model.state.permits.items() if p.state == "L")
        leases = {self.leases[id_]: [id_] for id_ in data.draw(st.lists(st.sampled_from(held), unique=True))}
        self.at()
        answer, _ = self.gate.renew(leases)
        self.sync(answer.now_us)
        self.model.renew(leases)

    @rule(step_ms=st.sampled_from([1, 50, 333, 1_100, 16_000]))
    def time_passes(self, step_ms: int) -> None:
        self.time_us += step_ms * 1000
        self.wake({})

    @rule(name=st.sampled_from(["a", "b", "w", "queue"]), number=st.integers(1, 5))
    def override(self, name: str, number: int) -> None:
        """A limit is changed live: whoever may start by it does at once."""
        limit = self.limits[name]
        self.revision = getattr(self, "revision", 1) + 1
        rule_ = self.rule_of(limit)
        value = f"{number},{rule_.period_us}" if name == "w" else str(number)
        rule_.limit = number
        if name == "queue":
            value, rule_ = self.resized(number)
        self.wake(
            {limit.name.text: str(Definition(base=limit.base, stamp=0, override=value, revision=self.revision))},
            {limit.instance(): rule_},
        )

    def resized(self, places: int) -> tuple[str, Rule]:
        """The queue's definition and its rule in the model."""
        self.queue = replace(self.queue, limit=places, kept=self.kept)
        return f"{places},0,1,{self.kept},{int(self.timed)}", self.queue

    @precondition(lambda self: self.timed)
    @rule()
    def organizations_come_and_go(self) -> None:
        """A second organization comes, or the last but one goes: a place is kept free of each, or none is."""
        limit = self.limits["queue"]
        self.revision = getattr(self, "revision", 1) + 1
        self.kept = 1 - self.kept
        value, rule_ = self.resized(self.queue.limit)
        self.wake(
            {limit.name.text: str(Definition(base=limit.base, stamp=0, override=value, revision=self.revision))},
            {limit.instance(): rule_},
        )

    def wake(self, definitions: dict[str, str], rules: dict[str, Rule] | None = None) -> None:
        self.at()
        answer, _ = self.gate.wake(definitions)
        granted = list(answer.granted)
        self.sync(answer.now_us)
        assert sorted(granted) == sorted(self.model.wake(rules))
        assert not answer.more or self.gate.wake()[0].granted == []

    @invariant()
    def both_know_the_same(self) -> None:
        if not hasattr(self, "gate"):
            return
        assert self.gate.permits() == {id_: p.state for id_, p in self.model.state.permits.items()}
        instances = [limit.instance() for limit in self.limits.values() if limit.bound]
        self.at()
        found = {state.instance: state for state in self.gate.explain(instances=instances).limits}
        self.model.state.now_us = self.time_us
        for instance in instances:
            state = found[instance]
            assert state.in_use == self.model.state.in_use(instance), instance
            assert state.waiting == len(self.model.state.waiting(instance)), instance
        if self.timed:
            self.shares_are_the_same(f"c:queue:{LANE}")

    def shares_are_the_same(self, queue: str) -> None:
        root = f"{self.gate.prefix}{self.gate.epoch()[0]}:"
        most = max(1, self.model.state.rules[queue].limit - self.kept)
        held = {tenant: most - self.model.state.share_left(queue, tenant) for tenant in TENANTS}
        stored = {name: int(number) for name, number in self.gate.client.hgetall(f"{root}o:{queue}").items()}
        assert stored == {tenant: number for tenant, number in held.items() if number}
        times = {name: float(time) for name, time in self.gate.client.hgetall(f"{root}v:{queue}").items() if name}
        assert times == pytest.approx(self.model.state.virtual.get(queue, {}))

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        if not hasattr(self, "gate"):
            return
        for limit, moments in self.began.items():
            if limit[0] == "w":
                highest = 5  # what an override may raise it to
                for index in range(len(moments) - highest):
                    assert moments[index + highest] - moments[index] >= 1_000_000


@pytest.mark.timeout(900)  # `make soak` has five times the examples
def test_the_lua_and_the_model_agree(live_db: None) -> None:
    run_state_machine_as_test(
        GateMachine,
        settings=hypothesis_settings(
            max_examples=int(os.environ.get("HEADRACE_MODEL_EXAMPLES", "150")),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.mark.parametrize("limit", [1, 7, 100_000])
def test_a_window_keeps_at_most_a_thousand_buckets(live_db: None, limit: int) -> None:
    """Memory does not grow with the limit: starts are counted by thousandths of the period."""
    gate = Gate(configuration().redis_url, prefix=f"memory-{uuid.uuid4().hex[:8]}")
    generation = gate.begin_epoch()[0]
    gate.open_epoch(generation, 1)
    limits = LimitSet.of([(rate("w", limit, 1_000), None)])
    for number in range(3_000):
        if number % 10 == 0:
            gate.client.hset(gate.prefix + "epoch", "clock", 10**15 + number * 500)
        id_ = f"{number}"
        taken = gate.admit([Request(id_, limits, "t", LANE)], take=Capacity(count=1, lanes=(LANE,), lease="l")).taken
        gate.release({"l": taken}, unused=[id_])
    assert gate.client.llen(f"{gate.prefix}{generation}:q:w:w") <= 1_010
    assert gate.client.hlen(f"{gate.prefix}{generation}:h:w:w") <= 1_012
    gate.client.delete(*gate.client.scan_iter(match=gate.prefix.replace("{", "[{]") + "*"))
    gate.close()
