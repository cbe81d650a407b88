"""Compute is shared by time, and no organization holds all places of it."""

from __future__ import annotations

import heapq
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest

from tests.support.workers import WorkerPool, await_end, await_that, leave_nothing, publish
from throttling.gate import Capacity, Gate, Request
from throttling.limits import LimitSet, queue_limit, queue_value
from throttling.names import Definition, LimitName
from workflows import services
from workflows.models import Organization, StepRun
from workflows.selectors import limits as flow_control
from workflows.this_process.configuration import configuration

LANE = "spins"
QUEUE = LimitName.of_queue(LANE).text


@pytest.fixture
def gate(live_db: None) -> Iterator[Gate]:
    """A gate of its own, whose clock the test moves."""
    gate = Gate(configuration().redis_url, prefix=f"shares-{uuid.uuid4().hex[:8]}")
    gate.open_epoch(gate.begin_epoch()[0], 1)
    yield gate
    gate.client.delete(*gate.client.scan_iter(match=gate.prefix.replace("{", "[{]") + "*", count=1000))
    gate.close()


class Places:
    """A worker of so many places on the gate's clock: it executes what is handed to it, each tenant's for its time."""

    def __init__(
        self, gate: Gate, places: int, takes_s: dict[str, float], weights: dict[str, float] | None = None
    ) -> None:
        self.gate, self.takes_s, self.weights = gate, takes_s, weights or {}
        self.now_us = 2_000_000_000_000_000
        self.limits = LimitSet.of([(queue_limit(LANE), None)])
        self.lease = "l"
        self.take = Capacity(count=places, lanes=(LANE,), lease=self.lease)
        self.executing: list[tuple[int, str, int]] = []
        self.used_s: dict[str, float] = defaultdict(float)
        self.number = 0
        self.tick()
        gate.wake({QUEUE: str(Definition(base=queue_value(places, timed=True), stamp=1))})

    def tick(self) -> None:
        self.gate.client.hset(self.gate.prefix + "epoch", "clock", self.now_us)

    def ask(self, tenant: str, count: int) -> list[str]:
        """What of these starts at once."""
        requests = []
        for _ in range(count):
            self.number += 1
            weight = self.weights.get(tenant, 1.0)
            requests.append(Request(f"{tenant}{self.number}", self.limits, tenant, LANE, weight=weight))
        taken = self.gate.admit(requests, take=self.take).taken
        self.start(taken)
        return taken

    def start(self, ids: list[str]) -> None:
        for id_ in ids:
            heapq.heappush(self.executing, (self.now_us + round(self.takes_s[id_[0]] * 1e6), id_, self.now_us))

    def run_for(self, seconds: float) -> None:
        end = self.now_us + round(seconds * 1e6)
        while self.executing and self.executing[0][0] <= end:
            self.now_us, id_, began = heapq.heappop(self.executing)
            self.used_s[id_[0]] += (self.now_us - began) / 1e6
            self.tick()
            self.start(self.gate.release({self.lease: [id_]}, take=self.take).taken)
        self.now_us = end
        self.tick()

    def most_at_once(self) -> dict[str, int]:
        found: dict[str, int] = defaultdict(int)
        for _, id_, _ in self.executing:
            found[id_[0]] += 1
        return found


@pytest.mark.parametrize("places", [1, 3, 5])
def test_long_and_short_steps_get_the_same_time(gate: Gate, places: int) -> None:
    """Ten seconds against a tenth: by count the long ones would get ninety-nine hundredths of the time."""
    worker = Places(gate, places, {"a": 10.0, "b": 0.1})
    worker.ask("a", 100)
    worker.ask("b", 4_000)
    worker.run_for(150)
    assert worker.used_s["b"] / (worker.used_s["a"] + worker.used_s["b"]) == pytest.approx(0.5, abs=0.07)


def test_weights_share_the_time(gate: Gate) -> None:
    worker = Places(gate, 5, {"a": 4.0, "b": 0.5}, {"a": 2.0})
    worker.ask("a", 600)
    worker.ask("b", 4_000)
    worker.run_for(300)
    assert worker.used_s["a"] / worker.used_s["b"] == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("places", [2, 4])
def test_one_place_is_kept_free_of_each_organization(gate: Gate, places: int) -> None:
    worker = Places(gate, places, {"a": 30.0, "b": 0.1, "c": 0.1})
    assert len(worker.ask("a", 200)) == places - 1
    worker.run_for(45)
    assert worker.most_at_once() == {"a": places - 1}
    assert worker.ask("b", 1) == ["b201"]
    assert worker.ask("b", 1) == []
    worker.run_for(0.1)
    assert worker.most_at_once()["b"] == 1  # handed over at once
    worker.run_for(0.1)
    assert worker.ask("c", 1) == ["c203"]


def test_who_is_alone_on_one_place_has_it(gate: Gate) -> None:
    worker = Places(gate, 1, {"a": 1.0, "b": 0.1})
    assert len(worker.ask("a", 10)) == 1
    worker.ask("b", 1)
    worker.run_for(1.0)
    assert worker.most_at_once() == {"b": 1}


def test_what_was_used_in_peace_is_no_debt_forever(gate: Gate) -> None:
    """An idle queue forgets: whoever had it for an hour is not behind newcomers later."""
    worker = Places(gate, 2, {"a": 100.0, "b": 1.0})
    worker.ask("a", 1)
    worker.run_for(100)
    root = f"{gate.prefix}{gate.epoch()[0]}:"
    assert gate.client.keys(root.replace("{", "[{]") + "[vow]:*") == []


