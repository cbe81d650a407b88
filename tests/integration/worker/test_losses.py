"""A step that ends its worker fails alone; the steps beside it are not charged. Real workers, started again when they die."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlq.models import DeadLetter
from tests.support.by_hand import claim, runtime, start, steps_of
from tests.support.workers import WorkerPool, await_that, by_key, children_of, is_alive, leave_nothing, publish
from workflows import selectors, services
from workflows.definitions.compiled import NIL_UUID
from workflows.engine.maintenance import leader
from workflows.engine.pipeline import perform
from workflows.engine.state.records import ReadyStep
from workflows.engine.state.transitions import rescue as rescue_transitions
from workflows.engine.state.transitions import steps as step_transitions
from workflows.engine.worker.alone import suspects
from workflows.engine.worker.runtime import Runtime
from workflows.models import Attempt, Organization, Run, StepRun
from workflows.steps.outcome import Completed, HandBack


@pytest.fixture
def immortal(own_workers: WorkerPool) -> Iterator[WorkerPool]:
    """An I/O worker that a supervisor starts again whenever it dies, as production does."""
    over = threading.Event()
    environment = {"HEADRACE_LEASE_S": "2"}
    worker = own_workers.start("io", **environment)

    def supervise() -> None:
        nonlocal worker
        while not over.wait(0.1):
            if worker.poll() is not None:
                worker = own_workers.start("io", **environment)

    own_workers.await_ready(1)
    thread = threading.Thread(target=supervise)
    thread.start()
    yield own_workers
    over.set()
    thread.join()


@pytest.mark.parametrize("how", [0, signal.SIGKILL, signal.SIGSEGV], ids=["exit", "kill", "segfault"])
def test_only_the_step_that_ends_its_worker_fails(org: Organization, immortal: WorkerPool, how: int) -> None:
    """Its neighbours are lost as often as it kills the worker, and complete all the same."""
    innocent = publish(org, [{"id": "a", "type": "probe_thread", "config": {"hold_ms": 1_500}},
                             {"id": "b", "type": "probe_async", "config": {"hold_ms": 1_500}, "needs": []}],
                       slug="innocent")  # fmt: skip
    culprit = publish(
        org, [{"id": "k", "type": "kills", "config": {"signal": int(how), "after_ms": 300}}], slug="culprit"
    )
    good, bad = services.trigger_many(org, innocent, [{}] * 5), services.trigger_many(org, culprit, [{}] * 2)
    runs = [*good.run_ids, *bad.run_ids]
    await_that(lambda: not Run.objects.filter(id__in=runs, ended_at=None).exists(), 120, "all runs end")
    assert set(Run.objects.filter(id__in=good.run_ids).values_list("status", flat=True)) == {"completed"}
    for run_id in bad.run_ids:
        detail = selectors.run_detail(org, run_id)
        step = by_key(detail)["k"].step_run
        assert (detail.run.status, detail.run.error["category"], step.solitary_losses) == ("failed", "resource", 3)
    assert Attempt.objects.filter(run_id__in=good.run_ids, status="lost").exists()  # it was beside them
    assert not StepRun.objects.filter(run_id__in=good.run_ids, solitary_losses__gt=0).exists()


def test_a_suspect_is_performed_as_any_other_step(org: Organization, own_workers: WorkerPool) -> None:
    """Its outcome, its errors and its retries are those of a step that never lost its worker."""
    own_workers.start("io")
    own_workers.await_ready(1)
    steps = [
        {"id": "fine", "type": "raises", "config": {"how": "fine", "label": "${ run.id }"}, "needs": []},
        {"id": "async", "type": "probe_async", "config": {"hold_ms": 10}, "needs": []},
        {"id": "inline", "type": "data_transform", "config": {"expression": "1 + 1"}, "needs": []},
        {"id": "script", "type": "data_transform", "config": {"script": "return 3"}, "needs": []},
        {"id": "skipped", "type": "noop", "if": "1 > 2", "needs": []},
        {"id": "fails", "type": "raises", "config": {"how": "final", "logs": 2}, "critical": False, "needs": []},
        {"id": "again", "type": "raises", "config": {"how": "once:unknown"}, "retry": {"attempts": 2, "delay": "1ms"},
         "needs": []},
        {"id": "after", "type": "noop", "needs": ["fine", "again"]},
    ]  # fmt: skip
    run_id = services.trigger(org, publish(org, steps), {}, delay="1s").run_ids[0]
    assert StepRun.objects.filter(run_id=run_id).update(losses=2) == len(steps)
    await_that(lambda: not selectors.run_detail(org, run_id).run.is_live, 60, "the run ends")
    found = by_key(selectors.run_detail(org, run_id))
    assert {key: step.step_run.status for key, step in found.items()} == {
        **{step["id"]: "completed" for step in steps}, "skipped": "skipped", "fails": "failed",
    }  # fmt: skip
    assert {key: found[key].step_run.output for key in ("fine", "inline", "script", "again")} == {
        "fine": "fine", "inline": 2, "script": 3, "again": "recovered",
    }  # fmt: skip
    assert [attempt.status for attempt in found["again"].attempts] == ["failed", "completed"]
    assert len(found["fails"].attempts[0].logs) == 2


def test_a_suspect_can_be_cancelled_and_timed_out(org: Organization, own_workers: WorkerPool) -> None:
    own_workers.start("io")
    own_workers.await_ready(1)
    stubborn = {"id": "a", "type": "raises", "config": {"how": "ignores", "seconds": 60}}
    cancelled = services.trigger(org, publish(org, [stubborn], slug="c"), {}, delay="1s").run_ids[0]
    late = services.trigger(
        org, publish(org, [{**stubborn, "timeout": "1s", "retry": {"attempts": 1}}], slug="t"), {}, delay="1s"
    ).run_ids[0]
    StepRun.objects.filter(run_id__in=[cancelled, late]).update(losses=2)
    await_that(lambda: StepRun.objects.get(run_id=cancelled).status == "running", 30, "it executes")
    services.cancel_run(org, cancelled)
    await_that(lambda: not Run.objects.filter(id__in=[cancelled, late], ended_at=None).exists(), 30, "both end")
    assert Run.objects.get(id=cancelled).status == "cancelled"
    row = StepRun.objects.get(run_id=late)
    assert (row.status, row.losses, row.solitary_losses) == ("failed", 2, 0)


def test_a_step_that_ends_its_compute_child_fails_alone(org: Organization, own_workers: WorkerPool) -> None:
    own_workers.start("io", HEADRACE_LEASE_S="2")
    own_workers.start("compute", HEADRACE_LEASE_S="2")
    own_workers.await_ready(3)
    culprit = publish(org, [{"id": "k", "type": "kills_compute", "config": {"signal": 11}}], slug="culprit")
    innocent = publish(org, [{"id": "s", "type": "sandbox_sync", "config": {"code": "return 1"}}], slug="innocent")
    bad = services.trigger(org, culprit).run_ids[0]
    good = services.trigger_many(org, innocent, [{}] * 10).run_ids
    await_that(lambda: not Run.objects.filter(id__in=[bad, *good], ended_at=None).exists(), 90, "all runs end")
    assert StepRun.objects.get(run_id=bad).solitary_losses == 3
    assert set(Run.objects.filter(id__in=good).values_list("status", flat=True)) == {"completed"}


def test_a_process_for_suspects_ends_with_its_worker(org: Organization, own_workers: WorkerPool) -> None:
    worker = own_workers.start("io")
    own_workers.await_ready(1)
    slug = publish(org, [{"id": "a", "type": "raises", "config": {"how": "ignores", "seconds": 60}}])
    run_id = services.trigger(org, slug, {}, delay="1s").run_ids[0]
    StepRun.objects.filter(run_id=run_id).update(losses=2)
    child = await_that(lambda: children_of(worker.pid, "perform_alone"), 30, "its process is started")[0]
    adjusted = Path(f"/proc/{child}/oom_score_adj")
    await_that(lambda: adjusted.read_text().strip() == "800", 30, "the kernel ends it before its worker")
    own_workers.kill(worker)
    await_that(lambda: not is_alive(child), 10, "its process has ended")


def test_a_step_that_always_takes_its_worker_along_is_given_up(org: Organization, published: list[ReadyStep]) -> None:
    """It is never seen alone, since its worker dies with its process. Its neighbour of the first time goes on."""
    run_id = start(org, [{"id": "big", "type": "noop"}, {"id": "beside", "type": "noop", "needs": []}])
    rows = {row.key: row for row in StepRun.objects.filter(run_id=run_id)}
    worker = uuid.uuid4()
    assert len(step_transitions.claim([(str(row.id), row.attempt) for row in rows.values()], worker=worker).claims) == 2
    StepRun.objects.filter(id=rows["big"].id).update(losses=rescue_transitions.MAX_ALL_LOSSES - 1)
    StepRun.objects.filter(run_id=run_id).update(lease_until="2026-01-01T00:00:00Z")
    leader._dead_leases(NIL_UUID)
    assert steps_of(run_id)["big"] == "failed"
    letter = DeadLetter.objects.get(run_id=run_id)
    assert (letter.category, "'big'" in letter.error_message) == ("resource", True)
    assert StepRun.objects.get(id=rows["beside"].id).losses == 1


@pytest.fixture
def idle() -> Runtime:
    """A runtime of this process that is not started: what it would record is in its queue."""
    return runtime()


def visit_of(worker: Runtime, org: Organization, *, losses: int = 2, **more: object) -> perform.Visit:
    run_id = start(org, [{"id": "a", "type": "raises", "config": {"how": "fine"}, **more}])
    StepRun.objects.filter(run_id=run_id).update(losses=losses)
    (visit,) = perform.open_visits([claim(run_id, "a")])
    worker.in_flight.add([visit])
    return visit


def test_a_suspect_for_which_there_is_no_room_goes_back_for_a_while(
    org: Organization, published: list[ReadyStep], idle: Runtime
) -> None:
    idle.suspects._count = suspects.MAX_SUSPECTS
    visit = visit_of(idle, org)
    idle.suspects.start(visit)
    outcome = idle.results.get_nowait().outcome
    assert isinstance(outcome, HandBack)
    assert outcome.after_s
    assert (idle.suspects._count, idle.suspects._processes, visit.is_closed) == (suspects.MAX_SUSPECTS, {}, True)


def test_a_suspect_that_was_given_up_is_not_performed(
    org: Organization, published: list[ReadyStep], idle: Runtime
) -> None:
    """It waited for a process, and its visit has failed meanwhile: rescue runs it elsewhere."""
    visit = visit_of(idle, org)
    idle.in_flight.forget([visit.claim.id])
    try:
        assert idle.suspects._result(visit) is None
    finally:
        idle.suspects._drop_process()


def test_suspects_leave_room_for_other_steps(org: Organization, own_workers: WorkerPool) -> None:
    """Sixty that lost their worker wait for four processes; one that came after them does not wait for their ends."""
    long = publish(org, [{"id": "a", "type": "raises", "config": {"how": "ignores", "seconds": 3}}], slug="long")
    runs = services.trigger_many(org, long, [{}] * 60).run_ids
    assert StepRun.objects.filter(run_id__in=runs).update(losses=2) == len(runs)
    short = services.trigger(org, publish(org, [{"id": "a", "type": "noop"}], slug="short")).run_ids[0]
    own_workers.start("io", HEADRACE_IO_SLOTS="10")
    try:
        await_that(lambda: not Run.objects.get(id=short).is_live, 90, "the other step")
        assert Run.objects.filter(id__in=runs, ended_at=None).count() > 40
    finally:
        leave_nothing(org)


def test_a_step_that_is_late_is_closed_before_its_process_is_ended(
    org: Organization, published: list[ReadyStep], idle: Runtime
) -> None:
    """Else the end of its process could be taken for a loss."""
    visit = visit_of(idle, org, timeout="1s")
    closed: list[bool] = []
    visit.stoppers.append(lambda: closed.append(visit.is_closed))
    visit.performed_since = time.monotonic() - 100
    idle.heartbeat._end_overdue()
    assert closed == [True]
    assert idle.results.get_nowait().claim == visit.claim


def test_a_step_whose_start_fails_takes_no_other_along(
    org: Organization, published: list[ReadyStep], idle: Runtime, monkeypatch: pytest.MonkeyPatch,
    worker_environment: dict[str, str],
) -> None:  # fmt: skip
    """Its process would wait for an answer still, and take the next claim for that."""
    monkeypatch.setenv("DATABASE_URL", worker_environment["DATABASE_URL"])
    answers = iter([RuntimeError("the gate's answer can't be read")])

    def may_start(visits: list[perform.Visit]) -> set[uuid.UUID]:
        for error in answers:
            raise error
        return {visit.claim.id for visit in visits}

    monkeypatch.setattr(idle._permits, "may_start", may_start)
    first, second = visit_of(idle, org), visit_of(idle, org)
    try:
        with pytest.raises(RuntimeError, match="can't be read"):
            idle.suspects._result(first)
        result = idle.suspects._result(second)
        assert result is not None
        assert isinstance(result.outcome, Completed)
    finally:
        idle.suspects._drop_process()


def test_a_suspect_that_is_closed_while_it_loads_does_not_start(
    org: Organization, published: list[ReadyStep], idle: Runtime
) -> None:
    visit = visit_of(idle, org)
    visit.start_by = time.monotonic() + 100
    assert idle.suspects._may_start(visit)
    visit.close()
    assert not idle.suspects._may_start(visit)
