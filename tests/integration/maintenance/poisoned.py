"""For each sweep and each job a way to poison one of its items, and to see that the others go on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from uuid import UUID

from django.db import connection
from django.utils import timezone

from dlq import services as dlq
from dlq.alerting import evaluation
from dlq.models import Alert, DeadLetter
from tests.integration.maintenance.sweep_cases import HOUR, NOOP, Case, Recipe, turn
from tests.support.by_hand import claim, end, fail, start, steps_of
from tests.support.poison import Panic, poisoned
from tests.support.workers import publish
from workflows.engine.containers import fan_out
from workflows.engine.events import matching
from workflows.engine.maintenance import leader as maintenance
from workflows.engine.maintenance import periodic_jobs, sweeps
from workflows.engine.pipeline import publish as dispatch
from workflows.engine.pipeline import record as recording
from workflows.engine.state.records import ReadyStep, StepResult
from workflows.engine.waits import resolve
from workflows.models import (
    BulkOperation,
    Event,
    Flow,
    Organization,
    Run,
    StepRun,
    SystemFeed,
    Trigger,
    Wait,
)
from workflows.services import approvals, bulk, schedules, system_events
from workflows.services.flows import archiving
from workflows.steps.outcome import FanOut, Outcome, WaitFor


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
        work=lambda: maintenance.run_sweeps({"x": maintenance.RESCUES["undispatched steps"]}, turn()),
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
                    cursor.execute("DELETE FROM headrace_workflows_steprun WHERE run_id = %s", [run_id])
                    cursor.execute("SELECT set_config('headrace.damage', '', false)")
        else:
            Run.objects.filter(id__in=runs).update(cancel_requested_at=timezone.now())
        name = "stuck runs" if deep else "unsettled runs"
        table = maintenance.RARE if deep else maintenance.RESCUES
        return Recipe(
            poison=poisoned("headrace_workflows_run", "id", runs[0]),
            work=lambda: maintenance.run_sweeps({name: table[name]}, turn()),
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
        poison=poisoned("headrace_workflows_steprun", "id", bad_step),
        work=lambda: [
            maintenance.run_sweeps({n: maintenance.RESCUES[n]}, turn()) for n in ("timeouts of runs", "unsettled runs")
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
        maintenance.run_sweeps({"lost workers": maintenance.RESCUES["lost workers"]}, turn())
        StepRun.objects.filter(run_id=runs[0]).update(ready_at="2026-01-01T00:00:00Z")
        maintenance.run_sweeps({"undispatched steps": maintenance.RESCUES["undispatched steps"]}, turn())

    return Recipe(poison=_Nothing(), work=work, went_on=good.exists, told="undispatched steps")


def _waits(case: Case, outcome: Outcome) -> list[UUID]:
    runs = [
        start(org, [{"id": "w", "type": "wait_for_event", "config": {"event": "x/y"}}]) for org in (case.bad, case.good)
    ]
    for run_id in runs:
        recording.record([StepResult(claim=claim(run_id, "w"), outcome=outcome)])
    return runs


def _expired(late: bool) -> Callable[[Case], Recipe]:
    def recipe(case: Case) -> Recipe:
        runs = _waits(case, WaitFor(kind="event", event_name="x/y", timeout_s=3600))
        Wait.objects.filter(run_id__in=runs).update(expires_at="2026-01-01T00:00:00Z")
        if late:
            Wait.objects.filter(run_id__in=runs).update(taken_at="2026-01-01T00:00:00Z", taken_by="timeout")

        def work() -> None:
            if not late:
                maintenance.run_sweeps({"timeouts of waits": maintenance.TIMERS["timeouts of waits"]}, turn())
                sweeps.ledger().forget_memory()
            maintenance.run_sweeps({resolve.TAKEN_WAITS: maintenance.RESCUES[resolve.TAKEN_WAITS]}, turn())

        return Recipe(
            poison=poisoned("headrace_workflows_steprun", "run_id", runs[0]),
            work=work,
            went_on=lambda: steps_of(runs[1])["w"] == "completed",
            told=resolve.TAKEN_WAITS,
        )

    return recipe


def _not_looked_back(case: Case) -> Recipe:
    runs = _waits(case, WaitFor(kind="event", event_name="x/y", timeout_s=3600))
    Wait.objects.filter(run_id__in=runs).update(looked_back=False)
    return Recipe(
        poison=poisoned("headrace_workflows_wait", "run_id", runs[0]),
        work=lambda: maintenance.run_sweeps({"x": maintenance.RESCUES[resolve.NOT_LOOKED_BACK]}, turn()),
        went_on=lambda: Wait.objects.get(run_id=runs[1]).looked_back,
        told=resolve.NOT_LOOKED_BACK,
    )


def _containers(case: Case) -> Recipe:
    steps = [{"id": "all", "type": "map", "config": {"items": []}, "steps": [{"id": "x", "type": "noop"}]}]
    runs = [start(org, steps) for org in (case.bad, case.good)]
    with case.monkeypatch.context() as dying:
        dying.setattr(fan_out, "conclude", lambda _: ([], []))
        for run_id in runs:
            recording.record([StepResult(claim=claim(run_id, "all"), outcome=FanOut(items=[0], parallelism=1))])
            end(claim(run_id, "x"))
    return Recipe(
        poison=poisoned("headrace_workflows_fanout", "run_id", runs[0]),
        work=lambda: maintenance.run_sweeps({"x": maintenance.RESCUES[resolve.OVER_CONTAINERS]}, turn()),
        went_on=lambda: steps_of(runs[1])["all"] == "completed",
        told=resolve.OVER_CONTAINERS,
    )


def _children(case: Case) -> Recipe:
    runs = []
    for org in (case.bad, case.good):
        child = start(org, [NOOP], slug="child")
        run_id = start(org, [{"id": "w", "type": "invoke_flow", "config": {"flow": "child"}}], slug="parent")
        outcome = WaitFor(kind="run", child_id=child, timeout_s=3600)
        recording.record([StepResult(claim=claim(run_id, "w"), outcome=outcome)])
        with case.monkeypatch.context() as dying:
            dying.setattr("workflows.engine.waits.waits.take_for_runs", lambda _: [])
            end(claim(child, "a"))
        runs.append(run_id)
    return Recipe(
        poison=poisoned("headrace_workflows_wait", "run_id", runs[0]),
        work=lambda: maintenance.run_sweeps({"x": maintenance.RESCUES[resolve.ENDED_CHILDREN]}, turn()),
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
        poison=poisoned("headrace_workflows_event", "id", bad),
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
        poison=poisoned("headrace_workflows_run", "id", runs[0]),
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
        poison=poisoned("headrace_workflows_trigger", "organization_id", case.bad.id),
        work=lambda: periodic_jobs.do(periodic_jobs.JOBS["schedules"]),
        went_on=Run.objects.filter(org_id=case.good.id).exists,
        told=schedules.FIRES,
    )


def _approvals(case: Case) -> Recipe:
    for org in (case.bad, case.good):
        run_id = start(org, [{"id": "w", "type": "wait_for_approval", "config": {}}])
        outcome = WaitFor(kind="approval", timeout_s=3600, remind_s=0.0, options={"title": "t"})
        recording.record([StepResult(claim=claim(run_id, "w"), outcome=outcome)])
    return Recipe(
        poison=poisoned("headrace_workflows_wait", "org_id", case.bad.id),
        work=lambda: periodic_jobs.do(periodic_jobs.JOBS["approvals"]),
        went_on=Event.objects.filter(org_id=case.good.id, name="headrace/approval.requested").exists,
        told=approvals.REMINDERS,
    )


def _feeds(case: Case) -> Recipe:
    for org in (case.bad, case.good):
        publish(org, [HOUR], slug="listener", on={"event": "headrace/run.completed"})
        end(claim(start(org, [NOOP]), "a"))
        SystemFeed.objects.create(org_id=org.id, source="runs", emitted_until=timezone.now() - dt.timedelta(minutes=5))
    return Recipe(
        poison=poisoned("headrace_workflows_systemfeed", "org_id", case.bad.id),
        work=lambda: periodic_jobs.do(periodic_jobs.JOBS["system events"]),
        went_on=Event.objects.filter(org_id=case.good.id, name="headrace/run.completed").exists,
        told=system_events.FEEDS,
    )


def _operations(case: Case) -> Recipe:
    operations = []
    for org in (case.bad, case.good):
        start(org, [HOUR])
        operations.append(bulk.start(org, "cancel_runs", {}, by="me"))
    good = BulkOperation.objects.filter(id=operations[1].id, done=1)
    return Recipe(
        poison=poisoned("headrace_workflows_bulkoperation", "id", operations[0].id),
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
        poison=poisoned("headrace_dlq_deadletter", "org_id", case.bad.id),
        work=lambda: periodic_jobs.do(periodic_jobs.JOBS["automatic replays"]),
        went_on=DeadLetter.objects.filter(org_id=case.good.id, status="reprocessed").exists,
        told=dlq.AUTO_REPLAYS,
    )


def _failures(case: Case) -> Recipe:
    for org in (case.bad, case.good):
        fail(start(org, [NOOP], alert_on_failure=True))
    return Recipe(
        poison=poisoned("headrace_dlq_deadletter", "org_id", case.bad.id),
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
        poison=poisoned("headrace_workflows_flow", "id", flows[case.bad.id].id),
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
    "left-over functions": "one statement over columns of the engine; what it wakes is dispatched in halves",
    "orphan steps": "one statement over columns of the engine",
    "orphan waits": "one statement over columns of the engine",
    "waits for rows": "one statement over columns of the engine",
    "ended waits for rows": "one statement over columns of the engine",
    "stored bytes": "sums by statement: sizes of columns, whatever they hold",
    "run marks": "one statement over columns of the engine",
    "idempotency keys": "one statement over columns of the engine",
    "workers that are gone": "one statement over columns of the engine",
    "notes of sweeps": "one statement over columns of the engine",
    "the gate's audit": "calls of the gate",
    "the gate's old epochs": "one call of the gate",
    "Celery tasks": "two statements over columns of the engine; a revoke that fails is logged, and stops nothing",
    "minutes": "one statement over columns of the engine; a minute that is counted stays",
    "alert rules": "they are looked at each by itself, as celery-beat's task does: see the test",
    "alert delivery": "one look; a worker delivers, each by itself",
    "retention": "a pass of many pieces: tests/integration/retention/test_what_is_kept.py poisons a run",
}
