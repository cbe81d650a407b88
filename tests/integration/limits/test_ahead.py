"""Permits that are taken while the step before is being recorded: who gets one, what becomes of it, what a run costs."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from tests.support import probes
from tests.support.by_hand import runtime, start
from tests.support.workers import await_end, await_that
from throttling.errors import StoreUnavailable
from throttling.gate import Capacity, Gate, Held, Request
from throttling.limits import ConcurrencyLimit, Limit, LimitSet
from throttling.names import LimitName
from workflows import services, this_process
from workflows.engine.pipeline import admit, ahead
from workflows.engine.state import database
from workflows.engine.state.records import ReadyStep
from workflows.engine.state.step_ids import step_run_id
from workflows.engine.state.transitions import runs as run_transitions
from workflows.engine.state.transitions import steps as step_transitions
from workflows.engine.worker.runtime import Runtime
from workflows.models import Organization, Run, StepRun
from workflows.steps.registry import REGISTRY
from workflows.this_process.configuration import configuration

LANE = "q"
OF_HEARTBEATS = {"report_worker", "renew_leases", "cancelled_among", "report_progress", "sealing_organizations"}


def one_at_a_time() -> LimitSet:
    bound = ConcurrencyLimit(max_running=1)
    return LimitSet.of([(Limit(name=LimitName.parse("one"), bound=bound, base=bound.value), None)])


@pytest.fixture
def gate(live_db: None) -> Iterator[Gate]:
    made = Gate(configuration().redis_url, prefix=f"ahead-{uuid.uuid4().hex[:8]}")
    made.open_epoch(made.begin_epoch()[0], 1)
    made.send_confirm("nobody's", []).answer()  # it has a connection for calls on their way from now on
    yield made
    made.begin_epoch(anew=True)
    made.sweep()
    made.client.delete(made.prefix + "epoch")
    made.close()


def take(gate: Gate, id_: str, lease: str) -> list[str]:
    wanted = Capacity(count=1, lanes=(LANE,), lease=lease)
    return gate.admit([Request(id_, one_at_a_time(), "t", LANE)], take=wanted).taken


def go_ahead(gate: Gate, id_: str, after: Held, **leases: list[str]) -> list[str]:
    request = Request(id_, one_at_a_time(), "t", LANE)
    return gate.send_ahead(request, "second", after=after, leases=leases).answer().taken


def in_use(gate: Gate) -> int:
    return gate.explain(instances=["c:one"]).limits[0].in_use


def test_a_step_takes_the_only_place_of_the_one_before_it_and_nobody_else_does(gate: Gate) -> None:
    assert take(gate, "a", "first") == ["a"]
    assert go_ahead(gate, "b", Held("a", "first")) == ["b"]
    assert take(gate, "other", "l") == []
    assert in_use(gate) == 2
    answer = gate.release({"first": ["a"]})
    assert (answer.granted, answer.taken, in_use(gate)) == ([], [], 1)
    assert gate.release({"second": ["b"]}).granted == ["other"]


def test_nobody_who_waits_is_overtaken(gate: Gate) -> None:
    take(gate, "a", "first")
    take(gate, "waits", "l")
    assert go_ahead(gate, "b", Held("a", "first")) == []
    assert gate.permits() == {"a": "L"}
    assert gate.explain("b").wait is None


def test_who_does_not_hold_the_step_before_has_no_place_to_pass_on(gate: Gate) -> None:
    take(gate, "a", "first")
    assert go_ahead(gate, "b", Held("a", "another's")) == []
    assert go_ahead(gate, "b", Held("unknown", "first")) == []
    assert go_ahead(gate, "b", Held("a", "first"), first=["a"]) == ["b"]  # the place is free now
    assert gate.permits() == {"b": "L"}


def test_a_call_ahead_makes_no_connection(gate: Gate) -> None:
    """It would wait for a store that is away, and an outcome would wait with it."""
    another = Gate(configuration().redis_url, prefix=gate.prefix[1:-2])
    take(another, "a", "first")
    with pytest.raises(StoreUnavailable):
        go_ahead(another, "b", Held("a", "first"))
    another.close()


def test_the_call_works_where_the_store_has_closed_the_connection(gate: Gate) -> None:
    take(gate, "a", "first")
    gate.client.client_kill_filter(_type="normal", skipme=True)
    assert go_ahead(gate, "b", Held("a", "first")) == ["b"]
    assert gate.permits() == {"a": "L", "b": "L"}


def test_the_call_works_where_the_store_does_not_know_the_script(gate: Gate) -> None:
    take(gate, "a", "first")
    gate.client.script_flush()
    assert go_ahead(gate, "b", Held("a", "first")) == ["b"]


# --- in a worker ---------------------------------------------------------------------------------------------------


@pytest.fixture
def worker(published: list[ReadyStep]) -> Iterator[Runtime]:
    """A worker within the test's process, which gets no message but by hand, and knows of no refusal."""
    this_process.forget(admit.Refusals)
    made = runtime()
    made.start()
    yield made
    made.drain(1)


def chain(kind: str, length: int = 5, **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"s{number}", "type": kind, **more} for number in range(length)]


def visit(worker: Runtime, run_id: UUID) -> None:
    first = StepRun.objects.get(id=step_run_id(run_id, 0))
    worker.visit(REGISTRY[first.type], [(str(first.id), 1)])


