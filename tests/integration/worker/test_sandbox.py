"""Sandboxes: their time and memory, their end with their worker, and that they take nobody along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.workers import WorkerPool, await_end, await_that, by_key, children_of, is_alive, publish, run_to_end
from workflows import services
from workflows.errors import InvalidOutput, ResourceExhausted
from workflows.models import Organization, StepRun, Worker
from workflows.services.runs import apply_definition
from workflows.steps import sandbox

SPIN = "while True:\n    pass"


def _sandboxes(parent: int) -> list[int]:
    """The interpreter processes of a process."""
    return children_of(parent, "monty")


def test_a_sandbox_ends_with_its_worker(live_db: None) -> None:
    """A killed worker can kill nothing: the kernel does, at once and not when the script's time is up."""
    code = f"from workflows.steps import sandbox\nsandbox.run({SPIN!r}, {{}}, timeout_s=60, name='spin')"
    worker = subprocess.Popen([sys.executable, "-c", code])
    (spinning,) = await_that(lambda: _sandboxes(worker.pid), 30, "it computes")
    worker.kill()
    worker.wait()
    await_that(lambda: not is_alive(spinning), 10, "the sandbox has ended")


def test_a_sandbox_that_is_killed_costs_one_try_and_not_the_worker(org: Organization, own_workers: WorkerPool) -> None:
    own_workers.start("io")
    own_workers.start("compute")
    own_workers.await_ready(3)
    children = {worker.id for worker in Worker.objects.filter(queues=["headrace.compute"])}
    slug = publish(org, [{"id": "a", "type": "sandbox_sync", "config": {"code": f"if attempt == 1:\n    {SPIN[:11]}\n        pass\nreturn 'again'"},
                          "retry": {"attempts": 2, "delay": "1ms"}}])  # fmt: skip
    run_id = services.trigger(org, slug).run_ids[0]
    await_that(lambda: StepRun.objects.get(run_id=run_id).status == "running", 30, "it executes")
    pids = [
        int(name.rsplit(":", 1)[1]) for name in Worker.objects.filter(id__in=children).values_list("name", flat=True)
    ]
    (spinning,) = await_that(lambda: [found for pid in pids for found in _sandboxes(pid)], 30, "it computes")
    os.kill(spinning, signal.SIGKILL)
    step = by_key(await_end(org, run_id))["a"]
    assert [(attempt.status, (attempt.error or {}).get("category")) for attempt in step.attempts] == [
        ("failed", "resource"), ("completed", None),
    ]  # fmt: skip
    assert (step.step_run.output, step.step_run.losses) == ("again", 0)


@pytest.mark.parametrize("code", ["x = 'a' * 10**9", "x = []\nwhile True:\n    x.append('a' * 1000)"])
def test_memory_is_bounded(code: str) -> None:
    with pytest.raises(ResourceExhausted):
        sandbox.run(code, {}, timeout_s=20, memory_bytes=16 * 1024 * 1024, name="big")
    assert sandbox.run("1 + 1", {}, timeout_s=5, name="next").value == 2


def test_a_value_that_is_nested_too_deeply_is_no_output() -> None:
    """It escaped as a RecursionError of the worker's own code."""
    with pytest.raises(InvalidOutput, match="nested too deeply"):
        sandbox.run("x = []\nfor i in range(100_000):\n    x = [x]\nx", {}, timeout_s=10, name="x")


def test_the_kernel_bounds_what_escapes_the_count_and_ends_a_sandbox_first(live_db: None) -> None:
    thread = threading.Thread(target=_swallow, args=(SPIN, 2.0))
    thread.start()
    (pid,) = await_that(lambda: _sandboxes(os.getpid()), 10, "it computes")
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    assert any(line.startswith("Max address space") and "4294967296" in line for line in limits)
    own, its = (int(Path(f"/proc/{name}/oom_score_adj").read_text()) for name in ("self", pid))
    assert its > own
    thread.join()


def _swallow(code: str, seconds: float) -> None:
    with pytest.raises(ResourceExhausted):
        sandbox.run(code, {}, timeout_s=seconds, name="spin")


def test_a_sandbox_that_does_not_notice_its_time_limit_is_killed_for_it() -> None:
    """As on a machine that is so busy that it gets no turn."""
    told: list[str] = []

    def spin() -> None:
        try:
            sandbox.run(SPIN, {}, timeout_s=5.0, name="spin")
        except ResourceExhausted as error:
            told.append(str(error))

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    (pid,) = await_that(
        lambda: [each for each in _sandboxes(os.getpid()) if _computed_s(each) > 0.7], 10, "it computes"
    )
    os.kill(pid, signal.SIGSTOP)
    thread.join(20)
    assert told == ["time limit exceeded: spin had 5 s, and was killed"]


def _computed_s(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11]
    return int(ticks) / os.sysconf("SC_CLK_TCK")


def step(kind: str, **more: Any) -> dict[str, Any]:
    config = more.pop("config", {})
    return {
        "id": "a",
        "type": kind,
        "config": {("script" if kind == "data_transform" else "code"): SPIN, **config},
        **more,
    }


@pytest.mark.parametrize("kind", ["sandbox_sync", "code_execution", "data_transform"])
def test_the_steps_timeout_is_the_codes(org: Organization, workers: WorkerPool, kind: str) -> None:
    began = time.monotonic()
    detail = run_to_end(org, [step(kind, timeout="1s", retry={"attempts": 1})])
    assert time.monotonic() - began < 20
    error = by_key(detail)["a"].attempts[0].error
    assert error["category"] == "resource"


class _Context:
    """What the rule reads of a step."""

    def __init__(self, given_ms: int | None, remaining_s: float) -> None:
        self.given_timeout_ms, self.remaining_s = given_ms, remaining_s


@pytest.mark.parametrize(
    ("own_ms", "given_ms", "remaining_s", "expected"),
    [
        (None, None, 60, 30),  # nothing is said
        (None, 120_000, 120, 120),  # the step says more
        (None, 5_000, 5, 5),  # or less
        (90_000, None, 95, 90),  # the configuration says it
        (90_000, 10_000, 10, 10),  # never beyond the step's deadline
        (None, 7_200_000, 7_200, 3_600),  # an hour at most
    ],
)
def test_how_long_code_may_take(own_ms: int | None, given_ms: int | None, remaining_s: float, expected: float) -> None:
    assert sandbox.timeout_s(_Context(given_ms, remaining_s), own_ms) == expected


def test_a_step_may_say_an_hour_and_no_more(org: Organization) -> None:
    from workflows.definitions.validate import parse

    apply_definition(org, parse({"flow": "f", "steps": [step("sandbox_sync", config={"timeout": "1h"})]}))
    with pytest.raises(Exception, match="timeout"):
        apply_definition(org, parse({"flow": "f", "steps": [step("sandbox_sync", config={"timeout": "61m"})]}))
