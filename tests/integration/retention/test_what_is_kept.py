"""What has expired goes with all that belongs to it; what something refers to stays, with the reason."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import uuid6
from django.db import connection
from django.utils import timezone

from dlq import services as dlq
from dlq.models import DeadLetter
from tests.integration.api.test_api import Api, assert_problem
from tests.integration.retention.history import LONG_AGO, NOOP, SLEEP, aged, ended, failed, old_event, prune
from tests.support.by_hand import claim, end, start
from tests.support.workers import publish
from workflows import selectors, services, signals
from workflows.engine.maintenance import sweeps
from workflows.engine.retention import history
from workflows.errors import RunNotFound, StepRunNotFound
from workflows.models import (
    Attempt,
    BulkOperation,
    CronFire,
    Event,
    FanOut,
    Flow,
    IdempotencyKey,
    ImportedRun,
    Item,
    Organization,
    PrunedRun,
    Run,
    StepRun,
    SweepFailure,
    TriggerOutcome,
    Wait,
)
from workflows.selectors import items
from workflows.services import bulk, repair
from workflows.services.retention import rules

pytestmark = pytest.mark.usefixtures("published")


def test_an_expired_run_goes_with_all_that_belongs_to_it(org: Organization) -> None:
    old, letter = ended(org), failed(org)
    recent = ended(org, ago=dt.timedelta(days=29))
    dlq.ignore(org, DeadLetter.objects.get(run_id=letter).id, by="me", reason="no")
    deleted, held = prune(org)
    assert (deleted["headrace_workflows_run"], held) == (2, {})
    assert set(Run.objects.filter(org_id=org.id).values_list("id", flat=True)) == {recent}
    for model in (StepRun, Attempt):
        assert set(model.objects.filter(org_id=org.id).values_list("run_id", flat=True)) == {recent}  # type: ignore[attr-defined]
    assert not DeadLetter.objects.filter(org_id=org.id).exists()
    assert not PrunedRun.objects.filter(org_id=org.id).exists()
    with pytest.raises(RunNotFound):
        services.get_run(org, old)


def test_another_organization_s_runs_are_kept_by_its_own_rule(org: Organization, other: Organization) -> None:
    rules.set_rule(other, "completed", "forever", by="me")
    rules.set_rule(org, "completed", 50, by="me")
    one, two = ended(org), ended(other)
    for each in (org, other):
        prune(each)
    assert Run.objects.filter(id__in=[one, two]).count() == 2
    rules.set_rule(org, "completed", 39, by="me")
    rules.clear_rule(other, "completed", by="me")
    for each in (org, other):
        prune(each)
    assert not Run.objects.filter(id__in=[one, two]).exists()


def _follow_up(org: Organization) -> UUID:
    run_id = failed(org, on_failure="cleanup")
    DeadLetter.objects.filter(run_id=run_id).update(status="ignored")
    assert Run.objects.get(id=run_id).follow_up
    return run_id


def _under_an_open_parent(org: Organization) -> UUID:
    run_id = ended(org)
    parent = start(org, [SLEEP], slug="parent")
    Run.objects.filter(id=run_id).update(parent_id=parent)
    return run_id


def _above_an_open_grandchild(org: Organization) -> UUID:
    run_id, child = ended(org), ended(org)
    Run.objects.filter(id=child).update(parent_id=run_id)
    Run.objects.filter(id=start(org, [SLEEP], slug="grandchild")).update(parent_id=child)
    return run_id


def _forked(org: Organization) -> UUID:
    run_id = ended(org)
    assert repair.fork_run(org, run_id, ["a"]).run_id
    return run_id


def _repaired(org: Organization) -> UUID:
    """The repair is open: its root is kept."""
    run_id = failed(org)
    assert repair.replay(org, run_id, by="me", mode="resume").run_id
    DeadLetter.objects.filter(run_id=run_id).update(repairing=False)
    return run_id


def _awaited(org: Organization) -> UUID:
    run_id = ended(org)
    waiting = StepRun.objects.get(run_id=start(org, [SLEEP], slug="waits"))
    Wait.objects.create(
        step_run_id=waiting.id, org_id=org.id, run_id=waiting.run_id, kind="run", child_id=run_id,
        since=timezone.now(), created_at=timezone.now(), looked_back=True,
    )  # fmt: skip
    return run_id


def _of_a_cron_fire(org: Organization) -> UUID:
    run_id = ended(org)
    CronFire.objects.create(
        org_id=org.id, flow=Flow.objects.get(organization=org), schedule="x", fire_at=timezone.now(),
        outcome="queued", run_id=run_id,
    )  # fmt: skip
    return run_id


def _of_a_stopped_operation(org: Organization) -> UUID:
    run_id = ended(org)
    bulk.stop(org, bulk.start(org, "replay_runs", {"status": "completed"}, by="me").id, by="me")
    return run_id


def _with_an_open_letter(org: Organization) -> UUID:
    return failed(org)


def _with_a_handled_letter(org: Organization) -> UUID:
    run_id = failed(org)
    DeadLetter.objects.filter(run_id=run_id).update(status="handled")
    return run_id


def _imported(org: Organization) -> UUID:
    run_id = ended(org)
    ImportedRun.objects.create(run_id=run_id, org_id=org.id, kept_until=timezone.now() + dt.timedelta(days=1))
    return run_id


HELD: dict[str, Callable[[Organization], UUID]] = {
    "its on_failure flow is to start": _follow_up,
    "the run that started it is open": _under_an_open_parent,
    "a run that it started is open": _above_an_open_grandchild,
    "a repeat of it, or what handles its failure, is open": _forked,
    "a repair of its failure is open": lambda org: _without_origin(_repaired(org)),
    "a step waits for it": _awaited,
    "a cron fire waits for it": _of_a_cron_fire,
    "a bulk operation is open": _of_a_stopped_operation,
    "a dead letter of it is open": _with_an_open_letter,
    "a fork of what its code handled may come": _with_a_handled_letter,
    "it was imported": _imported,
}


def _without_origin(run_id: UUID) -> UUID:
    """The repair repeats a later one of the chain."""
    Run.objects.filter(origin_id=run_id).update(origin_id=uuid6.uuid7())
    return run_id


@pytest.mark.parametrize("reason", HELD)
def test_what_something_refers_to_is_kept(org: Organization, reason: str) -> None:
    run_id = HELD[reason](org)
    steps = set(StepRun.objects.filter(run_id=run_id).values_list("id", flat=True))
    attempts = Attempt.objects.filter(run_id=run_id).count()
    _, held = prune(org)
    assert reason in held
    assert Run.objects.filter(id=run_id).exists()
    assert set(StepRun.objects.filter(run_id=run_id).values_list("id", flat=True)) == steps
    assert Attempt.objects.filter(run_id=run_id).count() == attempts


def test_a_failure_goes_before_its_repairs_so_that_nobody_repairs_it_twice(org: Organization) -> None:
    run_id = failed(org)
    second = repair.replay(org, run_id, by="me", mode="resume").run_id
    end(claim(second, "a"))
    aged(second)
    DeadLetter.objects.filter(run_id=run_id).update(repairing=False)
    rules.set_rule(org, "failed", 50, by="me")
    assert prune(org)[1] == {"the failure that it repairs is kept": 1}
    rules.clear_rule(org, "failed", by="me")
    prune(org)
    prune(org)
    assert not Run.objects.filter(id__in=[run_id, second]).exists()


def test_a_handled_letter_keeps_its_run_for_a_time_only(org: Organization) -> None:
    run_id = _with_a_handled_letter(org)
    DeadLetter.objects.filter(run_id=run_id).update(failed_at=timezone.now() - LONG_AGO)
    prune(org)
    assert not Run.objects.filter(id=run_id).exists()


def test_an_event_is_kept_while_it_is_needed(org: Organization) -> None:
    unneeded, of_run, unmatched = old_event(org), old_event(org), old_event(org, matched_at=None)
    joined, callback = old_event(org), old_event(org, "headrace/callback/x")
    run_id = ended(org)
    Run.objects.filter(id=run_id).update(event_id=of_run)
    live = start(org, [SLEEP], slug="gathers")
    Run.objects.filter(id=live).update(created_at=timezone.now() - dt.timedelta(days=50))
    TriggerOutcome.objects.create(
        org_id=org.id, flow_id=Run.objects.get(id=live).flow_id, event_id=joined, code="batched", run_id=live
    )
    _, held = prune(org, subjects=["events"])
    assert held == {
        "its run is kept": 1, "the run that it joined is open": 1, "an open run may wait for it": 1
    }  # fmt: skip
    assert not Event.objects.filter(id=unneeded).exists()
    assert Event.objects.filter(id__in=[of_run, unmatched, joined, callback]).count() == 4
    prune(org)
    assert not Event.objects.filter(id=of_run).exists()  # with its run


def test_an_event_is_kept_for_as_long_as_a_flow_looks_back(org: Organization) -> None:
    event = old_event(org)
    publish(org, [{"id": "a", "type": "wait_for_event", "config": {"event": "shop/old", "lookback": "60d"}}])
    prune(org)
    assert Event.objects.filter(id=event).exists()
    publish(org, [{"id": "a", "type": "wait_for_event", "config": {"event": "shop/old", "lookback": "39d"}}])
    prune(org)
    assert not Event.objects.filter(id=event).exists()


def test_a_large_run_disappears_at_once_and_its_rows_piece_by_piece(org: Organization, api_key: str) -> None:
    run_id = ended(org)
    container = StepRun.objects.get(run_id=run_id)
    FanOut.objects.create(
        step_run_id=container.id, org_id=org.id, run_id=run_id, kind="map", total=3000, ended=3000, parallelism=1,
        body_sinks=1, concluded=True, changed_at=timezone.now(),
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO headrace_workflows_item (container_id, index, position, size, status, sinks_left)"
            " SELECT %s, n, n, 1, 'completed', 0 FROM generate_series(0, 2999) n", [container.id]
        )  # fmt: skip
    assert history.delete_runs([run_id], before=timezone.now()).deleted == [run_id]
    seen = []
    while True:
        assert_problem(Api(api_key).get(f"/runs/{run_id}"), 404, "run_not_found", "no such run")
        for read in (lambda: selectors.run_detail(org, run_id), lambda: selectors.step_detail(org, run_id, "a")):
            with pytest.raises(RunNotFound):
                read()
        with pytest.raises(StepRunNotFound):
            items.items_page(org, container.id)
        if not PrunedRun.objects.filter(run_id=run_id).exists():
            break
        done = history.delete_remains([run_id], 500)
        seen.append(done)
        assert sum(rows for table, rows in done.items() if table != "headrace_workflows_prunedrun") <= 500
    assert len(seen) >= 6
    assert not Item.objects.filter(container_id=container.id).exists()
    assert not StepRun.objects.filter(run_id=run_id).exists()


def test_a_dry_run_deletes_nothing_and_counts_the_same(org: Organization) -> None:
    ended(org)
    failed(org)
    old_event(org)
    before = {model: model.objects.filter(org_id=org.id).count() for model in (Run, StepRun, Attempt, Event)}  # type: ignore[attr-defined]
    counted, held = prune(org, dry=True)
    assert before == {model: model.objects.filter(org_id=org.id).count() for model in before}  # type: ignore[attr-defined]
    deleted, held_then = prune(org)
    assert held == held_then == {"a dead letter of it is open": 1}
    for table in ("headrace_workflows_run", "headrace_workflows_event"):
        assert counted[table] == deleted[table] == 1


def test_a_run_that_can_t_be_deleted_keeps_no_other(org: Organization) -> None:
    bad, good = ended(org), [ended(org) for _ in range(3)]

    def refuse(*, run_ids: list[UUID], **_: Any) -> None:
        if bad in run_ids:
            raise RuntimeError("poison")

    signals.runs_deleted.connect(refuse)
    try:
        prune(org)
        prune(org)
    finally:
        signals.runs_deleted.disconnect(refuse)
    assert not Run.objects.filter(id__in=good).exists()
    assert Run.objects.filter(id=bad).exists()
    note = SweepFailure.objects.get(sweep="retention", item=str(bad))
    assert "poison" in note.error
    SweepFailure.objects.filter(sweep="retention").delete()
    sweeps.ledger().forget_memory()
    prune(org)
    assert not Run.objects.filter(id=bad).exists()


def test_a_key_outlives_its_run_and_says_so(org: Organization, api_key: str) -> None:
    slug, api = publish(org, [NOOP]), Api(api_key)
    run_id = UUID(api.post(f"/workflows/{slug}/run", {"idempotencyKey": "k"}).json()["runId"])
    end(claim(run_id, "a"))
    again = api.post(f"/workflows/{slug}/run", {"idempotencyKey": "k"}).json()
    assert (again["runId"], again["existing"], again["pruned"]) == (str(run_id), True, False)
    aged(run_id)
    prune(org)
    again = api.post(f"/workflows/{slug}/run", {"idempotencyKey": "k"}).json()
    assert (again["runId"], again["existing"], again["pruned"]) == (str(run_id), True, True)
    many = api.post(f"/workflows/{slug}/run", [{"idempotencyKey": "k"}, {}]).json()
    assert (many["existingIds"], many["prunedIds"]) == ([str(run_id)], [str(run_id)])
    assert services.trigger(org, slug, idempotency_key="k").pruned
    assert Run.objects.filter(org_id=org.id).count() == 1
    IdempotencyKey.objects.filter(org_id=org.id).update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    assert not api.post(f"/workflows/{slug}/run", {"idempotencyKey": "k"}).json()["existing"]


def test_the_statistics_count_on_what_is_deleted(org: Organization) -> None:
    for hours in (2, 30):
        ended(org, ago=dt.timedelta(hours=hours))
        DeadLetter.objects.filter(run_id=failed(org, ago=dt.timedelta(hours=hours))).update(status="ignored")
    before = selectors.queue_counts(org)
    assert (before.completed, before.failed) == (1, 2)
    for status in ("completed", "failed"):
        rules.set_rule(org, status, 1 / 24, by="me")
    prune(org)
    assert not Run.objects.filter(org_id=org.id).exists()
    assert selectors.queue_counts(org) == before


def test_log_lines_go_before_their_runs_where_a_rule_says_so(org: Organization) -> None:
    run_id, live = ended(org, ago=dt.timedelta(days=2)), start(org, [NOOP, {"id": "b", "type": "noop"}], slug="two")
    end(claim(live, "a"))
    at = timezone.now() - dt.timedelta(days=2)
    for attempt in Attempt.objects.filter(run_id__in=[run_id, live]):
        old = UUID(int=int(at.timestamp() * 1000) << 80 | attempt.id.int % 2**80)
        Attempt.objects.filter(id=attempt.id).update(id=old, logs=[{"message": "hello"}])
    rules.set_rule(org, "logs", 1, by="me")
    assert prune(org, dry=True)[0]["log lines of attempts"] == 1
    prune(org)
    assert Attempt.objects.get(run_id=run_id).logs is None
    assert Attempt.objects.get(run_id=live).logs  # it is open
    assert BulkOperation.objects.filter(org_id=org.id).count() == 0