class Calls:
    """The calls of the gate, but for those of heartbeats: those that their callers wait for, and those on their way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However slow the machine is, no stamp gets too old to start by, and no commit takes too long."""
        monkeypatch.setattr(admit, "slack_s", lambda *_: 600.0)
        monkeypatch.setattr(ahead, "COMMIT_WITHIN_S", 600.0)
        self.serial: list[str] = []
        self.beside: list[str] = []
        for name, found in (("_call", self.serial), ("_send", self.beside)):
            monkeypatch.setattr(Gate, name, self._noting(getattr(Gate, name), found))

    @staticmethod
    def _noting(real: Callable[..., Any], found: list[str]) -> Callable[..., Any]:
        def call(gate: Gate, verb: str, *more: Any, **named: Any) -> Any:
            if threading.current_thread().name not in {"heartbeat", "permits"}:
                found.append(verb)
            return real(gate, verb, *more, **named)

        return call


@pytest.mark.parametrize("kind", ["noop", "probe_thread"])
def test_a_lone_run_of_five_steps_keeps_to_its_budget(
    org: Organization, worker: Runtime, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Seven statements, one of which inserts the run (its caller has looked the flow up before), and three calls of the
    store that somebody waits for: the admission, the message (not sent here), and the last permit, after the end."""
    limits: dict[str, Any] = {"concurrency": [{"limit": 5}, {"limit": 5, "scope": "run"}]}
    visit(worker, start(org, chain(kind), slug="first", **limits))  # what is asked for once is known after it
    await_that(lambda: not Run.objects.filter(org_id=org.id, ended_at=None).exists())
    slug = start_slug(org, chain(kind), limits)
    calls = Calls(monkeypatch)
    database.counter().by_name.clear()
    run_id = services.trigger(org, slug).run_ids[0]
    visit(worker, run_id)
    await_end(org, run_id)
    await_that(lambda: not held(run_id, 5))
    sent = {name: n for name, n in database.counter().by_name.items() if name not in OF_HEARTBEATS}
    sent.pop("current_version", None)
    assert sent == {"insert_runs": 1, "claim_steps": 1, "record_lone": 4, "record_outcomes": 1}
    assert calls.serial == ["admit", "release"]
    assert Counter(calls.beside) == {"confirm": 1, "ahead": 4}


def start_slug(org: Organization, steps: list[dict[str, Any]], limits: dict[str, Any]) -> str:
    """A published flow, whose policies and versions this process knows from a run of it."""
    run_id = start(org, steps, slug="measured", **limits)
    services.cancel_run(org, run_id, reason="only to know it")
    return "measured"


def held(run_id: UUID, steps: int) -> set[str]:
    """The steps of a run that have permits."""
    return admit.gate().permits().keys() & {step_run_id(run_id, number).hex for number in range(steps)}


def test_a_chain_passes_its_only_place_on(org: Organization, worker: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = start(org, chain("probe"), concurrency=[{"limit": 1}])
    calls = Calls(monkeypatch)
    visit(worker, run_id)
    await_end(org, run_id)
    await_that(lambda: calls.serial == ["release"], what="nobody asks after a commit but at the end")
    assert not held(run_id, 5)


def test_a_run_that_waits_goes_on_before_the_next_step_of_another(org: Organization, worker: Runtime) -> None:
    first = start(org, chain("probe", 3), concurrency=[{"limit": 1}])
    second = services.trigger(org, "flow").run_ids[0]
    visit(worker, first)
    for run_id in (first, second):
        await_end(org, run_id)
    order = [span.run for span in probes.spans({str(first), str(second)})]
    assert order[:2] == [str(first), str(second)]


@pytest.mark.parametrize("kind", ["noop", "probe_thread"])
def test_the_permit_of_a_step_that_does_not_start_is_given_back(
    org: Organization, worker: Runtime, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The run is cancelled between the permit and the commit."""
    run_id = start(org, chain(kind))
    beside(monkeypatch, lambda: run_transitions.request_cancel(org.id, [run_id], reason="stop"))
    visit(worker, run_id)
    assert await_end(org, run_id).run.status == "cancelled"
    await_that(lambda: not held(run_id, 5), what="no permit is left")


def test_who_has_lost_its_lease_starts_nothing_and_keeps_no_permit(
    org: Organization, worker: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = start(org, chain("noop"))
    rows = StepRun.objects.filter(run_id=run_id)
    beside(monkeypatch, lambda: rows.filter(status="running").update(lease_token=uuid.uuid4()))
    visit(worker, run_id)
    assert dict(rows.values_list("key", "status")) == {"s0": "running"} | {f"s{n}": "pending" for n in range(1, 5)}
    await_that(lambda: not held(run_id, 5), what="no permit is left")


def test_a_commit_that_fails_leaves_no_permit(
    org: Organization, worker: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = start(org, chain("noop"))

    def fail(*_: Any) -> None:
        raise MemoryError("on purpose")

    beside(monkeypatch, lambda: monkeypatch.setattr(step_transitions, "record", fail))
    visit(worker, run_id)
    await_that(lambda: not held(run_id, 5), what="no permit is left")
    assert StepRun.objects.get(run_id=run_id, key="s1").status == "pending"


def beside(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Any]) -> None:
    """Have something happen after the first permit was asked for, and before the commit."""
    real, is_over = ahead.ask, threading.Event()

    def ask(*given: Any, **more: Any) -> Any:
        found = real(*given, **more)
        if found is not None and not is_over.is_set():
            is_over.set()
            happens()
        return found

    monkeypatch.setattr(ahead, "ask", ask)


def test_a_steps_id_is_made_of_its_runs_and_its_position(org: Organization, published: list[ReadyStep]) -> None:
    run_id = start(org, chain("noop", 3))
    found = StepRun.objects.filter(run_id=run_id).order_by("position")
    assert [row.id for row in found] == [step_run_id(run_id, number) for number in range(3)]
    assert all(row.id.version == 7 for row in found)
    assert list(found) == sorted(found, key=lambda row: row.id)
