"""Tasks whose worker is lost, or ends."""

from __future__ import annotations

import uuid

from tests.integration.django_tasks.test_running import ended
from tests.support.django_tasks import functions
from tests.support.django_tasks.names import TaskResultStatus
from tests.support.workers import WorkerPool, await_that
from workflows.errors import ResourceExhausted
from workflows.models import Organization


def test_a_task_whose_worker_is_killed_runs_again(
    tasks: Organization, standing_pool: WorkerPool, worker_environment: dict[str, str]
) -> None:
    standing_pool.stop()
    pool = WorkerPool({**worker_environment, "DJANGO_SETTINGS_MODULE": "tests.support.django_tasks.settings"})
    try:
        first = pool.start("io")
        pool.await_ready(1)
        mark = uuid.uuid4().hex
        result = functions.holds.enqueue(mark=mark, seconds=2.0)
        await_that(lambda: functions.lines(mark), what="the first start")
        pool.kill(first)
        result.refresh()
        assert (result.status, result.attempts) == (TaskResultStatus.RUNNING, 1)
        pool.start("io")
        ended(result, 60)
        assert result.return_value == result.worker_ids
        assert functions.lines(mark) == ["begun", "begun", "ended"]
        assert result.attempts == len(set(result.worker_ids)) == 2
        (error,) = result.errors
        assert error.exception_class is ResourceExhausted
        assert "The worker was lost" in error.traceback
    finally:
        pool.stop()


def test_what_was_enqueued_while_no_worker_lived_is_run(
    tasks: Organization, standing_pool: WorkerPool, worker_environment: dict[str, str]
) -> None:
    standing_pool.stop()
    results = [functions.add.enqueue(number, right=1) for number in range(20)]
    pool = WorkerPool({**worker_environment, "DJANGO_SETTINGS_MODULE": "tests.support.django_tasks.settings"})
    try:
        pool.start("io")
        assert [ended(result, 60).return_value for result in results] == list(range(1, 21))
        mark = uuid.uuid4().hex
        last = functions.note.enqueue(mark=mark)
        ended(last)
        pool.stop()  # drains, and sends what signals wait
        assert functions.lines(f"signal-{mark}")[-1] == "finished SUCCESSFUL 1"
    finally:
        pool.stop()
