"""One poisoned item never stops a sweep: every sweep and job of the engine, each with something bad in it."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import InterfaceError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from psycopg import InterfaceError as PsycopgInterfaceError

from dlq import services as dlq
from dlq.alerting import evaluation
from dlq.models import Alert, AlertNotification, AlertRule, DeadLetter
from tests.support.by_hand import claim, end, fail, start, steps_of
from tests.support.poison import ERRORS, Panic, doctor, poisoned, told_of
from tests.support.workers import await_that, publish, scalar
from workflows import services
from workflows.engine.containers import fan_out
from workflows.engine.events import matching
from workflows.engine.maintenance import budgets, gate_sync, periodic_jobs, sweeps
from workflows.engine.maintenance import leader as maintenance
from workflows.engine.pipeline import publish as dispatch
from workflows.engine.pipeline import record as recording
from workflows.engine.repair import on_failure
from workflows.engine.state import database
from workflows.engine.state.records import NOBODY, ReadyStep, Verdict
from workflows.engine.waits import resolve
from workflows.models import (
    CronFire,
    Event,
    Flow,
    IdempotencyKey,
    Organization,
    Run,
    StepRun,
    SweepFailure,
    SystemFeed,
    Trigger,
    Wait,
)
from workflows.services import approvals, bulk, schedules, system_events
from workflows.services.flows import archiving
from workflows.steps.outcome import Completed, FanOut, Outcome, WaitFor

NOOP = {"id": "a", "type": "noop"}
HOUR = {"id": "a", "type": "delay", "config": {"for": "1h"}}
TABLES = {"TIMERS": maintenance.TIMERS, "RESCUES": maintenance.RESCUES, "RARE": maintenance.RARE}


@pytest.fixture(autouse=True)
def clean(published: list[ReadyStep], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No notes of earlier tests, and none of this one for later ones; nothing is put off, and no grace is left."""
    SweepFailure.objects.all().delete()
    sweeps.LEDGER.forget_memory()
    monkeypatch.setattr("workflows.engine.waits.waits.GRACE_S", 0.0)
    yield
    SweepFailure.objects.all().delete()
    sweeps.LEDGER.forget_memory()


def turn() -> maintenance.Turn:
    return maintenance.Turn(worker=NOBODY, keeper=gate_sync.Keeper())


def now_again() -> None:
    """What is put off may be tried again."""
    try_again_in(-1)


def try_again_in(seconds: float) -> None:
    SweepFailure.objects.update(try_again_at=timezone.now() + dt.timedelta(seconds=seconds))
    sweeps.LEDGER.forget_memory()


# --- a sweep that raises -------------------------------------------------------------------------------------------


def _raise(error: type[BaseException]) -> Callable[..., Any]:
    def work(*_: Any) -> None:
        raise error("poisoned")

    return work