def _of_release_before(places: int, *, shared: bool) -> str:
    """A lane's definition by a leader of the release before: without the mark of a timed lane."""
    return f"{places},0,1,1" if shared else f"{places}"


def _of_this_release(places: int, *, shared: bool) -> str:
    return queue_value(places, timed=True, shared=shared)


@pytest.mark.parametrize("value", [_of_release_before, _of_this_release])
def test_what_ended_while_an_organization_was_alone_is_not_held_against_it(
    gate: Gate, value: Callable[..., str]
) -> None:
    """The other organization goes while a step executes, and comes back after it: the place is free again."""
    worker = Places(gate, 2, {"a": 1.0, "b": 1.0})
    gate.wake({QUEUE: str(Definition(base=value(2, shared=True), stamp=2))})
    assert len(worker.ask("a", 1)) == 1
    assert len(worker.ask("b", 1)) == 1
    gate.wake({QUEUE: str(Definition(base=value(2, shared=False), stamp=3))})
    worker.run_for(1)
    assert worker.most_at_once() == {}
    worker.ask("b", 1)
    gate.wake({QUEUE: str(Definition(base=value(2, shared=True), stamp=4))})
    assert len(worker.ask("a", 1)) == 1


@pytest.mark.parametrize("value", [_of_release_before, _of_this_release])
def test_what_began_while_an_organization_was_alone_counts_for_its_share(gate: Gate, value: Callable[..., str]) -> None:
    worker = Places(gate, 3, {"a": 1.0, "b": 1.0})
    gate.wake({QUEUE: str(Definition(base=value(3, shared=False), stamp=2))})
    assert len(worker.ask("a", 2)) == 2
    gate.wake({QUEUE: str(Definition(base=value(3, shared=True), stamp=3))})
    assert worker.ask("a", 1) == []
    assert len(worker.ask("b", 1)) == 1


def test_a_wrong_count_of_another_release_is_corrected_where_the_definition_changes(gate: Gate) -> None:
    """Processes of the release before do not count while nothing is kept free; the permits are the truth."""
    worker = Places(gate, 4, {"a": 1.0, "b": 1.0})
    gate.wake({QUEUE: str(Definition(base=queue_value(4, timed=True, shared=False), stamp=2))})
    assert len(worker.ask("a", 2)) == 2
    holdings = f"{gate.prefix}{gate.epoch()[0]}:o:c:queue:{LANE}"
    gate.client.hset(holdings, mapping={"a": 9, "b": 9})
    assert len(worker.ask("b", 1)) == 1
    gate.wake({QUEUE: str(Definition(base=queue_value(4, timed=True, shared=True), stamp=3))})
    assert gate.client.hgetall(holdings) == {"a": "2", "b": "1"}
    assert (len(worker.ask("a", 1)), len(worker.ask("b", 1))) == (1, 0)


def test_a_step_that_lapsed_in_the_broker_still_counts_after_a_recount(gate: Gate) -> None:
    """It keeps its place in the broker's queue, and nothing else."""
    limits = LimitSet.of([(queue_limit(LANE), None)])
    worker = Places(gate, 3, {"a": 1.0})
    gate.wake({QUEUE: str(Definition(base=queue_value(3, timed=True, shared=False), stamp=2))})
    assert gate.admit([Request("a1", limits, "a", LANE)]).granted == ["a1"]
    worker.run_for(20)
    gate.wake()
    assert gate.permits() == {"a1": "l"}
    gate.wake({QUEUE: str(Definition(base=queue_value(3, timed=True, shared=True), stamp=3))})
    holdings = f"{gate.prefix}{gate.epoch()[0]}:o:c:queue:{LANE}"
    assert gate.client.hgetall(holdings) == {"a": "1"}


def _code(seconds: float) -> str:
    return f"import time\ntime.sleep({seconds})\nreturn 1"


@pytest.mark.parametrize(
    ("kind", "machines"), [("sandbox_sync", 1), ("sandbox_sync", 2), ("sandbox_async", 1), ("data_transform", 1)]
)
def test_a_short_step_does_not_wait_behind_two_hundred_long_ones(
    org: Organization, other: Organization, own_workers: WorkerPool, kind: str, machines: int
) -> None:
    """Two compute children a machine; the same for scripts, which the I/O worker's threads perform."""
    own_workers.start("io")
    for _ in range(machines):
        own_workers.start("compute", HEADRACE_DETACHED_THREADS="1")
    own_workers.await_ready(1 + 2 * machines)
    field = "script" if kind == "data_transform" else "code"
    long = publish(org, [{"id": "a", "type": kind, "config": {field: _code(3)}}])
    short = publish(other, [{"id": "b", "type": kind, "config": {field: "return 1"}}])
    await_end(other, services.trigger(other, short).run_ids[0])  # everything is warm
    services.trigger_many(org, long, [{}] * 200)
    await_that(lambda: StepRun.objects.filter(org_id=org.id, status="completed").count() >= 2, 60, "it is at work")
    parked = StepRun.objects.filter(org_id=org.id, status="ready")[:10]
    reasons = [flow_control.explain(org, row.id).sentence for row in parked]  # one may just have got its turn
    assert any("kept free of each organization" in reason for reason in reasons), reasons
    waited = []
    for _ in range(3):
        run_id = services.trigger(other, short).run_ids[0]
        began = time.monotonic()
        await_end(other, run_id)
        waited.append(time.monotonic() - began)
    leave_nothing(org)
    assert min(waited) < 2, waited  # at once; the rest is this machine's noise
    assert sum(waited) < 9, waited
