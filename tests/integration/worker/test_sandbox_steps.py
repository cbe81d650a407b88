"""Steps that run code: failures with their category, lost processes, what was printed."""

from __future__ import annotations

import pytest

from tests.integration.pipeline.test_runs import FAST, transform
from tests.support.workers import (
    WorkerPool,
    await_end,
    await_that,
    by_key,
    publish,
    run_to_end,
)
from workflows import services
from workflows.models import Organization, StepRun

pytestmark = pytest.mark.usefixtures("workers")


@pytest.mark.parametrize(
    ("code", "category", "says"),
    [
        ("while True:\n    pass", "resource", "time limit"),
        ("import time\ntime.sleep(60)", "resource", "sleep limit"),
        ("x = []\nwhile True:\n    x.append('a' * 100000)", "resource", "memory limit"),
        ("open('/etc/passwd').read()", "configuration", "no files"),
        ("import socket", "configuration", "no files, network"),
        ("import os\nos.environ['HOME']", "configuration", "environment"),
        ("def f(:", "configuration", "SyntaxError"),
        ("return {1, 2}", "invalid_output", "set"),
        ("return float('nan')", "invalid_output", "NaN"),
        ("return 'a\\x00b'", "invalid_output", "NUL"),
        ("return 'x' * 5000000", "invalid_output", "4,194,304"),
    ],
)
def test_bad_sandbox_code_is_a_failed_try_with_its_category(
    org: Organization, code: str, category: str, says: str
) -> None:
    config = {"code": code, "timeout": "300ms" if says == "time limit" else "5s", "memory_mb": 32}
    detail = run_to_end(org, [{"id": "a", "type": "sandbox_sync", "retry": {"attempts": 1}, "config": config}])
    error = by_key(detail)["a"].attempts[-1].error
    assert error["category"] == category, error
    assert says in error["message"]
    assert error["traceback"]


def test_a_killed_sandbox_process_costs_one_try_and_the_worker_lives_on(org: Organization, workers: WorkerPool) -> None:
    slug = publish(
        org,
        [
            {
                "id": "a",
                "type": "code_execution",
                "retry": {"attempts": 2, **FAST},
                "config": {
                    "code": "import time\nwhile attempt == 1:\n    pass\nreturn attempt",
                    "timeout": "25s",
                },
            }
        ],
    )
    run_id = services.trigger(org, slug).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id=run_id, status="running").exists(), 10)
    await_that(_kill_sandboxes, 5)
    detail = await_end(org, run_id)
    assert [a.status for a in by_key(detail)["a"].attempts] == ["failed", "completed"]
    assert by_key(detail)["a"].attempts[0].error["category"] == "resource"
    assert all(process.poll() is None for process in workers.processes)


def _kill_sandboxes() -> bool:
    import os
    import signal
    from pathlib import Path

    killed = False
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if command[0].endswith(b"monty") and b"subprocess" in command:
            os.kill(int(path.parent.name), signal.SIGKILL)
            killed = True
    return killed


def test_sandbox_async_keeps_its_step_running_after_its_task_has_ended(org: Organization) -> None:
    """Two compute children, five sleeping steps: all run at once, since the tasks have ended."""
    code = "import time\ntime.sleep(1.2)\nreturn 1"
    steps = [{"id": f"s{i}", "type": "sandbox_async", "needs": [], "config": {"code": code}} for i in range(5)]
    slug = publish(org, steps)
    run_id = services.trigger(org, slug).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id=run_id, status="running").count() == 5, 10, "five at once")
    assert await_end(org, run_id).run.status == "completed"


def test_code_execution_keeps_what_was_printed(org: Organization) -> None:
    config = {"code": "print('hello')\nreturn {'n': input['n'], 'before': steps['a']['output']}"}
    detail = run_to_end(org, [transform("a", "7"), {"id": "b", "type": "code_execution", "config": config}], {"n": 1})
    assert by_key(detail)["b"].step_run.output == {"result": {"n": 1, "before": 7}, "printed": "hello\n"}
