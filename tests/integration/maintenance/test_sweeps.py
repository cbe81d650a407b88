"""One poisoned item never stops a sweep: every sweep and job of the engine, each with something bad in it."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import InterfaceError, connection
from django.utils import timezone
from psycopg import InterfaceError as PsycopgInterfaceError

from dlq.models import DeadLetter
from tests.integration.maintenance.poisoned import _expired, _undispatched, left_over
from tests.integration.maintenance.sweep_cases import HOUR, TABLES, Case, clean, now_again, turn  # noqa: F401  (clean: a fixture)
from tests.support.by_hand import steps_of
from tests.support.poison import ERRORS, Panic, doctor, told_of
from tests.support.workers import await_that, publish, scalar
from workflows import this_process
from workflows.engine.events import matching
from workflows.engine.maintenance import budgets, gate_sync, periodic_jobs, sweeps
from workflows.engine.maintenance import leader as maintenance
from workflows.engine.pipeline import record as recording
from workflows.engine.state import database
from workflows.engine.state.records import StepResult
from workflows.models import (
    Event,
    IdempotencyKey,
    Organization,
    Run,
    SweepFailure,
    Wait,
)
from workflows.steps.outcome import Completed

# --- a sweep that raises -------------------------------------------------------------------------------------------


def _raise(error: type[BaseException]) -> Callable[..., Any]:
    def work(*_: Any) -> None:
        raise error("poisoned")

    return work


def _done(done: list[str], name: str, _: maintenance.Turn) -> None:
    done.append(name)


@pytest.mark.parametrize("error", [RuntimeError, Panic])
@pytest.mark.parametrize(("table", "name"), [(table, name) for table, found in TABLES.items() for name in found])
def test_a_sweep_that_raises_keeps_no_other_from_its_turn(table: str, name: str, error: type[BaseException]) -> None:
    done: list[str] = []
    sweeps_: dict[str, maintenance.Sweep] = {each: partial(_done, done, each) for each in TABLES[table]}
    maintenance.run_sweeps({**sweeps_, name: _raise(error)}, turn())
    assert done == [each for each in TABLES[table] if each != name]
    noted = SweepFailure.objects.get(sweep=name)
    assert (noted.kind, noted.item, noted.error) == ("fails", "", f"{error.__name__}: poisoned")
    maintenance.run_sweeps(sweeps_, turn())
    assert not SweepFailure.objects.exists(), "it works again"


@pytest.mark.parametrize("error", [RuntimeError, Panic])
@pytest.mark.parametrize("name", periodic_jobs.JOBS)
def test_a_job_that_raises_keeps_no_other_from_its_turn(
    name: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic_jobs, "TICK_S", 0.005)  # from the begin of one job to that of the next
    monkeypatch.setattr(periodic_jobs, "FOLLOWER_TICK_S", 0.02)
    done = {each: threading.Event() for each in periodic_jobs.JOBS}
    works = {each: _raise(error) if each == name else done[each].set for each in done}
    jobs = [periodic_jobs.Job(name=each, every_s=60.0, work=work) for each, work in works.items()]
    runner = periodic_jobs.JobRunner(lambda: True, jobs)
    runner.start()
    try:
        assert all(event.wait(10) for each, event in done.items() if each != name)
        await_that(lambda: SweepFailure.objects.filter(sweep=name, item="").exists(), 10, "the note")
    finally:
        runner.stop()


def test_doctor_names_the_sweep_that_raises_from_any_process() -> None:
    assert doctor()["failingSweeps"] == 0
    for _ in range(3):
        maintenance.run_sweeps({**maintenance.RESCUES, "lost joins": _raise(Panic)}, turn())
    found = doctor()
    assert (found["failingSweeps"], found["ok"]) == (1, False)
    told = told_of("lost joins")
    assert (told["trouble"], told["tries"], told["error"]) == ("fails", 3, "Panic: poisoned")
    assert dt.datetime.fromisoformat(told["since"]) > timezone.now() - dt.timedelta(minutes=1)


class Unwritable(sweeps.Ledger):
    """The notes of a process whose connection is gone."""

    def note(self, *_: Any, **__: Any) -> None:
        raise InterfaceError("connection already closed")


def test_a_job_whose_connection_is_gone_is_tried_again() -> None:
    """Whatever Django says of it: the worker must not end for that."""
    for error in (
        InterfaceError("connection already closed"),
        PsycopgInterfaceError("closed"),
        RuntimeError("a fault"),
    ):

        def work(error: Exception = error) -> None:
            raise error

        with this_process.replaced(sweeps.Ledger, Unwritable()):
            assert periodic_jobs.do(periodic_jobs.Job(name="gone", every_s=5.0, work=work)) == 5.0


def test_the_watch_over_budgets_goes_on_without_a_connection() -> None:
    runner = periodic_jobs.JobRunner(lambda: True)
    looked: list[int] = []

    class Unreadable(budgets.UnderWay):
        def everything(self) -> list[Any]:
            looked.append(1)
            if len(looked) == 3:
                runner._stop.set()
            raise InterfaceError("connection already closed")

    with this_process.replaced(budgets.UnderWay, Unreadable()):
        runner._watch()
    assert len(looked) == 3


# --- a job that takes long -----------------------------------------------------------------------------------------


def test_a_job_over_its_budget_is_told_of_and_keeps_no_other_from_its_turn() -> None:
    release, turns = threading.Event(), threading.Semaphore(0)
    slow = periodic_jobs.Job(name="slow", every_s=0.0, work=lambda: release.wait(60), budget_s=0.2)
    quick = periodic_jobs.Job(name="quick", every_s=0.0, work=turns.release)
    runner = periodic_jobs.JobRunner(lambda: True, [slow, quick])
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


def _slow_and_urgent(slow: int) -> tuple[periodic_jobs.JobRunner, threading.Event, list[str], list[str]]:
    """The runner of so many jobs that last until the event, and of an urgent one; and what of them has begun."""
    over, began, turns = threading.Event(), list[str](), list[str]()

    def last(name: str) -> None:
        began.append(name)
        over.wait(60)

    names = [f"slow {number}" for number in range(slow)]
    jobs = [periodic_jobs.Job(name=name, every_s=60.0, work=partial(last, name)) for name in names]
    urgent = periodic_jobs.Job(name="urgent", every_s=0.0, work=lambda: turns.append("x"), is_urgent=True)
    return periodic_jobs.JobRunner(lambda: True, [*jobs, urgent]), over, began, turns


def test_jobs_leave_connections_to_the_steps_and_an_urgent_one_waits_for_none() -> None:
    runner, over, began, turns = _slow_and_urgent(periodic_jobs.PLACES + 2)
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
    runner, over, began, _ = _slow_and_urgent(periodic_jobs.PLACES + 1)
    runner.start()
    try:
        await_that(lambda: len(began) == periodic_jobs.PLACES + 1, 20, "the one beyond the places")
    finally:
        over.set()
        runner.stop()


def test_cron_and_left_over_events_are_urgent() -> None:
    assert {name for name, job in periodic_jobs.JOBS.items() if job.is_urgent} == {"schedules", "left-over events"}


def test_the_statement_of_a_job_far_over_its_budget_is_cancelled() -> None:
    asleep = periodic_jobs.Job(name="asleep", every_s=60.0, work=lambda: scalar("SELECT pg_sleep(600)"), budget_s=0.1)
    runner = periodic_jobs.JobRunner(lambda: True, [asleep])
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
        (running,) = [each for each in this_process.own(budgets.UnderWay).everything() if each.name == "over"]
    asleep = threading.Thread(target=lambda: budgets._cancel(running))
    with connection.cursor() as cursor:
        asleep.start()
        cursor.execute("SELECT pg_sleep(1)")
    asleep.join()


def test_a_sweep_of_the_leader_is_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "SWEEP_BUDGET_S", 0.0)
    maintenance.run_sweeps({"orphan waits": lambda _: budgets.look()}, turn())
    assert told_of("orphan waits")["trouble"] == "overran"


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

    def record(results: list[StepResult], **more: Any) -> Any:
        if any(each.claim.run_id == run_id and isinstance(each.outcome, Completed) for each in results):
            raise Panic("poisoned")
        return real(results, **more)

    monkeypatch.setattr(recording, "record", record)
    now_again()
    recipe.work()
    assert steps_of(run_id)["w"] == "failed"
    assert not Wait.objects.filter(run_id=run_id).exists()


def test_an_event_is_given_up_with_what_can_be_started_of_it(
    org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(org, [HOUR], on={"event": "x/y"})
    now = timezone.now()
    wait = Wait.objects.create(
        org_id=org.id, run_id=uuid.uuid4(), step_run_id=uuid.uuid4(), kind="event", event_name="x/y", options={},
        looked_back=True, since=now, created_at=now,
    )  # fmt: skip
    event_id = left_over(org)[0]
    monkeypatch.setattr("workflows.engine.waits.waits.meet", _raise(Panic))
    matching.match_left_over()
    assert not Run.objects.filter(event_id=event_id).exists()
    SweepFailure.objects.update(since=timezone.now() - dt.timedelta(minutes=11))
    now_again()
    matching.match_left_over()
    wait.delete()
    assert Run.objects.filter(event_id=event_id).count() == 1
    assert Event.objects.get(id=event_id).matched_at is not None


def test_notes_of_items_that_are_gone_are_forgotten() -> None:
    sweeps.ledger().note("a sweep", [sweeps.Failure(str(uuid.uuid4()), None, RuntimeError("x"))])
    SweepFailure.objects.update(last_at=timezone.now() - dt.timedelta(seconds=sweeps.STALE_AFTER_S + 1))
    maintenance.run_sweeps({"notes of sweeps": maintenance.RARE["notes of sweeps"]}, turn())
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
    database.counter().by_name.clear()
    assert sweeps.ledger().of("numbers") == {}
    for _ in range(50):
        sweeps.isolated(sweeps.Items(name="numbers", work=lambda _: None), range(10))
        sweeps.guarded("numbers", lambda: None)
    assert database.counter().by_name == {"sweep_failures": 1}


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
        maintenance.sweep(gate_sync.GateSync())
        left.append(IdempotencyKey.objects.filter(org_id=org.id).count())
    assert left == [4, 2]
    assert set(IdempotencyKey.objects.values_list("key", flat=True)) == {"live", "a moment ago"}
