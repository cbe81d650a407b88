"""The look of every second leaves out no sweep and no job that would find something."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from functools import partial

import pytest
from django.utils import timezone

from tests.integration.maintenance.poisoned import POISONED
from tests.integration.maintenance.sweep_cases import NOOP, Case, clean, turn  # noqa: F401  (clean: a fixture)
from tests.integration.maintenance.test_rescue import damage
from tests.support.by_hand import start
from tests.support.workers import await_that, leave_nothing, publish
from workflows.engine.celery_tasks import tidy
from workflows.engine.maintenance import due_work, leader, periodic_jobs
from workflows.engine.state import database
from workflows.models import (
    BulkOperation,
    CeleryTask,
    CronFire,
    Event,
    FanOut,
    Flow,
    ModelWait,
    Organization,
    Run,
    StepRun,
    Wait,
    Worker,
)

NAMED = {*leader.RESCUES, *due_work.JOBS} - leader.ALWAYS - {leader.QUEUE_SIZES}
BY_HAND = {"lost joins", "lost messages", "Celery tasks", "waits for rows"}


@pytest.fixture
def nothing_left(org: Organization, other: Organization) -> Iterator[None]:
    """What a test gives the leader to do is gone afterwards: nobody does it here, and the next tests' sweeps would."""
    yield
    orgs = [org.id, other.id]
    for each in (org, other):
        leave_nothing(each)
    CronFire.objects.filter(org_id__in=orgs).delete()
    Wait.objects.filter(org_id__in=orgs).delete()
    FanOut.objects.filter(org_id__in=orgs).delete()
    Event.objects.filter(org_id__in=orgs, matched_at=None).update(matched_at=timezone.now())
    BulkOperation.objects.filter(org_id__in=orgs).update(status=BulkOperation.Status.STOPPED)
    Run.objects.filter(org_id__in=orgs).update(follow_up=False)
    Flow.objects.filter(organization__in=orgs).update(deletion_asked_at=None)


def test_each_of_them_is_shown_here() -> None:
    assert NAMED & POISONED.keys() | BY_HAND == NAMED
    assert periodic_jobs.JOBS.keys() >= due_work.JOBS


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("name", sorted(NAMED & POISONED.keys()))
def test_what_a_sweep_or_a_job_would_find_is_named(
    name: str, org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    POISONED[name](Case(bad=org, good=other, monkeypatch=monkeypatch))
    assert name in due_work.look().names


@pytest.mark.usefixtures("nothing_left")
def test_a_lost_join_is_named(org: Organization) -> None:
    run_id = start(org, [{"id": "a", "type": "noop"}, {"id": "b", "type": "noop"}])
    damage("UPDATE headrace_workflows_steprun SET needs_left = 0 WHERE run_id = %s AND key = 'b' RETURNING 1", run_id)
    assert "lost joins" in due_work.look().names


@pytest.mark.usefixtures("nothing_left")
def test_a_step_that_waits_for_a_row_is_named(org: Organization) -> None:
    run_id = start(org, [{"id": "a", "type": "noop"}])
    step = StepRun.objects.get(run_id=run_id)
    ModelWait.objects.create(
        step_run_id=step.id, org_id=org.id, table_name="shop_order", looked_at=timezone.now(), expires_at=timezone.now()
    )
    ModelWait.objects.filter(step_run_id=step.id).update(changed_at=timezone.now())
    assert "waits for rows" in due_work.look().names
    ModelWait.objects.filter(step_run_id=step.id).delete()


@pytest.mark.usefixtures("nothing_left")
def test_a_message_on_its_way_may_be_lost(org: Organization) -> None:
    run_id = start(org, [NOOP])
    StepRun.objects.filter(run_id=run_id).update(dispatched_at=timezone.now())
    assert "lost messages" in due_work.look().names


def test_tasks_of_steps_are_looked_after(org: Organization) -> None:
    now = timezone.now()
    CeleryTask.objects.create(
        task_id=f"{uuid.uuid4()}-1", step_run_id=uuid.uuid4(), org_id=org.id, run_id=uuid.uuid4(), name="a.b",
        state="ended", created_at=now, taken_at=now,
    )  # fmt: skip
    assert "Celery tasks" in due_work.look().names
    assert not tidy.tidy()
    assert not CeleryTask.objects.filter(org_id=org.id).exists()


def test_a_change_of_what_workers_announce_is_seen(live_db: None) -> None:
    worker = Worker(
        id=uuid.uuid4(), name="x", queues=["headrace.io"], slots=1, capacity=1, lanes={}, active=0, unclaimed=0
    )
    worker.claimed_until = {}
    before = due_work.look().workers
    worker.seen_at = worker.started_at = timezone.now()
    worker.save()
    try:
        one = due_work.look().workers
        Worker.objects.filter(id=worker.id).update(seen_at=timezone.now(), active=1)
        assert due_work.look().workers == one, "a report that says the same"
        Worker.objects.filter(id=worker.id).update(lanes={"headrace.io": 3})
        assert len({before, one, due_work.look().workers}) == 3
    finally:
        worker.delete()


@pytest.mark.usefixtures("nothing_left")
def test_a_fire_that_waits_for_its_turn_is_named(org: Organization) -> None:
    publish(org, [NOOP], slug="queued")
    flow = org.flows.get(slug="queued")
    CronFire.objects.create(org_id=org.id, flow=flow, fire_at=timezone.now(), outcome=CronFire.Outcome.QUEUED)
    assert "schedules" in due_work.look().names


@pytest.mark.parametrize(
    ("names", "statements"), [(set(), set()), ({"lost joins", "left-over events"}, {"rescue_unmarked"})]
)
def test_only_what_is_named_is_done(
    live_db: None, monkeypatch: pytest.MonkeyPatch, names: set[str], statements: set[str]
) -> None:
    found = due_work.DueWork(names=frozenset(names), outstanding=False, revision=-1, workers="")
    monkeypatch.setattr(due_work, "look", lambda: found)
    looking = turn()
    database.counter().by_name.clear()
    assert leader.rescue(looking) == names
    assert database.counter().by_name.keys() == statements


def test_a_job_waits_until_a_look_names_it() -> None:
    done: list[str] = []
    jobs = [periodic_jobs.Job(name=name, every_s=0.0, work=partial(done.append, name)) for name in ("one", "two")]
    runner = periodic_jobs.JobRunner(lambda: True, jobs, named_by_looks={"one", "two"})
    runner.tell(())
    runner.start()
    try:
        runner.tell({"one"})
        await_that(lambda: "one" in done, 20, "the job that is named")
        assert "two" not in done
    finally:
        runner.stop()


def test_where_nobody_looks_jobs_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic_jobs, "UNTOLD_S", 0.1)
    done = threading.Event()
    job = periodic_jobs.Job(name="one", every_s=0.0, work=done.set)
    runner = periodic_jobs.JobRunner(lambda: True, [job], named_by_looks={"one"})
    runner.start()
    try:
        assert done.wait(20)
    finally:
        runner.stop()