@pytest.mark.parametrize("error", [RuntimeError, Panic])
@pytest.mark.parametrize(("table", "name"), [(table, name) for table, found in TABLES.items() for name in found])
def test_a_sweep_that_raises_keeps_no_other_from_its_turn(
    table: str, name: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for each in TABLES[table]:
        monkeypatch.setitem(
            TABLES[table], each, _raise(error) if each == name else lambda _, each=each: done.append(each)
        )
    maintenance.each(TABLES[table], turn())
    assert done == [each for each in TABLES[table] if each != name]
    noted = SweepFailure.objects.get(sweep=name)
    assert (noted.kind, noted.item, noted.error) == ("fails", "", f"{error.__name__}: poisoned")
    monkeypatch.setitem(TABLES[table], name, lambda _: None)
    maintenance.each(TABLES[table], turn())
    assert not SweepFailure.objects.exists(), "it works again"


@pytest.mark.parametrize("error", [RuntimeError, Panic])
@pytest.mark.parametrize("name", periodic_jobs.JOBS)
def test_a_job_that_raises_keeps_no_other_from_its_turn(
    name: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = {each: threading.Event() for each in periodic_jobs.JOBS}
    for each in periodic_jobs.JOBS:
        work = _raise(error) if each == name else done[each].set
        monkeypatch.setitem(periodic_jobs.JOBS, each, periodic_jobs.Job(name=each, every_s=60.0, work=work))
    runner = periodic_jobs.JobRunner(lambda: True)
    runner.start()
    try:
        assert all(event.wait(10) for each, event in done.items() if each != name)
        await_that(lambda: SweepFailure.objects.filter(sweep=name, item="").exists(), 10, "the note")
    finally:
        runner.stop()


def test_doctor_names_the_sweep_that_raises_from_any_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor()["failingSweeps"] == 0
    monkeypatch.setitem(maintenance.RESCUES, "lost joins", _raise(Panic))
    for _ in range(3):
        maintenance.each(maintenance.RESCUES, turn())
    found = doctor()
    assert (found["failingSweeps"], found["ok"]) == (1, False)
    told = told_of("lost joins")
    assert (told["trouble"], told["tries"], told["error"]) == ("fails", 3, "Panic: poisoned")
    assert dt.datetime.fromisoformat(told["since"]) > timezone.now() - dt.timedelta(minutes=1)


def test_a_job_whose_connection_is_gone_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Django says of it: the worker must not end for that."""
    for error in (
        InterfaceError("connection already closed"),
        PsycopgInterfaceError("closed"),
        RuntimeError("a fault"),
    ):

        def work(error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(sweeps.LEDGER, "note", _raise(InterfaceError))
        assert periodic_jobs.do(periodic_jobs.Job(name="gone", every_s=5.0, work=work)) == 5.0


def test_the_watch_over_budgets_goes_on_without_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = periodic_jobs.JobRunner(lambda: True)
    looked: list[int] = []

    def look() -> None:
        looked.append(1)
        if len(looked) == 3:
            runner._stop.set()
        raise InterfaceError("connection already closed")

    monkeypatch.setattr(budgets, "look", look)
    runner._watch()
    assert len(looked) == 3


# --- a job that takes long -----------------------------------------------------------------------------------------


def test_a_job_over_its_budget_is_told_of_and_keeps_no_other_from_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    release, turns = threading.Event(), threading.Semaphore(0)
    for each in list(periodic_jobs.JOBS):
        monkeypatch.delitem(periodic_jobs.JOBS, each)
    slow = periodic_jobs.Job(name="slow", every_s=0.0, work=lambda: release.wait(60), budget_s=0.2)
    monkeypatch.setitem(periodic_jobs.JOBS, "slow", slow)
    monkeypatch.setitem(periodic_jobs.JOBS, "quick", periodic_jobs.Job(name="quick", every_s=0.0, work=turns.release))
    runner = periodic_jobs.JobRunner(lambda: True)
    runner.start()
    try:
        await_that(lambda: told_of("slow"), 15, "the note")
        found = doctor()
        assert (found["overBudget"], told_of("slow")["trouble"], found["ok"]) == (1, "overran", False)
        for _ in range(5):
            assert turns.acquire(timeout=10), "the other job goes on"
        release.set()
        await_that(lambda: not told_of("slow"), 15, "the end of it")
    finally:
        release.set()
        runner.stop()


def _slow_and_urgent(monkeypatch: pytest.MonkeyPatch, slow: int) -> tuple[threading.Event, list[str], list[str]]:
    """So many jobs that last until the event, and an urgent one; and what of them has begun."""
    over, began, turns = threading.Event(), list[str](), list[str]()
    for each in list(periodic_jobs.JOBS):
        monkeypatch.delitem(periodic_jobs.JOBS, each)

    def last(name: str) -> None:
        began.append(name)
        over.wait(60)

    for number in range(slow):
        name = f"slow {number}"
        monkeypatch.setitem(
            periodic_jobs.JOBS, name, periodic_jobs.Job(name=name, every_s=60.0, work=partial(last, name))
        )
    urgent = periodic_jobs.Job(name="urgent", every_s=0.0, work=lambda: turns.append("x"), is_urgent=True)
    monkeypatch.setitem(periodic_jobs.JOBS, "urgent", urgent)
    return over, began, turns


def test_jobs_leave_connections_to_the_steps_and_an_urgent_one_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    over, began, turns = _slow_and_urgent(monkeypatch, slow=periodic_jobs.PLACES + 2)
    runner = periodic_jobs.JobRunner(lambda: True)
    runner.start()
    try:
        await_that(lambda: len(began) >= periodic_jobs.PLACES, 20, "as many as may work at once")
        done = len(turns)
        await_that(lambda: len(turns) >= done + 10, 20, "the urgent one")
        assert len(began) == periodic_jobs.PLACES
        over.set()
        await_that(lambda: len(began) == periodic_jobs.PLACES + 2, 20, "the others")
    finally:
        over.set()
        runner.stop()


def test_jobs_that_never_end_do_not_keep_the_places_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic_jobs, "PATIENCE_S", 0.3)
    over, began, _ = _slow_and_urgent(monkeypatch, slow=periodic_jobs.PLACES + 1)
    runner = periodic_jobs.JobRunner(lambda: True)
    runner.start()
    try:
        await_that(lambda: len(began) == periodic_jobs.PLACES + 1, 20, "the one beyond the places")
    finally:
        over.set()
        runner.stop()


def test_cron_and_left_over_events_are_urgent() -> None:
    assert {name for name, job in periodic_jobs.JOBS.items() if job.is_urgent} == {"schedules", "left-over events"}


def test_the_statement_of_a_job_far_over_its_budget_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in list(periodic_jobs.JOBS):
        monkeypatch.delitem(periodic_jobs.JOBS, each)
    asleep = periodic_jobs.Job(name="asleep", every_s=60.0, work=lambda: scalar("SELECT pg_sleep(600)"), budget_s=0.1)
    monkeypatch.setitem(periodic_jobs.JOBS, "asleep", asleep)
    runner = periodic_jobs.JobRunner(lambda: True)
    runner.start()
    try:
        failed = await_that(lambda: SweepFailure.objects.filter(sweep="asleep", kind="fails").first(), 30, "the cancel")
        assert "canceling statement" in failed.error
    finally:
        runner.stop()


def test_the_first_sweep_of_a_leader_can_be_cancelled_too() -> None:
    """Its thread has no connection yet when it begins."""
    said: list[BaseException] = []

    def lead() -> None:
        database.adopt()
        try:
            with budgets.watched("first", 0.1):
                database.connection().execute("SELECT pg_sleep(30)")
        except BaseException as error:
            said.append(error)
        finally:
            database.close()

    leader = threading.Thread(target=lead)
    leader.start()
    while leader.is_alive():
        budgets.look()
        leader.join(0.1)
    assert [type(error).__name__ for error in said] == ["QueryCanceled"]


def test_work_that_is_over_is_not_cancelled() -> None:
    """Its connection executes something else by then."""
    with budgets.watched("over", 0.0):
        (running,) = [each for each in budgets._running if each.name == "over"]
    asleep = threading.Thread(target=lambda: budgets._cancel(running))
    with connection.cursor() as cursor:
        asleep.start()
        cursor.execute("SELECT pg_sleep(1)")
    asleep.join()


def test_a_sweep_of_the_leader_is_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "SWEEP_BUDGET_S", 0.0)
    monkeypatch.setitem(maintenance.RARE, "orphan waits", lambda _: budgets.look())
    maintenance.each({"orphan waits": maintenance.RARE["orphan waits"]}, turn())
    assert told_of("orphan waits")["trouble"] == "overran"


# --- a poisoned item in each ---------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Case:
    """Two organizations, of which the first has something bad; `sweep` the name under which doctor tells of it."""

    bad: Organization
    good: Organization
    monkeypatch: pytest.MonkeyPatch


@dataclass(kw_only=True)
class Recipe:
    """`poison` is the context in which the item is bad; `work` the sweep; `went_on` whether the good one had its turn."""

    poison: Any
    work: Callable[[], object]
    went_on: Callable[[], object]
    told: str


def _refusing(run_id: UUID, case: Case) -> None:
    """Publishing anything of the run raises."""

    def send(steps: list[ReadyStep]) -> None:
        if any(step.run_id == run_id for step in steps):
            raise Panic("poisoned")

    case.monkeypatch.setattr(dispatch, "publish", send)


class _Nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def _undispatched(case: Case) -> Recipe:
    runs = [start(case.bad, [NOOP]), start(case.good, [NOOP])]
    StepRun.objects.filter(run_id__in=runs).update(dispatched_at=None, ready_at="2026-01-01T00:00:00Z")
    _refusing(runs[0], case)
    good = StepRun.objects.filter(run_id=runs[1]).exclude(dispatched_at=None)
    return Recipe(
        poison=_Nothing(),
        work=lambda: maintenance.each({"x": maintenance.RESCUES["undispatched steps"]}, turn()),
        went_on=good.exists,
        told="undispatched steps",
    )


def _unsettled(deep: bool) -> Callable[[Case], Recipe]:
    def recipe(case: Case) -> Recipe:
        runs = [start(case.bad, [NOOP]), start(case.good, [NOOP])]
        if deep:
            for run_id in runs:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT set_config('headrace.damage', '1', false)")
                    cursor.execute("DELETE FROM workflows_steprun WHERE run_id = %s", [run_id])
                    cursor.execute("SELECT set_config('headrace.damage', '', false)")
        else:
            Run.objects.filter(id__in=runs).update(cancel_requested_at=timezone.now())
        name = "stuck runs" if deep else "unsettled runs"
        table = maintenance.RARE if deep else maintenance.RESCUES
        return Recipe(
            poison=poisoned("workflows_run", "id", runs[0]),
            work=lambda: maintenance.each({name: table[name]}, turn()),
            went_on=lambda: not Run.objects.get(id=runs[1]).is_live,
            told="unsettled runs",
        )

    return recipe


def _timed_out(case: Case) -> Recipe:
    """The end of a run that has timed out can't be recorded."""
    runs = [start(case.bad, [NOOP], timeouts={"start": "1m"}), start(case.good, [NOOP], timeouts={"start": "1m"})]
    Run.objects.filter(id__in=runs).update(timeout_at="2026-01-01T00:00:00Z")
    bad_step = StepRun.objects.get(run_id=runs[0]).id
    return Recipe(
        poison=poisoned("workflows_steprun", "id", bad_step),
        work=lambda: [
            maintenance.each({n: maintenance.RESCUES[n]}, turn()) for n in ("timeouts of runs", "unsettled runs")
        ],
        went_on=lambda: not Run.objects.get(id=runs[1]).is_live,
        told="unsettled runs",
    )


def _lost(case: Case) -> Recipe:
    """Publishing what was lost with its worker raises."""
    runs = [start(case.bad, [NOOP]), start(case.good, [NOOP])]
    for run_id in runs:
        claim(run_id, "a")
    StepRun.objects.filter(run_id__in=runs).update(lease_until="2026-01-01T00:00:00Z")
    _refusing(runs[0], case)
    good = StepRun.objects.filter(run_id=runs[1], status="ready").exclude(dispatched_at=None)

    def work() -> None:
        maintenance.each({"lost workers": maintenance.RESCUES["lost workers"]}, turn())
        StepRun.objects.filter(run_id=runs[0]).update(ready_at="2026-01-01T00:00:00Z")
        maintenance.each({"undispatched steps": maintenance.RESCUES["undispatched steps"]}, turn())

    return Recipe(poison=_Nothing(), work=work, went_on=good.exists, told="undispatched steps")


def _waits(case: Case, outcome: Outcome) -> list[UUID]:
    runs = [
        start(org, [{"id": "w", "type": "wait_for_event", "config": {"event": "x/y"}}]) for org in (case.bad, case.good)
    ]
    for run_id in runs:
        recording.record([Verdict(claim=claim(run_id, "w"), outcome=outcome)])
    return runs


def _expired(late: bool) -> Callable[[Case], Recipe]:
    def recipe(case: Case) -> Recipe:
        runs = _waits(case, WaitFor(kind="event", event_name="x/y", timeout_s=3600))
        Wait.objects.filter(run_id__in=runs).update(expires_at="2026-01-01T00:00:00Z")
        if late:
            Wait.objects.filter(run_id__in=runs).update(taken_at="2026-01-01T00:00:00Z", taken_by="timeout")

        def work() -> None:
            if not late:
                maintenance.each({"timeouts of waits": maintenance.TIMERS["timeouts of waits"]}, turn())
                sweeps.LEDGER.forget_memory()
            maintenance.each({resolve.TAKEN_WAITS: maintenance.RESCUES[resolve.TAKEN_WAITS]}, turn())

        return Recipe(
            poison=poisoned("workflows_steprun", "run_id", runs[0]),
            work=work,
            went_on=lambda: steps_of(runs[1])["w"] == "completed",
            told=resolve.TAKEN_WAITS,
        )

    return recipe


def _not_looked_back(case: Case) -> Recipe:
    runs = _waits(case, WaitFor(kind="event", event_name="x/y", timeout_s=3600))
    Wait.objects.filter(run_id__in=runs).update(looked_back=False)
    return Recipe(
        poison=poisoned("workflows_wait", "run_id", runs[0]),
        work=lambda: maintenance.each({"x": maintenance.RESCUES[resolve.NOT_LOOKED_BACK]}, turn()),
        went_on=lambda: Wait.objects.get(run_id=runs[1]).looked_back,
        told=resolve.NOT_LOOKED_BACK,
    )


def _containers(case: Case) -> Recipe:
    steps = [{"id": "all", "type": "map", "config": {"items": []}, "steps": [{"id": "x", "type": "noop"}]}]
    runs = [start(org, steps) for org in (case.bad, case.good)]
    with case.monkeypatch.context() as dying:
        dying.setattr(fan_out, "conclude", lambda _: ([], []))
        for run_id in runs:
            recording.record([Verdict(claim=claim(run_id, "all"), outcome=FanOut(items=[0], parallelism=1))])
            end(claim(run_id, "x"))
    return Recipe(
        poison=poisoned("workflows_fanout", "run_id", runs[0]),
        work=lambda: maintenance.each({"x": maintenance.RESCUES[resolve.OVER_CONTAINERS]}, turn()),
        went_on=lambda: steps_of(runs[1])["all"] == "completed",
        told=resolve.OVER_CONTAINERS,
    )


def _children(case: Case) -> Recipe:
    runs = []
    for org in (case.bad, case.good):
        child = start(org, [NOOP], slug="child")
        run_id = start(org, [{"id": "w", "type": "invoke_flow", "config": {"flow": "child"}}], slug="parent")
        outcome = WaitFor(kind="run", child_id=child, timeout_s=3600)
        recording.record([Verdict(claim=claim(run_id, "w"), outcome=outcome)])
        with case.monkeypatch.context() as dying:
            dying.setattr("workflows.engine.waits.waits.take_for_runs", lambda _: [])
            end(claim(child, "a"))
        runs.append(run_id)
    return Recipe(
        poison=poisoned("workflows_wait", "run_id", runs[0]),
        work=lambda: maintenance.each({"x": maintenance.RESCUES[resolve.ENDED_CHILDREN]}, turn()),
        went_on=lambda: steps_of(runs[1])["w"] == "completed",
        told=resolve.ENDED_CHILDREN,
    )


def left_over(org: Organization, count: int = 1, name: str = "x/y") -> list[UUID]:
    """Stored events that nobody has matched."""
    past = timezone.now() - dt.timedelta(minutes=5)
    rows = [Event(org_id=org.id, name=name, data={"n": n}, ts=past, received_at=past) for n in range(count)]
    return [row.id for row in Event.objects.bulk_create(rows)]


def _events(case: Case) -> Recipe:
    for org in (case.bad, case.good):
        publish(org, [HOUR], on={"event": "x/y"})
    bad, good = left_over(case.bad)[0], left_over(case.good)[0]
    return Recipe(
        poison=poisoned("workflows_event", "id", bad),
        work=lambda: periodic_jobs.do(periodic_jobs.JOBS["left-over events"]),
        went_on=Run.objects.filter(event_id=good).exists,
        told=matching.LEFT_OVER,
    )


def _follow_ups(case: Case) -> Recipe:
    runs = []
    for org in (case.bad, case.good):
        publish(org, [HOUR], slug="handler")
        runs.append(start(org, [NOOP], on_failure="handler"))
        fail(runs[-1])
    return Recipe(
        poison=poisoned("workflows_run", "id", runs[0]),
        work=lambda: periodic_jobs.do(periodic_jobs.JOBS["follow-up"]),
        went_on=Run.objects.filter(origin_id=runs[1]).exists,
        told="follow-up",
    )


def _schedules(case: Case) -> Recipe:
    for org in (case.bad, case.good):
        publish(org, [HOUR], on={"cron": "* * * * *"})
    past = timezone.now() - dt.timedelta(minutes=2)
    Trigger.objects.filter(organization__in=(case.bad, case.good)).update(next_fire_at=past, fires_from=past)
    return Recipe(
        poison=poisoned("workflows_trigger", "organization_id", case.bad.id),
        work=lambda: periodic_jobs.do(periodic_jobs.JOBS["schedules"]),
        went_on=Run.objects.filter(org_id=case.good.id).exists,
        told=schedules.FIRES,
    )


def _approvals(case: Case) -> Recipe:
    for org in (case.bad, case.good):
        run_id = start(org, [{"id": "w", "type": "wait_for_approval", "config": {}}])
        outcome = WaitFor(kind="approval", timeout_s=3600, remind_s=0.0, options={"title": "t"})
        recording.record([Verdict(claim=claim(run_id, "w"), outcome=outcome)])
    return Recipe(
        poison=poisoned("workflows_wait", "org_id", case.bad.id),
        work=lambda: periodic_jobs.do(periodic_jobs.JOBS["approvals"]),
        went_on=Event.objects.filter(org_id=case.good.id, name="headrace/approval.requested").exists,
        told=approvals.REMINDERS,
    )


def _feeds(case: Case) -> Recipe:
    for org in (case.bad, case.good):
        publish(org, [HOUR], slug="listener", on={"event": "headrace/run.completed"})
        end(claim(start(org, [NOOP]), "a"))
        SystemFeed.objects.create(org_id=org.id, source="runs", told_until=timezone.now() - dt.timedelta(minutes=5))
    return Recipe(
        poison=poisoned("workflows_systemfeed", "org_id", case.bad.id),
        work=lambda: periodic_jobs.do(periodic_jobs.JOBS["system events"]),
        went_on=Event.objects.filter(org_id=case.good.id, name="headrace/run.completed").exists,
        told=system_events.FEEDS,
    )


def _operations(case: Case) -> Recipe:
    operations = []
    for org in (case.bad, case.good):
        start(org, [HOUR])
        operations.append(bulk.start(org, "cancel_runs", {}, by="me"))
    good = bulk.BulkOperation.objects.filter(id=operations[1].id, done=1)
    return Recipe(
        poison=poisoned("workflows_bulkoperation", "id", operations[0].id),
        work=lambda: periodic_jobs.do(periodic_jobs.JOBS["bulk"]),
        went_on=good.exists,
        told=bulk.OPERATIONS,
    )


def _replays(case: Case) -> Recipe:
    for org in (case.bad, case.good):
        fail(start(org, [NOOP]))
    past = timezone.now() - dt.timedelta(minutes=5)
    DeadLetter.objects.filter(org_id__in=(case.bad.id, case.good.id)).update(auto_replay_at=past)
    return Recipe(
        poison=poisoned("dlq_deadletter", "org_id", case.bad.id),
        work=lambda: periodic_jobs.do(periodic_jobs.JOBS["automatic replays"]),
        went_on=DeadLetter.objects.filter(org_id=case.good.id, status="reprocessed").exists,
        told=dlq.AUTO_REPLAYS,
    )


def _failures(case: Case) -> Recipe:
    for org in (case.bad, case.good):
        fail(start(org, [NOOP], alert_on_failure=True))
    return Recipe(
        poison=poisoned("dlq_deadletter", "org_id", case.bad.id),
        work=lambda: periodic_jobs.do(periodic_jobs.JOBS["alerts of failures"]),
        went_on=Alert.objects.filter(org_id=case.good.id).exists,
        told=evaluation.OF_FAILURES,
    )


def _deletions(case: Case) -> Recipe:
    flows = {}
    for org in (case.bad, case.good):
        publish(org, [NOOP], slug="gone")
        flows[org.id] = org.flows.get(slug="gone")
    asked_at = timezone.now() - dt.timedelta(hours=1)
    Flow.objects.filter(id__in=[flow.id for flow in flows.values()]).update(
        archived_at=asked_at, deletion_asked_at=asked_at
    )
    return Recipe(
        poison=poisoned("workflows_flow", "id", flows[case.bad.id].id),
        work=lambda: periodic_jobs.do(periodic_jobs.JOBS["deletion of flows"]),
        went_on=lambda: not Flow.objects.filter(id=flows[case.good.id].id).exists(),
        told=archiving.DELETIONS,
    )


POISONED: dict[str, Callable[[Case], Recipe]] = {
    "deletion of flows": _deletions,
    "timeouts of waits": _expired(late=False),
    "undispatched steps": _undispatched,
    "lost workers": _lost,
    "timeouts of runs": _timed_out,
    "unsettled runs": _unsettled(deep=False),
    resolve.NOT_LOOKED_BACK: _not_looked_back,
    resolve.TAKEN_WAITS: _expired(late=True),
    resolve.OVER_CONTAINERS: _containers,
    resolve.ENDED_CHILDREN: _children,
    "stuck runs": _unsettled(deep=True),
    "left-over events": _events,
    "follow-up": _follow_ups,
    "schedules": _schedules,
    "approvals": _approvals,
    "system events": _feeds,
    "bulk": _operations,
    "automatic replays": _replays,
    "alerts of failures": _failures,
}
WITHOUT_ITEMS = {
    "timers": "one statement; what it wakes is dispatched in halves",
    "the gate's timers": "calls of the gate; what it grants is published in halves",
    "queue sizes": "one call of the gate",
    "policies": "one call of the gate",
    "lost messages": "by queue; what was lost is dispatched in halves",
    "repairs that have ended": "one statement over columns of the engine",
    "lost joins": "one statement over columns of the engine",
    "orphan steps": "one statement over columns of the engine",
    "orphan waits": "one statement over columns of the engine",
    "run marks": "one statement over columns of the engine",
    "idempotency keys": "one statement over columns of the engine",
    "workers that are gone": "one statement over columns of the engine",
    "notes of sweeps": "one statement over columns of the engine",
    "the gate's audit": "calls of the gate",
    "the gate's old epochs": "one call of the gate",
    "alert delivery": "one look; a worker delivers, each by itself",
}


def test_every_sweep_and_every_job_is_shown_here_with_a_poisoned_item() -> None:
    """Whoever adds one writes a recipe for it, or says why it has no items."""
    everything = {name for table in TABLES.values() for name in table} | set(periodic_jobs.JOBS)
    assert everything == POISONED.keys() | WITHOUT_ITEMS.keys()


@pytest.mark.parametrize("name", POISONED)
def test_a_poisoned_item_keeps_no_other_from_its_turn(
    name: str, org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = POISONED[name](Case(bad=org, good=other, monkeypatch=monkeypatch))
    with recipe.poison:
        recipe.work()
        assert recipe.went_on(), "the other organization's waits behind it"
        told = told_of(recipe.told)
        assert (told["trouble"], told["items"], "poisoned" in told["error"]) == ("items", 1, True)
        assert doctor()["failingItems"] == 1
        failed = SweepFailure.objects.get()
        assert failed.try_again_at > failed.since, "it is put off"
        try_again_in(3_600)  # the first pause is short, and this machine may be slow
        recipe.work()
        assert SweepFailure.objects.get().tries == failed.tries
    if name in {"undispatched steps", "lost workers"}:
        monkeypatch.setattr(dispatch, "publish", lambda _: None)
    now_again()
    recipe.work()
    assert not SweepFailure.objects.exists(), "it is done now, and nothing is left to tell"


def test_alert_rules_are_looked_at_each_by_itself(org: Organization, other: Organization) -> None:
    AlertRule.objects.update(enabled=False)
    made = []
    try:
        for owner in (org, other):
            fail(start(owner, [NOOP]))
            rule = AlertRule(name=owner.slug, metric="dead_letters", threshold=0, org_id=owner.id)
            rule.save()
            made.append(rule)
        AlertRule.objects.filter(id=made[0].id).update(metric="no_such_metric")
        assert evaluation.evaluate().fired == 1
        assert Alert.objects.filter(org_id=other.id, rule=made[1]).exists()
        assert told_of(evaluation.RULES)["items"] == 1
    finally:
        Alert.objects.filter(rule__in=made).delete()
        AlertRule.objects.filter(id__in=[rule.id for rule in made]).delete()
        AlertRule.objects.update(enabled=True)


def test_a_channel_that_raises_keeps_no_other_alert_from_being_sent(
    org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    AlertNotification.objects.filter(status="pending").delete()
    now = timezone.now()
    for name in ("bad", "good"):
        alert = Alert.objects.create(org_id=org.id, severity="info", title=name, message="", fired_at=now, seen_at=now)
        AlertNotification.objects.create(alert=alert, channel=name, kind="fired", due_at=now)

    def send(notification: AlertNotification) -> None:
        if notification.channel == "bad":
            raise Panic("poisoned")

    monkeypatch.setattr("dlq.alerting.channels.send", send)
    assert evaluation.deliver() == 1
    bad = AlertNotification.objects.get(alert__org_id=org.id, channel="bad")
    assert (bad.status, bad.error) == ("pending", "Panic: poisoned")
    AlertNotification.objects.filter(status="pending").delete()


def test_an_event_that_can_not_be_told_is_left_out_of_its_feed(
    org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(org, [HOUR], slug="listener", on={"event": "headrace/run.completed"})
    runs = [start(org, [NOOP]) for _ in range(3)]
    for run_id in runs:
        end(claim(run_id, "a"))
    spoilt = str(runs[1])
    facts = system_events.run_facts
    monkeypatch.setattr(
        system_events, "run_facts", lambda run: {**facts(run), "x": "\0" if str(run.id) == spoilt else ""}
    )
    SystemFeed.objects.create(org_id=org.id, source="runs", told_until=timezone.now() - dt.timedelta(minutes=5))
    system_events.tell()
    told = Event.objects.filter(org_id=org.id, name="headrace/run.completed").values_list("data__runId", flat=True)
    assert sorted(told) == sorted({*map(str, runs)} - {spoilt})


@pytest.mark.parametrize("trigger", ["event", "cron"])
def test_a_start_has_one_savepoint(org: Organization, trigger: str) -> None:
    """It is what its runs are inserted in; nothing else is written before."""
    now = timezone.now()
    publish(org, [HOUR], on={"event": "x/y"} if trigger == "event" else {"cron": "* * * * *"})
    if trigger == "event":
        left_over(org)
        work: Callable[[], object] = matching.match_left_over
    else:
        Trigger.objects.filter(organization=org).update(fires_from=now - dt.timedelta(minutes=1), next_fire_at=now)
        work = partial(schedules.fire, Trigger.objects.get(organization=org).id, now)
    with CaptureQueriesContext(connection) as captured:
        work()
    assert Run.objects.filter(org_id=org.id).count() == 1
    wanted = [query["sql"] for query in captured if query["sql"].startswith("SAVEPOINT")]
    assert len(wanted) == 1, wanted


# --- fair pages ----------------------------------------------------------------------------------------------------


def test_two_thousand_poisoned_events_delay_another_s_by_one_tick(org: Organization, other: Organization) -> None:
    publish(other, [HOUR], on={"event": "x/y"})
    left_over(org, 2_000)
    mine = left_over(other)[0]
    with poisoned("workflows_event", "org_id", org.id):
        periodic_jobs.do(periodic_jobs.JOBS["left-over events"])
        assert Run.objects.filter(event_id=mine).exists()
        assert doctor()["unmatchedEvents"] >= 2_000
    Event.objects.filter(org_id=org.id).delete()


def test_many_poisoned_steps_delay_another_s_by_one_tick(
    org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = services.trigger_many(org, publish(org, [NOOP]), [{}] * 2_000).run_ids
    good = start(other, [NOOP])
    StepRun.objects.filter(run_id__in=bad).update(dispatched_at=None, ready_at="2026-01-01T00:00:00Z")
    StepRun.objects.filter(run_id=good).update(dispatched_at=None, ready_at="2026-01-02T00:00:00Z")
    poisoned_runs = set(bad)

    def send(steps: list[ReadyStep]) -> None:
        if any(step.run_id in poisoned_runs for step in steps):
            raise Panic("poisoned")

    monkeypatch.setattr(dispatch, "publish", send)
    maintenance._undispatched()
    assert StepRun.objects.filter(run_id=good).exclude(dispatched_at=None).exists()


@pytest.mark.parametrize("kind", ["follow-up", "schedules", "automatic replays", "alerts of failures"])
def test_a_page_full_of_poison_delays_another_s_by_one_tick(
    kind: str, org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of three, and five poisoned items that are older than the good one."""
    for module, name in ((on_failure, "BATCH"), (schedules, "BATCH"), (dlq, "AUTO_BATCH"), (evaluation, "BATCH")):
        monkeypatch.setattr(module, name, 3)
    past = timezone.now() - dt.timedelta(minutes=5)
    for owner, count in ((org, 5), (other, 1)):
        publish(owner, [HOUR], slug="handler")
        for number in range(count):
            fail(start(owner, [NOOP], slug=f"f{number}", on_failure="handler", alert_on_failure=True))
            publish(owner, [HOUR], slug=f"c{number}", on={"cron": "* * * * *"})
    for owner, ago in ((org, 3), (other, 2)):
        due = timezone.now() - dt.timedelta(minutes=ago)
        Trigger.objects.filter(organization=owner, kind="cron").update(next_fire_at=due, fires_from=due)
        DeadLetter.objects.filter(org_id=owner.id).update(auto_replay_at=past - dt.timedelta(minutes=ago))
    tables = {"follow-up": ("workflows_run", "org_id"), "schedules": ("workflows_trigger", "organization_id")}
    table, column = tables.get(kind, ("dlq_deadletter", "org_id"))
    went_on = {
        "follow-up": Run.objects.filter(org_id=other.id, trigger="on_failure"),
        "schedules": Run.objects.filter(org_id=other.id, trigger="cron"),
        "automatic replays": DeadLetter.objects.filter(org_id=other.id, status="reprocessed"),
        "alerts of failures": Alert.objects.filter(org_id=other.id),
    }
    with poisoned(table, column, org.id):
        periodic_jobs.do(periodic_jobs.JOBS[kind])
        assert went_on[kind].exists()
    DeadLetter.objects.filter(org_id__in=(org.id, other.id)).update(auto_replay_at=None, alert_due=False)
    Run.objects.filter(org_id__in=(org.id, other.id)).update(follow_up=False)


def test_flows_that_wait_for_their_turn_starve_no_other(
    org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`overlap: queue`: the fires of flows that still run are not looked at again and again."""
    monkeypatch.setattr(schedules, "BATCH", 2)
    past = timezone.now() - dt.timedelta(minutes=5)
    for owner, count in ((org, 6), (other, 1)):
        for number in range(count):
            slug = publish(owner, [HOUR], slug=f"c{number}")
            flow_id = owner.flows.get(slug=slug).id
            more = {"outcome": "queued", "config": {"schedule": "* * * * *"}}
            CronFire.objects.create(org_id=owner.id, flow_id=flow_id, schedule="s", fire_at=past, **more)
            if owner == org:
                services.trigger(owner, slug, kind="cron")
    schedules.tick()
    assert Run.objects.filter(org_id=other.id, trigger="cron").exists()


# --- giving up -----------------------------------------------------------------------------------------------------


def test_an_item_is_given_up_after_a_time_and_doctor_says_so(
    org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _undispatched(Case(bad=org, good=other, monkeypatch=monkeypatch))
    recipe.work()
    SweepFailure.objects.update(since=timezone.now() - dt.timedelta(minutes=11))
    now_again()
    recipe.work()
    run = Run.objects.get(org_id=org.id)
    assert run.status == "failed"
    assert DeadLetter.objects.filter(run_id=run.id).count() == 1
    found = doctor()
    assert (found["failingItems"], found["givenUp"], told_of("undispatched steps")["trouble"]) == (0, 1, "given up")


def test_a_wait_whose_end_can_not_be_recorded_is_given_up_as_a_failure(
    org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _expired(late=True)(Case(bad=org, good=other, monkeypatch=monkeypatch))
    with recipe.poison:
        recipe.work()
    run_id = Run.objects.get(org_id=org.id).id
    SweepFailure.objects.update(since=timezone.now() - dt.timedelta(minutes=11))
    real = recording.record

    def record(verdicts: list[Verdict], **more: Any) -> Any:
        if any(each.claim.run_id == run_id and isinstance(each.outcome, Completed) for each in verdicts):
            raise Panic("poisoned")
        return real(verdicts, **more)

    monkeypatch.setattr(recording, "record", record)
    now_again()
    recipe.work()
    assert steps_of(run_id)["w"] == "failed"
    assert not Wait.objects.filter(run_id=run_id).exists()


def test_an_event_is_given_up_with_what_can_be_started_of_it(
    org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(org, [HOUR], on={"event": "x/y"})
    event_id = left_over(org)[0]
    monkeypatch.setattr("workflows.engine.waits.waits.meet", _raise(Panic))
    matching.match_left_over()
    assert not Run.objects.filter(event_id=event_id).exists()
    SweepFailure.objects.update(since=timezone.now() - dt.timedelta(minutes=11))
    now_again()
    matching.match_left_over()
    assert Run.objects.filter(event_id=event_id).count() == 1
    assert Event.objects.get(id=event_id).matched_at is not None


def test_notes_of_items_that_are_gone_are_forgotten() -> None:
    sweeps.LEDGER.note("a sweep", [sweeps.Failure(str(uuid.uuid4()), None, RuntimeError("x"))])
    SweepFailure.objects.update(last_at=timezone.now() - dt.timedelta(seconds=sweeps.STALE_AFTER_S + 1))
    maintenance.each({"notes of sweeps": maintenance.RARE["notes of sweeps"]}, turn())
    assert not SweepFailure.objects.exists()


@pytest.mark.parametrize("error", ERRORS)
def test_items_are_isolated_whatever_they_raise(error: type[BaseException]) -> None:
    done: list[int] = []

    def work(group: list[int]) -> None:
        if 7 in group:
            raise error("poisoned")
        done.extend(group)

    how: sweeps.Items[int] = sweeps.Items(name="numbers", work=work, group=5)
    assert sweeps.isolated(how, range(12)) == 11
    assert sorted(done) == [n for n in range(12) if n != 7]
    assert [(row.item, row.error) for row in SweepFailure.objects.all()] == [("7", f"{error.__name__}: poisoned")]


def test_in_the_good_case_a_sweep_costs_no_statement_more() -> None:
    database.counter.by_name.clear()
    assert sweeps.LEDGER.of("numbers") == {}
    for _ in range(50):
        sweeps.isolated(sweeps.Items(name="numbers", work=lambda _: None), range(10))
        sweeps.guarded("numbers", lambda: None)
    assert database.counter.by_name == {"sweep_failures": 1}


# --- what only grows -----------------------------------------------------------------------------------------------


def test_expired_idempotency_keys_are_swept_a_bounded_number_at_a_time(
    org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "BATCH", 5)
    monkeypatch.setattr(maintenance, "KEY_PAGES", 2)
    IdempotencyKey.objects.all().delete()
    flow_id, run_id, now = uuid.uuid4(), uuid.uuid4(), timezone.now()
    for number in range(12):
        gone = now - dt.timedelta(hours=1)
        IdempotencyKey.objects.create(org_id=org.id, flow_id=flow_id, key=str(number), run_id=run_id, expires_at=gone)
    for key, left_s in (("live", 3600), ("a moment ago", -5)):
        at = now + dt.timedelta(seconds=left_s)
        IdempotencyKey.objects.create(org_id=org.id, flow_id=flow_id, key=key, run_id=run_id, expires_at=at)
    left = []
    for _ in range(2):
        maintenance.sweep(gate_sync.Keeper())
        left.append(IdempotencyKey.objects.filter(org_id=org.id).count())
    assert left == [4, 2]
    assert set(IdempotencyKey.objects.values_list("key", flat=True)) == {"live", "a moment ago"}
