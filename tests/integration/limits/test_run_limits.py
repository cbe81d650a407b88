"""Ten runs at once: who has a place among all runs, who gives it up, and what is said of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from tests.support import probes
from tests.support.workers import WorkerPool, await_end, await_that, publish, scalar, shipped_policies
from throttling import environment
from throttling.errors import ThrottlingError
from throttling.models import DefaultSize, ThrottleOverride
from workflows import services
from workflows.engine.maintenance import gate_sync
from workflows.engine.pipeline import admit
from workflows.models import Organization, Run, StepRun
from workflows.selectors import run_limits
from workflows.services import approvals, limits

ASK = {"id": "ask", "type": "wait_for_approval", "config": {"title": "May it go on?"}}


def probe(key: str, hold_ms: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": key, "type": "probe_async", "config": {"hold_ms": hold_ms}, **more}


class Places:
    """An override of how many runs work at once."""

    def __init__(self) -> None:
        self.row: ThrottleOverride | None = None

    def limit(self, number: int) -> None:
        row = ThrottleOverride(scope="runs", concurrency=number, rate_limit=100_000, rate_period_ms=60_000)
        self.row = limits.put_limit(row, by="test")

    @property
    def used(self) -> int:
        found = admit.gate().explain(instances=["c:runs:concurrency"]).limits
        return found[0].in_use


@pytest.fixture
def places(org: Organization, workers: WorkerPool) -> Iterator[Places]:
    """The places of all organizations: a step that another test has left has one until it ends."""
    await_that(lambda: not StepRun.objects.filter(status="running").exists(), 60, "nobody is at work")
    made = Places()
    yield made
    live = list(Run.objects.filter(org_id=org.id, ended_at=None).values_list("id", flat=True))
    services.cancel_runs(org, live)
    if made.row is not None:
        limits.delete_limit(made.row, by="test")


def waiting(org: Organization, number: int) -> Any:
    found = StepRun.objects.filter(org_id=org.id, key="ask", status="waiting")
    return await_that(lambda: found.count() == number, 30, f"{number} runs wait")


def test_twelve_runs_that_wait_for_approval_do_not_block_a_thirteenth(org: Organization, places: Places) -> None:
    places.limit(10)
    slug = publish(org, [ASK, probe("act")])
    runs = services.trigger_many(org, slug, [{}] * 12).run_ids
    waiting(org, 12)
    (last,) = services.trigger(org, publish(org, [probe("a")], slug="thirteenth")).run_ids
    assert await_end(org, last).run.status == "completed"
    await_that(lambda: places.used == 0, 15, "nobody that waits has a place")
    for step in StepRun.objects.filter(run_id__in=runs, key="ask"):
        approvals.decide(org, step.id, approve=True, by=approvals.Decider(name="anna", roles=frozenset()))
    for run in runs:
        assert await_end(org, run).run.status == "completed"


def test_what_goes_on_after_its_wait_has_a_place_again_before_those_that_have_not_started(
    org: Organization, places: Places
) -> None:
    places.limit(1)
    sleeper = publish(org, [{"id": "nap", "type": "delay", "config": {"for": "1s"}}, probe("act", 200)], slug="sleeper")
    busy = publish(org, [probe("act", 1_500)], slug="busy")
    (first,) = services.trigger(org, sleeper).run_ids
    await_that(lambda: StepRun.objects.filter(run_id=first, status="waiting").exists(), 15)
    others = services.trigger_many(org, busy, [{}] * 3).run_ids
    for run in (first, *others):
        assert await_end(org, run).run.status == "completed"
    spans = probes.spans({str(run) for run in (first, *others)})
    assert probes.most_at_once(spans, {}) == 1
    order = [span.run for span in sorted(spans, key=lambda span: span.start_us)]
    assert order.index(str(first)) == 1  # one of the others had the place while it slept; two came after it


def test_a_run_with_another_step_at_work_keeps_its_place(org: Organization, places: Places) -> None:
    places.limit(1)
    slug = publish(org, [probe("work", 1_500, needs=[]), {**ASK, "needs": []}], slug="both")
    (first,) = services.trigger(org, slug).run_ids
    waiting(org, 1)
    (second,) = services.trigger(org, publish(org, [probe("a")], slug="other")).run_ids
    await_end(org, second)
    spans = {span.run: span for span in probes.spans({str(first), str(second)})}
    assert spans[str(second)].start_us >= (spans[str(first)].end_us or 0)


def test_a_child_runs_in_the_place_that_its_parent_gave_up(org: Organization, places: Places) -> None:
    places.limit(1)
    publish(org, [probe("a", 100)], slug="child")
    parent = publish(org, [{"id": "call", "type": "invoke_flow", "config": {"flow": "child"}}, probe("b")])
    runs = services.trigger_many(org, parent, [{}] * 3).run_ids
    for run in runs:
        assert await_end(org, run).run.status == "completed"
    everybody = {str(id_) for id_ in Run.objects.filter(org_id=org.id).values_list("id", flat=True)}
    assert len(everybody) == 6
    assert probes.most_at_once(probes.spans(everybody), {}) == 1


def test_after_the_loss_of_the_store_those_that_wait_have_no_places(org: Organization, places: Places) -> None:
    places.limit(2)
    services.trigger_many(org, publish(org, [ASK]), [{}] * 3)
    waiting(org, 3)
    gate_sync.GateSync().rebuild(anew=True)
    assert places.used == 0
    (last,) = services.trigger(org, publish(org, [probe("a")], slug="last")).run_ids
    assert await_end(org, last).run.status == "completed"


def test_the_audit_finds_a_place_that_nobody_gave_up(org: Organization, places: Places) -> None:
    """A worker may die between the recording of a wait and its call of the gate."""
    places.limit(3)
    (run,) = services.trigger(org, publish(org, [ASK, probe("b")])).run_ids
    waiting(org, 1)
    await_that(lambda: places.used == 0, 15)
    gate = admit.gate()
    key = f"{gate.prefix}{gate.epoch()[0]}:"
    record = gate.client.hget(f"{key}permit", f"run:{run.hex}")
    gate.client.hset(f"{key}permit", f"run:{run.hex}", "h" + str(record)[1:])
    gate.client.incr(f"{key}u:c:runs:concurrency")
    assert places.used == 1
    gate_sync.audit()
    assert places.used == 0


# --- what is shipped, and what is said of it ---------------------------------------------------------------------------


@pytest.fixture
def size(live_db: None) -> Iterator[Any]:
    def choose(name: str) -> None:
        DefaultSize.objects.update(size=name)
        admit.snapshot().reload()

    yield choose
    choose("off")
    admit.snapshot().reload()


def said() -> tuple[dict[str, Any], str]:
    texts = []
    for arguments in (["--json"], []):
        out = StringIO()
        with contextlib.suppress(SystemExit):  # of other tests' faults
            call_command("doctor", *arguments, stdout=out)
        texts.append(out.getvalue())
    return json.loads(texts[0])["runLimits"], texts[1]


def test_doctor_says_how_many_runs_work_at_once(size: Any) -> None:
    size("1gb")
    found, text = said()
    assert found == {"concurrency": 10, "rate": {"limit": 100, "periodMs": 60_000}, "source": "database"}
    assert "At most 10 runs work at once and 100 start in 60 s (by the database)" in text
    size("off")
    found, text = said()
    assert found == {"concurrency": None, "rate": None, "source": "database"}
    assert "from before there was a limit" in text
    assert "HEADRACE_SIZE=1gb sets the same here" in text


def test_the_capacity_says_what_holds(org: Organization) -> None:
    with shipped_policies():
        assert "up to 10 workflows" in services.queue_stats(org, store_available=True)["capacity"]["message"]
        assert run_limits.current().concurrency == 10
    message = services.queue_stats(org, store_available=True)["capacity"]["message"]
    assert message.startswith("Running any number of workflows.")


def test_the_environment_comes_before_the_database() -> None:
    read = environment.read_run_policy
    assert read({}, "1gb").concurrency == 10
    assert read({"HEADRACE_SIZE": "4gb"}, "1gb").concurrency == 40
    assert read({"HEADRACE_SIZE": "off"}, "1gb").concurrency is None
    assert read({"HEADRACE_GLOBAL_RUN_CONCURRENCY": "7"}, "1gb").concurrency == 7
    with pytest.raises(ThrottlingError, match="512mb, 1gb, 2gb, 4gb or off"):
        read({"HEADRACE_SIZE": "huge"}, "1gb")


def test_a_database_in_use_goes_on_without_a_limit_and_has_one_row(org: Organization) -> None:
    from importlib import import_module

    from django.apps import apps
    from django.db import connection, transaction

    migration = import_module("throttling.migrations.0005_default_size")
    with transaction.atomic(), connection.schema_editor() as editor:
        DefaultSize.objects.all().delete()
        migration.choose(apps, editor)
        assert DefaultSize.objects.get().size == "off"
        DefaultSize.objects.all().delete()
        migration.ORGANIZATIONS = "no_such_table"  # type: ignore[attr-defined]  # as in a database that is made now
        try:
            migration.choose(apps, editor)
        finally:
            migration.ORGANIZATIONS = "headrace_workflows_organization"  # type: ignore[attr-defined]
        assert DefaultSize.objects.get().size == "1gb"
        transaction.set_rollback(True)
    assert scalar("SELECT count(*) FROM headrace_throttling_defaultsize") == 1
