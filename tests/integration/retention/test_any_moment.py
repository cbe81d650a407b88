"""Deleting at any moment changes no open run. Passes without any age (what has ended is deleted at once unless something
refers to it) go on and on while real workers execute parents with children, maps, waits, batches, repairs and forks. What
became of each run is read from the export, which is all that is left of it."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connections
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlq.models import DeadLetter
from tests.support.workers import WorkerPool, await_that, publish
from workflows import services
from workflows.engine.events import receive
from workflows.engine.events.receive import NewEvent
from workflows.engine.retention.walking import Walk, Wanted
from workflows.errors import RunNotFound
from workflows.models import Event, Organization, PrunedRun, Run, StepRun
from workflows.services import bulk, repair
from workflows.services.retention import exporting

PATIENCE_S = 60.0
CHILD = [
    {"id": "nap", "type": "delay", "config": {"for": "30ms"}},
    {"id": "double", "type": "data_transform", "config": {"expression": "input.n * 2"}},
]
PARENT = [
    {"id": "all", "type": "map", "config": {"items": "${ input.items }", "parallelism": 3},
     "steps": [{"id": "call", "type": "invoke_flow", "config": {"flow": "child", "data": {"n": "${ item }"}}}]},
    {"id": "sum", "type": "data_transform", "config": {"expression": "steps['all'].output.results"}},
]  # fmt: skip
WAITER = [
    {"id": "first", "type": "invoke_flow", "config": {"flow": "child", "data": {"n": "${ input.n }"}}},
    {"id": "wait", "type": "wait_for_event",
     "config": {"event": "any/go", "if": "async.data.key == event.data.key", "lookback": "1m"}},
    {"id": "both", "type": "data_transform", "config": {"expression": "[steps['first'].output, steps['wait'].output.data.n]"}},
]  # fmt: skip
FRAGILE = [
    {"id": "kept", "type": "data_transform", "config": {"expression": "input.n + 1"}},
    {"id": "all", "type": "map", "config": {"items": "${ input.items }"},
     "steps": [{"id": "divide", "type": "data_transform", "config": {"expression": "10 / (item + input.shift)"},
                "retry": {"attempts": 1}}]},
    {"id": "sum", "type": "data_transform", "config": {"expression": "[steps['kept'].output, steps['all'].output.successful]"}},
]  # fmt: skip
BATCH = [{"id": "count", "type": "data_transform", "config": {"expression": "size(input.events)"}}]


def publish_all(org: Organization) -> None:
    publish(org, CHILD, slug="child")
    publish(org, PARENT, slug="parent")
    publish(org, WAITER, slug="waiter")
    publish(org, FRAGILE, slug="fragile")
    publish(org, BATCH, slug="batch", on=[{"event": "any/batched"}], batch={"max_size": 100, "timeout": "400ms"})


class Passes:
    """Passes over an organization without an age, on a thread; what they have exported."""

    def __init__(self, org: Organization, path: Path, pauses_ms: list[int]) -> None:
        self._org, self._pauses = org, pauses_ms
        self._exporter = exporting.Exporter(path)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.failed: list[BaseException] = []

    def _run(self) -> None:
        number = 0
        try:
            while not self._stop.is_set():
                wanted = Wanted(org_ids=[self._org.id], older_than=dt.timedelta(), export=self._exporter.write)
                for _ in Walk(wanted, now=timezone.now()).pieces():
                    time.sleep(self._pauses[number % len(self._pauses)] / 1_000)
                    number += 1
                time.sleep(0.005)
        except BaseException as error:
            self.failed.append(error)
        finally:
            connections.close_all()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(PATIENCE_S)
            self._exporter.close()

    def exported(self) -> dict[str, dict[str, Any]]:
        """By run: its row, and the outputs of its steps at the top."""
        found: dict[str, dict[str, Any]] = {}
        for line in gzip.decompress(self._exporter.path.read_bytes()).splitlines():
            value = json.loads(line)
            if value.get("kind") == "run":
                found[value["row"]["id"]] = {**value["row"], "outputs": {}}
            elif value.get("kind") == "step_run" and value["row"]["path"] == "":
                found[value["row"]["run_id"]]["outputs"][value["row"]["key"]] = value["row"]["output"]
        return found


Expected = dict[UUID, tuple[str, str, Any]]
"""By run: its status, and a step with its output."""


def do_parent(org: Organization, size: int) -> Expected:
    items = list(range(size))
    run_id = services.trigger(org, "parent", {"items": items}).run_ids[0]
    return {run_id: ("completed", "sum", [2 * n for n in items])}


def do_waiter(org: Organization, size: int) -> Expected:
    """Its event may come before the wait."""
    key = uuid.uuid4().hex
    run_id = services.trigger(org, "waiter", {"n": size, "key": key}).run_ids[0]
    time.sleep(size / 50)
    receive.receive(org.id, [NewEvent(name="any/go", data={"key": key, "n": size})])
    return {run_id: ("completed", "both", [2 * size, size])}


def do_repair(org: Organization, size: int) -> Expected:
    """A map with a bad item fails; it is resumed with another input, and what was done is taken over."""
    items = [0, *range(1, size + 1)]
    failing = services.trigger(org, "fragile", {"n": size, "items": items, "shift": 0}).run_ids[0]
    await_that(lambda: DeadLetter.objects.filter(run_id=failing).exists(), PATIENCE_S, "a letter")
    await_that(lambda: Run.objects.filter(id=failing).exclude(ended_at=None).exists(), PATIENCE_S, "its end")
    again = repair.replay(
        org, failing, by="test", mode="resume", new_input={"n": size, "items": items, "shift": 1}
    ).run_id  # fmt: skip
    assert again is not None
    return {failing: ("failed", "kept", size + 1), again: ("completed", "sum", [size + 1, size + 1])}


def do_fork(org: Organization, size: int) -> Expected:
    """It may be gone before it can be forked; then that is said."""
    run_id = services.trigger(org, "child", {"n": size}).run_ids[0]
    expected: Expected = {run_id: ("completed", "double", 2 * size)}
    await_that(lambda: not Run.objects.filter(id=run_id, ended_at=None).exists(), PATIENCE_S, "its end")
    try:
        fork = repair.fork_run(org, run_id, ["double"]).run_id
    except RunNotFound:
        return expected
    assert fork is not None
    return {**expected, fork: ("completed", "double", 2 * size)}


def do_operation(org: Organization, size: int) -> Expected:
    """Failed runs are repaired in bulk, and fail again."""
    failing = services.trigger(org, "fragile", {"n": size, "items": [0], "shift": 0}).run_ids[0]
    await_that(lambda: Run.objects.filter(id=failing).exclude(ended_at=None).exists(), PATIENCE_S, "its end")
    operation = bulk.start(org, "replay_runs", {"status": "failed"}, by="test", options={"mode": "resume"})
    await_that(lambda: bulk.get(org, operation.id).status == "completed", PATIENCE_S, "the operation")
    return {failing: ("failed", "kept", size + 1)}


def do_batch(org: Organization, size: int) -> Expected:
    events = [NewEvent(name="any/batched", data={"n": number}) for number in range(size)]
    receive.receive(org.id, events)
    return {}


SCENARIOS = {
    "parent": do_parent, "waiter": do_waiter, "repair": do_repair, "fork": do_fork, "operation": do_operation,
    "batch": do_batch,
}  # fmt: skip


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    plan=st.lists(st.tuples(st.sampled_from(sorted(SCENARIOS)), st.integers(1, 5)), min_size=3, max_size=6),
    pauses_ms=st.lists(st.integers(0, 20), min_size=1, max_size=5),
)
def test_every_open_run_ends_as_without(
    workers: WorkerPool, tmp_path: Path, plan: list[tuple[str, int]], pauses_ms: list[int]
) -> None:
    org = Organization.objects.create(slug=f"any-{uuid.uuid4().hex[:12]}", name="Any")
    publish_all(org)
    expected: Expected = {}
    passes = Passes(org, tmp_path / f"{uuid.uuid4().hex}.jsonl.gz", pauses_ms)
    with passes.under_way():
        for name, size in plan:
            expected |= SCENARIOS[name](org, size)
        await_that(
            lambda: not Run.objects.filter(org_id=org.id, ended_at=None).exists()
            and not Event.objects.filter(org_id=org.id, matched_at=None).exists(),
            PATIENCE_S, "the end of all runs",
        )  # fmt: skip
        DeadLetter.objects.filter(org_id=org.id).update(status="ignored", repairing=False)
        await_that(
            lambda: not Run.objects.filter(org_id=org.id).exists() or passes.failed, PATIENCE_S, "all is deleted"
        )
        await_that(lambda: not PrunedRun.objects.filter(org_id=org.id).exists(), PATIENCE_S, "the rest is deleted")
    assert passes.failed == []
    found = passes.exported()
    for run_id, (status, step, output) in expected.items():
        row = found[str(run_id)]
        assert (row["status"], row["outputs"][step]) == (status, output), (plan, row)
    gathered = sum(row["outputs"]["count"] for row in found.values() if "count" in row["outputs"])
    assert gathered == sum(size for name, size in plan if name == "batch")
    children = [row for row in found.values() if row["parent_id"] is not None]
    assert all(row["status"] == "completed" for row in children)
    assert not StepRun.objects.filter(org_id=org.id).exists()


def test_a_wait_for_a_run_that_is_gone_ends_with_a_word(org: Organization, workers: WorkerPool) -> None:
    """A flow's own idempotency key gives an old run, which has ended and is deleted: nobody waits for it for ever."""
    publish(org, CHILD, slug="once", idempotency={"key": "input.n"})
    publish(org, [{"id": "call", "type": "invoke_flow", "config": {"flow": "once", "data": {"n": 1}}}], slug="calls")
    first = services.trigger(org, "once", {"n": 1}).run_ids[0]
    await_that(lambda: Run.objects.filter(id=first).exclude(ended_at=None).exists(), PATIENCE_S, "its end")
    for _ in Walk(Wanted(org_ids=[org.id], older_than=dt.timedelta()), now=timezone.now()).pieces():
        pass
    caller = services.trigger(org, "calls").run_ids[0]
    await_that(lambda: Run.objects.filter(id=caller).exclude(ended_at=None).exists(), PATIENCE_S, "its end")
    assert "is deleted" in json.dumps(Run.objects.get(id=caller).error)
