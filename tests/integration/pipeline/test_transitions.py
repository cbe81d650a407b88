"""The statements themselves: fencing, grouping, bisecting, joins, rescue. No worker is involved unless said."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from django.utils import timezone

from tests.support import by_hand
from tests.support.workers import await_that, publish, scalar, statuses
from workflows import selectors, services, signals
from workflows.engine.maintenance import gate_sync, leader
from workflows.engine.pipeline.record import record
from workflows.engine.sql import worker as worker_sql
from workflows.engine.state.records import ClaimedBatch, ReadyStep, StepFailed, StepResult
from workflows.engine.state.transitions import rescue as rescue_transitions
from workflows.engine.state.transitions import runs as run_transitions
from workflows.engine.state.transitions import steps as step_transitions
from workflows.errors import Category
from workflows.models import Attempt, Organization, Run, StepRun, Worker
from workflows.payload import MAX_OUTPUT_BYTES
from workflows.steps.outcome import Completed, Failed, HandBack, Retry, Sleep, StepError
from workflows.steps.registry import REGISTRY, Mode, StepConfig, StepType

WORKER = uuid.uuid4()
ERROR = StepError(category=Category.TRANSIENT, name="E", message="m")


def noop(key: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "type": "noop", **more}


def start(org: Organization, steps: list[dict[str, Any]], runs: int = 1) -> list[uuid.UUID]:
    return services.trigger_many(org, publish(org, steps), [{}] * runs).run_ids


def claim(steps: list[ReadyStep]) -> ClaimedBatch:
    batch = [(str(step.id), step.attempt) for step in steps]
    steps.clear()
    return step_transitions.claim(batch, worker=WORKER)


def test_a_step_is_claimed_by_one(org: Organization, published: list[ReadyStep]) -> None:
    start(org, [noop("a")])
    again = list(published)
    assert len(claim(published).claims) == 1
    assert claim(again).claims == []


@pytest.mark.parametrize(("step", "durable"), [
    ({"type": "http_request", "config": {"url": "http://127.0.0.1:1/"}}, True),
    ({"type": "raises", "config": {"how": "fine"}}, True),
    ({"type": "noop"}, False),
])  # fmt: skip
def test_the_claim_of_a_step_that_acts_outside_is_on_disk_before_it_starts(
    org: Organization, published: list[ReadyStep], step: dict[str, Any], durable: bool
) -> None:
    """So that a crash of Postgres can't keep the effect and lose the claim. Seen by what has been flushed when the claim
    returns; others write too, so most of the tries decide."""
    start(org, [{"id": "a", **step}], runs=20)
    on_disk = 0
    for ready in list(published):
        step_transitions.claim([(str(ready.id), 1)], worker=WORKER)
        on_disk += scalar("SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()")
    assert on_disk > 12 if durable else on_disk < 8


def test_a_message_of_an_earlier_try_claims_nothing(org: Organization, published: list[ReadyStep]) -> None:
    start(org, [noop("a")])
    stale = [(str(published[0].id), 1)]
    claimed = claim(published).claims
    record([StepResult(claim=claimed[0], outcome=Retry(error=ERROR, delay_s=0))])
    step_transitions.wake(batch=1_000)
    assert step_transitions.claim(stale, worker=WORKER).claims == []
    assert len(step_transitions.claim([(stale[0][0], 2)], worker=WORKER).claims) == 1


def test_a_late_worker_can_not_overwrite_a_rescued_step(org: Organization, published: list[ReadyStep]) -> None:
    run_id = start(org, [noop("a"), noop("b")])[0]
    late = claim(published).claims[0]
    StepRun.objects.filter(id=late.id).update(lease_until="2020-01-01T00:00:00Z")
    leader._dead_leases(WORKER)
    now = claim([step for step in published if step.id == late.id]).claims[0]
    assert record([StepResult(claim=late, outcome=Completed(output=None), output='"late"')]).statuses == {}
    assert record([StepResult(claim=now, outcome=Completed(), output='"now"')]).statuses == {now.id: "completed"}
    assert record([StepResult(claim=late, outcome=Failed(error=ERROR))]).statuses == {}
    row = StepRun.objects.get(id=now.id)
    assert (row.status, row.output, row.losses, row.attempt) == ("completed", "now", 1, 1)
    assert [a.status for a in Attempt.objects.filter(step_run_id=now.id)] == ["lost", "completed"]
    assert selectors.run_detail(org, run_id).run.is_live


def lose(worker: uuid.UUID, *steps: uuid.UUID) -> None:
    """One worker claims these steps, is lost, and its steps are rescued."""
    assert len(step_transitions.claim([(str(id_), 1) for id_ in steps], worker=worker).claims) == len(steps)
    StepRun.objects.filter(id__in=steps).update(lease_until="2020-01-01T00:00:00Z")
    leader._dead_leases(WORKER)


def test_three_losses_fail_the_step(org: Organization, published: list[ReadyStep]) -> None:
    run_id = start(org, [noop("a")])[0]
    for _ in range(rescue_transitions.MAX_LOSSES):
        lose(uuid.uuid4(), StepRun.objects.get(run_id=run_id).id)
    detail = selectors.run_detail(org, run_id)
    assert (detail.run.status, statuses(detail)) == ("failed", {"a": "failed"})
    assert detail.run.error is not None
    assert detail.run.error["category"] == "resource"


def test_losses_beside_other_steps_do_not_count(org: Organization, published: list[ReadyStep]) -> None:
    """Any of them may be the cause: none fails for it, and the history says so."""
    start(org, [noop("a")], runs=2)
    steps = [step.id for step in published]
    for _ in range(rescue_transitions.MAX_LOSSES + 2):
        lose(uuid.uuid4(), *steps)
    rows = StepRun.objects.filter(id__in=steps)
    assert {(row.status, row.losses, row.solitary_losses) for row in rows} == {("ready", 5, 0)}
    attempts = Attempt.objects.filter(step_run_id__in=steps)
    assert {(a.status, "does not count" in a.error["message"]) for a in attempts} == {("lost", True)}
    for _ in range(rescue_transitions.MAX_LOSSES):
        lose(uuid.uuid4(), steps[0])
    assert StepRun.objects.get(id=steps[0]).status == "failed"
    assert StepRun.objects.get(id=steps[1]).status == "ready"


def test_a_lost_lease_of_a_worker_that_lives_does_not_count(org: Organization, published: list[ReadyStep]) -> None:
    start(org, [noop("a")])
    step, worker = published[0].id, uuid.uuid4()
    now = timezone.now()
    Worker.objects.create(id=worker, name="w", queues=[], slots=1, active=1, unclaimed=0, started_at=now, seen_at=now)
    lose(worker, step)
    row = StepRun.objects.get(id=step)
    assert (row.status, row.losses, row.solitary_losses) == ("ready", 1, 0)


def test_the_steps_of_a_lost_worker_are_looked_at_together(org: Organization, published: list[ReadyStep]) -> None:
    """Their leases end one after the other; the last one must not look as if it had been alone."""
    start(org, [noop("a")], runs=2)
    first, second = (step.id for step in published)
    step_transitions.claim([(str(first), 1), (str(second), 1)], worker=uuid.uuid4())
    StepRun.objects.filter(id=first).update(lease_until=timezone.now())
    leader._dead_leases(WORKER)
    assert StepRun.objects.get(id=first).status == "running"
    StepRun.objects.filter(id=second).update(lease_until=timezone.now())
    leader._dead_leases(WORKER)
    rows = StepRun.objects.filter(id__in=[first, second])
    assert {(row.status, row.losses, row.solitary_losses) for row in rows} == {("ready", 1, 0)}


def test_a_lost_lease_is_not_held_back_for_long(org: Organization, published: list[ReadyStep]) -> None:
    start(org, [noop("a")], runs=2)
    first, second = (step.id for step in published)
    step_transitions.claim([(str(first), 1), (str(second), 1)], worker=uuid.uuid4())
    StepRun.objects.filter(id=first).update(lease_until=timezone.now() - dt.timedelta(seconds=step_transitions.LEASE_S))
    leader._dead_leases(WORKER)
    rows = {row.id: (row.status, row.solitary_losses) for row in StepRun.objects.filter(id__in=[first, second])}
    assert rows == {first: ("ready", 0), second: ("running", 0)}


def test_a_recorded_step_never_runs_again(org: Organization, published: list[ReadyStep]) -> None:
    start(org, [noop("a"), noop("b")])
    message = list(published)
    claimed = claim(published).claims
    record([StepResult(claim=claimed[0], outcome=Completed())])
    assert claim(message).claims == []
    leader.rescue(leader.Turn(worker=WORKER, sync=gate_sync.GateSync()))
    assert StepRun.objects.get(id=claimed[0].id).status == "completed"
    assert Attempt.objects.filter(step_run_id=claimed[0].id).count() == 1


def test_of_a_group_that_postgres_refuses_only_the_culprits_fail(org: Organization, published: list[ReadyStep]) -> None:
    """What reaches the statement although it can't be stored fails alone: the group is bisected."""
    runs = start(org, [noop("a", critical=False)], runs=50)
    claims = claim(published).claims
    bad = {7: '"nul \\u0000"', 19: '"surrogate \\ud800"', 31: '{"x": NaN}'}
    results = [
        StepResult(claim=c, outcome=Completed(), output=bad.get(i, f'{{"n": {i}}}')) for i, c in enumerate(claims)
    ]
    recorded = record(results)
    assert len(recorded.statuses) == 50
    assert_only_failed(runs, {claims[i].id for i in bad})


