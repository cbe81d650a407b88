"""What a handler raises fails its step only; an engine thread that dies ends its process, which says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from tests.support import probes
from tests.support.workers import WorkerPool, await_end, await_that, is_alive, publish, statuses
from workflows import services
from workflows.models import Attempt, Organization, Worker

RAISES = ("Panic", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "MemoryError", "Unspeakable")


@pytest.mark.parametrize("error", RAISES)
def test_whatever_a_handler_raises_fails_its_step_only(error: str, org: Organization, workers: WorkerPool) -> None:
    pids = {worker.name for worker in Worker.objects.all()}
    kinds = ("dies", "dies_thread", "dies_async", "dies_compute")
    bad = [
        {"id": k, "type": k, "needs": [], "critical": False, "retry": {"attempts": 1}, "config": {"error": error}}
        for k in kinds
    ]
    good = [{"id": f"good-{n}", "type": "noop", "needs": []} for n in range(3)]
    detail = await_end(org, services.trigger(org, publish(org, [*bad, *good])).run_ids[0], 60)
    assert statuses(detail) == dict.fromkeys(kinds, "failed") | {step["id"]: "completed" for step in good}
    for step in detail.steps:
        assert step.step_run.losses == 0
        if step.step_run.status == "failed":
            assert Attempt.objects.get(step_run_id=step.step_run.id).error["name"] == error
    assert pids <= {worker.name for worker in Worker.objects.all()}, "every worker lives on"


def test_a_task_of_a_handler_that_ends_the_loop_ends_no_other_step(org: Organization, workers: WorkerPool) -> None:
    steps = [
        {"id": "bad", "type": "dies_in_a_task", "needs": [], "critical": False, "retry": {"attempts": 1}},
        {"id": "beside", "type": "probe_async", "needs": [], "config": {"hold_ms": 1500}},
        {"id": "after", "type": "probe_async", "needs": ["beside"]},
    ]
    detail = await_end(org, services.trigger(org, publish(org, steps)).run_ids[0], 40)
    assert statuses(detail) == {"bad": "failed", "beside": "completed", "after": "completed"}


def _ended(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = "import django\ndjango.setup()\n" + textwrap.dedent(code)
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", **environment}
    return subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("error", ["RuntimeError", "KeyboardInterrupt", "SystemExit"])
def test_an_engine_thread_that_dies_ends_its_process_and_says_why(error: str) -> None:
    done = _ended(f"""
        import time
        from workflows.engine.worker import vital

        def work():
            raise {error}("the reason")

        vital.start("heartbeat", work)
        time.sleep(50)
    """)
    assert done.returncode == 70
    said = done.stdout + done.stderr
    assert "engine thread has died" in said
    assert "heartbeat" in said
    assert "the reason" in said


@pytest.mark.parametrize("thread", ["maintenance", "heartbeat", "recorder", "permits"])
def test_a_worker_whose_thread_dies_ends(thread: str, org: Organization, own_workers: WorkerPool) -> None:
    """The thread's own work is replaced by a panic, in a real worker, once it is ready."""
    process = own_workers.start("io", HEADRACE_TEST_DIES=thread)
    await_that(lambda: process.poll() is not None, 60, "the end of the worker")
    assert process.returncode == 70
    own_workers.processes.remove(process)


def test_a_compute_child_whose_thread_dies_is_replaced(
    org: Organization, own_workers: WorkerPool, tmp_path: Any
) -> None:
    own_workers.start("compute", HEADRACE_TEST_DIES="heartbeat", HEADRACE_TEST_DIES_ONCE=str(tmp_path / "died"))
    own_workers.start("io")
    own_workers.await_ready(3, 60)
    await_that((tmp_path / "died").exists, 60, "the panic")
    step = {"id": "a", "type": "raises_compute", "config": {"how": "fine"}}
    run_id = services.trigger(org, publish(org, [step])).run_ids[0]
    assert await_end(org, run_id, 60).run.status == "completed"


def test_a_compute_child_that_is_told_to_end_hands_its_step_back_and_ends(
    org: Organization, own_workers: WorkerPool
) -> None:
    """Its pool's handler raises SystemExit in the step's handler: that is no failure of the step."""
    own_workers.start("io")
    own_workers.start("compute")
    own_workers.await_ready(3)
    step = {"id": "a", "type": "raises_compute", "config": {"how": "ignores", "seconds": 5}, "retry": {"attempts": 1}}
    run_id = services.trigger(org, publish(org, [step])).run_ids[0]
    (span,) = await_that(lambda: probes.LOG.exists() and probes.spans({str(run_id)}), 30, "it executes")
    os.kill(span.pid, signal.SIGTERM)
    await_that(lambda: not is_alive(span.pid), 30, "the end of the child")
    detail = await_end(org, run_id, 60)
    assert statuses(detail) == {"a": "completed"}
    assert detail.steps[0].step_run.losses == 0
    assert [attempt.status for attempt in detail.steps[0].attempts] == ["completed"]
