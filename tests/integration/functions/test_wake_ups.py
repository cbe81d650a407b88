"""A function that suspends while the last of its steps ends is woken, whichever of the two commits first."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from django.db import connections

from tests.support.python_flows import basic
from tests.support.workers import await_that, nobody_dispatches, scalar
from workflows import services
from workflows.definitions.discovered import CallOptions
from workflows.engine.pipeline import record
from workflows.engine.sql.calls import transitions as call_sql
from workflows.engine.state import database, flow_cache
from workflows.engine.state.records import Claim, StepResult
from workflows.engine.state.transitions import calls
from workflows.models import Organization, StepRun
from workflows.steps.outcome import Completed

RUNNING = """
UPDATE headrace_workflows_steprun SET status = 'running', lease_token = gen_random_uuid(),
       lease_until = now() + interval '1 hour', deadline_at = now() + interval '1 hour', started_at = now()
 WHERE run_id = %s
"""
SUSPENDED = """
UPDATE headrace_workflows_steprun SET status = 'waiting', waiting_for = 'steps', lease_token = NULL, lease_until = NULL,
       deadline_at = NULL
 WHERE id = %s
"""
ENDED = """
UPDATE headrace_workflows_steprun SET status = 'completed', ended_at = now(), lease_token = NULL, lease_until = NULL,
       deadline_at = NULL
 WHERE id = %s
"""

WAITS = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"


@pytest.fixture
def rows(org: Organization, own_workers: object) -> tuple[StepRun, StepRun]:
    """A function and its only step, both running."""
    services.apply_definition(org, basic.chain.spec())
    with nobody_dispatches():
        run_id = services.trigger(org, "code-chain", {}).run_ids[0]
    function = StepRun.objects.get(run_id=run_id, key="main")
    step = StepRun.objects.get(id=function.id)
    step.pk, step.key, step.path, step.container_id, step.type = uuid.uuid4(), "one", "main", function.id, "python"
    step._state.adding = True
    step.save(force_insert=True)
    with _connected() as connection:
        connection.execute(RUNNING, [run_id])
        connection.commit()
    return function, step


def _connected() -> psycopg.Connection[tuple[object, ...]]:
    connection = psycopg.connect(**database.parameters())
    connection.execute("SET headrace.damage = '1'")
    return connection


def _suspend(connection: psycopg.Connection[tuple[object, ...]], function: StepRun, step: StepRun) -> None:
    connection.execute(SUSPENDED, [function.id])
    functions = [{"id": str(function.id), "awaited": [str(step.pk)], "any_of": False}]
    with psycopg.Cursor(connection) as cursor:
        call_sql.suspend_functions(functions=json.dumps(functions), cursor=cursor)


def _end(connection: psycopg.Connection[tuple[object, ...]], step: StepRun) -> None:
    assert step.container_id is not None
    with psycopg.Cursor(connection) as cursor:
        calls.lock([step.container_id], cursor)
        connection.execute(ENDED, [step.pk])
        calls.wake([step.pk], cursor)


@pytest.fixture
def two() -> Iterator[list[psycopg.Connection[tuple[object, ...]]]]:
    connections = [_connected(), _connected()]
    yield connections
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("first", ["suspend", "end"])
def test_the_one_that_comes_second_sees_the_other(
    rows: tuple[StepRun, StepRun], two: list[psycopg.Connection[tuple[object, ...]]], first: str
) -> None:
    function, step = rows
    one, other = two
    pid = other.info.backend_pid
    if first == "suspend":
        _suspend(one, function, step)
        thread = threading.Thread(target=_end, args=(other, step))
    else:
        _end(one, step)
        thread = threading.Thread(target=_suspend, args=(other, function, step))
    thread.start()
    await_that(lambda: scalar(WAITS, pid), 10, "the lock")
    one.commit()
    thread.join()
    other.commit()
    function.refresh_from_db()
    assert (function.status, function.wake_seq) == ("ready", 1)


def test_one_that_was_missed_is_woken_by_the_leader(rows: tuple[StepRun, StepRun]) -> None:
    function, step = rows
    with _connected() as connection:
        connection.execute(SUSPENDED, [function.id])
        assert function.id not in {each.id for each in calls.wake_left_over(batch=100)}
        connection.commit()
        assert function.id not in {each.id for each in calls.wake_left_over(batch=100)}, "its step is open"
        connection.execute(ENDED, [step.pk])
        connection.commit()
    assert function.id in {each.id for each in calls.wake_left_over(batch=100)}


def test_the_times_of_ends_are_in_the_order_of_their_commits(
    rows: tuple[StepRun, StepRun], two: list[psycopg.Connection[tuple[object, ...]]]
) -> None:
    """While another step of the function ends, one that ends waits, and has its time after that. So a visit that sees
    the later of two ends sees the earlier one, and gives the code both in the same order ever after."""
    function, step = rows
    step = StepRun.objects.get(id=step.pk)
    with database.borrowed():
        flow_cache.note_discovered(step.version_id, "one", CallOptions(type="python", timeout=None))
    claim = Claim(
        id=step.id, run_id=step.run_id, version_id=step.version_id, org_id=step.org_id, key=step.key, attempt=1,
        wake_seq=0, losses=0, server_retry_waits=0, timeout_ms=60_000, queue=step.queue, all_needs_skipped=False,
        lease=step.lease_token, type=step.type, path="main", container_id=function.id,
    )  # fmt: skip

    def end() -> None:
        record.record([StepResult(claim=claim, outcome=Completed(), output="1")])
        connections.close_all()

    holds, _ = two
    with psycopg.Cursor(holds) as cursor:
        calls.lock([function.id], cursor)
    recording = threading.Thread(target=end)
    recording.start()
    held = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%FOR NO KEY UPDATE%%'"
    await_that(lambda: scalar(held), 10, "the lock")
    before = scalar("SELECT clock_timestamp()")
    holds.commit()
    recording.join()
    step.refresh_from_db()
    assert step.status == "completed"
    assert step.ended_at is not None
    assert step.ended_at > before