def test_of_fifty_outputs_exactly_the_four_that_can_not_be_stored_fail(
    org: Organization, published: list[ReadyStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same through a worker's runtime: one message of fifty, performed and recorded."""
    outputs: dict[int, Any] = {7: "a\0b", 19: "\ud800", 31: float("nan"), 44: "x" * (MAX_OUTPUT_BYTES + 1)}
    given = iter(range(50))

    def handle(context: Any) -> Any:
        number = next(given)
        seen.append((number, context.step_run_id))
        return outputs.get(number, {"n": number})

    seen: list[tuple[int, uuid.UUID]] = []
    kind = StepType(name="odd", summary="odd", config_model=StepConfig, handler=handle, mode=Mode.INLINE)
    monkeypatch.setitem(REGISTRY, "odd", kind)
    runs = start(org, [{"id": "a", "type": "odd", "critical": False}], runs=50)
    runtime = by_hand.runtime(slots=100)
    runtime.start()
    try:
        runtime.visit(kind, [(str(step.id), step.attempt) for step in published])
        await_that(lambda: not StepRun.objects.filter(run_id__in=runs, ended_at=None).exists())
    finally:
        runtime.drain(2)
    assert len(seen) == 50
    assert_only_failed(runs, {step_run_id for number, step_run_id in seen if number in outputs})


def assert_only_failed(runs: list[uuid.UUID], failed: set[uuid.UUID]) -> None:
    rows = {row.id: row for row in StepRun.objects.filter(run_id__in=runs)}
    assert {row.id for row in rows.values() if row.status == "failed"} == failed
    assert all(rows[key].status == "completed" and rows[key].output is not None for key in rows.keys() - failed)
    categories = {a.error["category"] for a in Attempt.objects.filter(step_run_id__in=failed)}
    assert categories == {"invalid_output"}
    assert Run.objects.filter(id__in=runs, status="completed").count() == 50


def test_a_continued_successor_is_claimed_by_the_recording_statement(
    org: Organization, published: list[ReadyStep]
) -> None:
    start(org, [noop("a"), noop("b"), noop("c", **{"if": "true"})])
    first = claim(published).claims[0]
    recorded = record(
        [StepResult(claim=first, outcome=Completed())],
        worker=WORKER,
        queues=frozenset({"headrace.io"}),
        max_continuations=10,
    )
    assert [c.key for c in recorded.claimed] == ["b"]
    recorded = record(
        [StepResult(claim=recorded.claimed[0], outcome=Completed())],
        worker=WORKER,
        queues=frozenset({"headrace.io"}),
        max_continuations=10,
    )
    assert (recorded.claimed, [r.key for r in recorded.ready], recorded.ready[0].needs_prepare) == ([], ["c"], True)


def test_without_budget_the_successor_is_published(org: Organization, published: list[ReadyStep]) -> None:
    start(org, [noop("a"), noop("b")])
    recorded = record([StepResult(claim=claim(published).claims[0], outcome=Completed())])
    assert [(r.key, r.needs_prepare) for r in recorded.ready] == [("b", False)]
    assert StepRun.objects.get(id=recorded.ready[0].id).dispatch_count == 1


def test_the_counters_of_joins_and_ends_are_exact(org: Organization, published: list[ReadyStep]) -> None:
    """Two parents in one statement, the third in another; two last steps, each in its own. No rescue is needed."""
    join = {"id": "join", "type": "noop", "needs": ["p0", "p1", "p2"]}
    (run_id,) = start(org, [*(noop(f"p{i}", needs=[]) for i in range(3)), join, noop("other", needs=["p0"])])
    first, second, third = claim(published).claims
    assert record([StepResult(claim=each, outcome=Completed()) for each in (first, second)]).ended == []
    joined = StepRun.objects.get(run_id=run_id, key="join")
    assert (joined.status, joined.needs_left, joined.needs_met) == ("pending", 1, 2)
    record([StepResult(claim=third, outcome=Completed())])
    joined.refresh_from_db()
    assert (joined.status, joined.needs_left, joined.needs_met) == ("ready", 0, 3)
    last = list(StepRun.objects.filter(run_id=run_id, status="ready"))
    claims = step_transitions.claim([(str(row.id), row.attempt) for row in last], worker=WORKER).claims
    assert record([StepResult(claim=claims[0], outcome=Completed())]).ended == []
    assert Run.objects.get(id=run_id).sinks_left == 1
    assert record([StepResult(claim=claims[1], outcome=Completed())]).ended == [(run_id, "completed")]
    assert Run.objects.get(id=run_id).sinks_left == 0


def test_a_hand_back_spends_nothing(org: Organization, published: list[ReadyStep]) -> None:
    start(org, [noop("a")])
    claimed = claim(published).claims[0]
    record([StepResult(claim=claimed, outcome=HandBack())])
    row = StepRun.objects.get(id=claimed.id)
    assert (row.status, row.attempt, row.losses, row.dispatched_at) == ("ready", 1, 0, None)
    assert not Attempt.objects.filter(step_run_id=claimed.id).exists()


def test_a_sleep_wakes_once(org: Organization, published: list[ReadyStep]) -> None:
    start(org, [noop("a")])
    claimed = claim(published).claims[0]
    record([StepResult(claim=claimed, outcome=Sleep(seconds=0))])
    woken = [step for step in step_transitions.wake(batch=1_000) if step.id == claimed.id]
    assert len(woken) == 1
    assert [step for step in step_transitions.wake(batch=1_000) if step.id == claimed.id] == []
    assert claim(woken).claims[0].wake_seq == 1


def test_a_failure_is_announced_in_its_transaction(org: Organization, published: list[ReadyStep]) -> None:
    start(org, [noop("a")])
    claimed = claim(published).claims[0]
    seen: list[Any] = []

    def receive(failures: list[StepFailed], cursor: Any, **_: Any) -> None:
        seen.extend(failures)
        raise RuntimeError("dead letters can't be written")

    signals.steps_failed.connect(receive)
    try:
        with pytest.raises(RuntimeError):
            record([StepResult(claim=claimed, outcome=Failed(error=ERROR))])
    finally:
        signals.steps_failed.disconnect(receive)
    assert [failure.step_run_id for failure in seen] == [claimed.id]
    assert StepRun.objects.get(id=claimed.id).status == "running"


def test_the_heartbeat_renews_only_what_is_held(org: Organization, published: list[ReadyStep]) -> None:
    start(org, [noop("a")], runs=2)
    held, other = claim(published).claims
    rows = worker_sql.renew_leases(ids=[held.id, other.id], leases=[held.lease, uuid.uuid4()], lease_s=60.0)
    assert [(row.id, row.cancelled) for row in rows] == [(held.id, False)]
    services.cancel_run(org, held.run_id)
    rows = worker_sql.renew_leases(ids=[held.id], leases=[held.lease], lease_s=60.0)
    assert rows[0].cancelled


def test_a_cancelled_run_is_not_claimed(org: Organization, published: list[ReadyStep]) -> None:
    run_id = start(org, [noop("a")])[0]
    run_transitions.request_cancel(org.id, [run_id], reason="")
    assert claim(published).claims == []
