"""What is about to be deleted is looked at again once it is locked: who begins to need it a moment before keeps it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.integration.retention.history import LONG_AGO, NOOP, SLEEP, ended, old_event
from tests.integration.retention.test_races import PATIENCE_S, in_thread
from tests.integration.retention.test_rules import LONG_AGO as YEARS_AGO
from tests.integration.retention.test_rules import old_id, table
from tests.support.by_hand import start
from workflows.engine.retention import history, walking
from workflows.engine.sql import waits as waits_sql
from workflows.engine.waits import waits
from workflows.models import BulkOperation, Event, Flow, FlowVersion, Organization, Run, StepRun, Wait
from workflows.services import bulk

pytestmark = pytest.mark.usefixtures("published")


@contextmanager
def before_the_lock(work: Callable[[], Any]) -> Iterator[None]:
    """The work is done, and committed, by another connection right before the first statement that locks."""
    done: list[bool] = []

    def wrap(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if not done and "FOR " in sql and "UPDATE" in sql.partition("FOR ")[2]:
            done.append(True)
            thread, _ = in_thread(work)
            thread.join(PATIENCE_S)
        return execute(sql, *rest)

    with connection.execute_wrapper(wrap):
        yield
    assert done


@pytest.fixture
def operation(org: Organization) -> Iterator[BulkOperation]:
    """One that is old and stopped."""
    row = BulkOperation.objects.get(id=bulk.stop(org, bulk.start(org, "cancel_runs", {}, by="me").id, by="me").id)
    row.id = old_id()
    row.save(force_insert=True)
    yield row
    BulkOperation.objects.filter(id=row.id).delete()


def test_an_operation_that_is_resumed_meanwhile_stays(operation: BulkOperation) -> None:
    resume = BulkOperation.objects.filter(id=operation.id)
    with before_the_lock(lambda: resume.update(status="running")):
        table("headrace_workflows_bulkoperation").delete(YEARS_AGO + dt.timedelta(days=30), 500)
    assert resume.exists()


def test_deleting_by_age_waits_for_nobody(operation: BulkOperation) -> None:
    aged = table("headrace_workflows_bulkoperation")
    with transaction.atomic():
        BulkOperation.objects.select_for_update().get(id=operation.id)
        thread, results = in_thread(lambda: aged.delete(YEARS_AGO + dt.timedelta(days=30), 500))
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert isinstance(results[0], int), results
    assert BulkOperation.objects.filter(id=operation.id).exists()


def test_a_version_that_gets_a_run_meanwhile_stays(org: Organization) -> None:
    run_id = ended(org)
    version, flow_id = Run.objects.values_list("version_id", "flow_id").get(id=run_id)
    start(org, [{**NOOP, "id": "b"}])
    FlowVersion.objects.filter(flow_id=flow_id).update(created_at=timezone.now() - LONG_AGO * 20)
    current = Flow.objects.get(id=flow_id).current_id
    Run.objects.filter(id=run_id).update(version_id=current)
    with before_the_lock(lambda: Run.objects.filter(id=run_id).update(version_id=version)):
        assert walking.delete_versions(flow_id, timezone.now() - LONG_AGO) == []
    assert FlowVersion.objects.filter(id=version).exists()


def _wait(org: Organization, **more: Any) -> Wait:
    """A wait of an open run for events of the last 60 days, which has not looked back."""
    step = StepRun.objects.get(run_id=start(org, [SLEEP], slug="waits"))
    now = timezone.now()
    return Wait.objects.create(
        step_run_id=step.id, org_id=org.id, run_id=step.run_id, kind="event", event_name="shop/old",
        since=now - dt.timedelta(days=60), created_at=now + dt.timedelta(hours=1), **more,
    )  # fmt: skip


def test_an_event_that_a_step_is_to_look_back_for_is_kept(org: Organization) -> None:
    """As code in Python says it at run time: no definition names that `lookback`."""
    event = old_event(org)
    wait = _wait(org)
    assert history.delete_events([event]).held == {"a step is to look back for it": 1}
    Wait.objects.filter(step_run_id=wait.step_run_id).update(looked_back=True)
    assert history.delete_events([event]).deleted == [event]


def test_a_wait_whose_event_is_deleted_before_it_is_taken_looks_once_more(
    org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = old_event(org), old_event(org, ago=LONG_AGO - dt.timedelta(days=1))
    wait, look_back = _wait(org), waits_sql.look_back

    def and_lose(**where: Any) -> Any:
        rows = look_back(**where)
        Event.objects.filter(id=first).delete()
        return rows

    monkeypatch.setattr(waits_sql, "look_back", and_lose)
    assert waits.look_back([wait.step_run_id]) == [wait.step_run_id]
    assert Wait.objects.get(step_run_id=wait.step_run_id).event_id == second
    lonely = _wait(org)
    Event.objects.filter(id=second).delete()
    assert waits.look_back([lonely.step_run_id]) == []
    assert Wait.objects.get(step_run_id=lonely.step_run_id).taken_at is None


def test_an_event_is_not_deleted_while_a_wait_takes_it(org: Organization) -> None:
    event = old_event(org)
    wait = _wait(org, looked_back=True)
    with transaction.atomic():
        assert waits.claim_waits({wait.step_run_id: event}, by="event")
        thread, results = in_thread(lambda: history.delete_events([event]))
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert results[0].deleted == []
    assert history.delete_events([event]).held == {"a step waited for it": 1}
