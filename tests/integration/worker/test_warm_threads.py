"""The threads of a worker that take messages are ready for the first one: connected, with their statements planned."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from workflows.engine.state import database
from workflows.engine.worker.bootstep import warm_up

THREADS = 4
PLANNED = "SELECT pg_backend_pid(), count(*) FROM pg_prepared_statements WHERE statement ~ %s"


def test_every_thread_has_planned_what_a_visit_executes_on_a_connection_of_its_own(live_db: None) -> None:
    threads = ThreadPoolExecutor(THREADS)
    together = threading.Barrier(THREADS)

    def look() -> list[tuple[int, int]]:
        together.wait(10)
        found = []
        for what in (
            "UPDATE headrace_workflows_steprun .* SET status = 'running'",
            "json_to_recordset",
            "jsonb_object_agg",
        ):
            with database.connection().cursor() as cursor:
                cursor.execute(PLANNED, [what], prepare=False)
                pid, count = cursor.fetchone() or (0, 0)
                found.append((pid, count))
        return found

    try:
        warm_up(threads, THREADS)
        looks = [each.result(20) for each in [threads.submit(look) for _ in range(THREADS)]]
        assert len({pid for each in looks for pid, _ in each}) == THREADS
        assert all(count >= 1 for each in looks for _, count in each)
    finally:
        for _ in range(THREADS):
            threads.submit(lambda: (together.wait(10), database.close()))
        threads.shutdown()


def test_a_thread_that_can_not_connect_takes_messages_all_the_same(
    live_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(1) as threads:
        with monkeypatch.context() as patch:
            patch.setattr(database, "connect", _away)
            warm_up(threads, 1)
            threads.submit(lambda: None).result(20)
        warm_up(threads, 1)
        assert threads.submit(lambda: database.connection().execute("SELECT 1").fetchone()).result(20) == (1,)
        threads.submit(database.close).result(20)


def _away() -> database.Connection:
    raise psycopg.OperationalError("Postgres is away")
