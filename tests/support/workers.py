"""Celery workers as real processes, and waiting for what they do."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils import timezone

from tests.support.processes import forks
from throttling.defaults import SHIPPED_SIZE
from throttling.environment import global_run_policy
from throttling.overrides import Snapshot
from throttling.policy import Policies
from workflows import selectors, services, this_process
from workflows.definitions.validate import parse
from workflows.engine.maintenance import gate_sync
from workflows.engine.pipeline import admit
from workflows.engine.pipeline.dispatcher import Dispatcher
from workflows.engine.run_controls import stopping
from workflows.engine.state.records import ReadyStep
from workflows.engine.state.transitions import runs as run_transitions
from workflows.models import CronFire, Organization, Run, StepRun, SweepFailure, Trigger, Worker
from workflows.selectors import limits
from workflows.steps.registry import LANES

PROFILES = {
    "io": ["-P", "threads", "-c", "4", "-Q", "headrace.io,headrace.tasks"],
    "compute": ["-P", "prefork", "-c", "2", "-Q", "headrace.compute"],
}


Process = subprocess.Popen[bytes] | forks.Forked

OTHER_CHECKOUT = os.environ.get("HEADRACE_TEST_OTHER_CHECKOUT")
"""A checkout of another release: every second worker runs its code, as in a rolling upgrade."""


class WorkerPool:
    """Worker processes of the profiles `io` and `compute`."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.processes: list[Process] = []
        self._numbers = itertools.count()

    def start(self, profile: str, **more: str) -> Process:
        number = next(self._numbers)
        arguments = [
            "-A", "config", "worker", *PROFILES[profile], "-l", "WARNING", "-n", f"{profile}{number}-{os.getpid()}@%h",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ]  # fmt: skip
        environment = {**self.environment, "HEADRACE_DRAIN_S": "5", **more}
        with (Path(os.environ["HEADRACE_VAR_DIR"]) / "log" / f"test-{profile}.log").open("ab") as log:
            process: Process | None = None if OTHER_CHECKOUT else forks.start_celery(arguments, environment, log)
            if process is None:
                process = subprocess.Popen(
                    [sys.executable, "-m", "celery", *arguments], env=environment,
                    stdout=log, stderr=log, start_new_session=True, cwd=OTHER_CHECKOUT if number % 2 else None,
                )  # fmt: skip
        self.processes.append(process)
        return process

    def await_ready(self, count: int, patience_s: float = 40) -> None:
        """Wait until so many runtimes have reported since now (a prefork worker has one per child)."""
        since = timezone.now() - dt.timedelta(seconds=3)
        await_that(lambda: Worker.objects.filter(seen_at__gt=since).count() >= count, patience_s, "workers")

    def kill(self, process: Process) -> None:
        """SIGKILL to the worker and its children."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.processes.remove(process)

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.processes.clear()


def await_that(condition: Callable[[], Any], patience_s: float = 30, what: str = "condition") -> Any:
    """Wait until the condition holds; its value."""
    deadline = time.monotonic() + patience_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: still not after {patience_s} s"
        time.sleep(0.02)


def publish(org: Organization, steps: list[dict[str, Any]], *, slug: str = "flow", **more: Any) -> str:
    """Publish a flow of these steps; its slug."""
    services.apply_definition(org, parse({"flow": slug, "steps": steps, **more}))
    return slug


def await_end(org: Organization, run_id: UUID, patience_s: float = 30) -> selectors.RunDetail:
    """Wait for the end of a run."""

    def ended() -> selectors.RunDetail | None:
        detail = selectors.run_detail(org, run_id)
        return None if detail.run.is_live else detail

    try:
        detail: selectors.RunDetail = await_that(ended, patience_s, f"run {run_id}")
    except AssertionError as error:
        raise AssertionError(f"{error}; {_state_of(run_id)}") from None
    return detail


def _state_of(run_id: UUID) -> str:
    """Where a run stands, for the message of a test that waits for it in vain."""
    rows = StepRun.objects.filter(run_id=run_id, ended_at=None)[:5]
    return "; ".join(f"{row.key}{row.path} is {row.status}: {limits.reason_of(row).sentence}" for row in rows)


def run_to_end(
    org: Organization, steps: list[dict[str, Any]], data: Any = None, patience_s: float = 30, **more: Any
) -> selectors.RunDetail:
    """Publish, trigger and wait."""
    slug = publish(org, steps, slug=more.pop("slug", "flow"), **more)
    return await_end(org, services.trigger(org, slug, data).run_ids[0], patience_s)


def by_key(detail: selectors.RunDetail) -> dict[str, selectors.StepDetail]:
    return {step.step_run.key: step for step in detail.steps}


def statuses(detail: selectors.RunDetail) -> dict[str, str]:
    return {key: step.step_run.status for key, step in by_key(detail).items()}


@contextlib.contextmanager
def shipped_policies() -> Iterator[None]:
    """What is read in here sees the shipped limits, which the tests lift. Nothing may be triggered in it."""
    shipped = Policies(runs=global_run_policy(SHIPPED_SIZE), revision=10**9)
    with this_process.replaced(Snapshot, Snapshot(shipped)):
        yield


def open_queues() -> None:
    """For tests that are the worker themselves: the queues admit, although nobody has announced slots. What waited for
    a place since earlier tests gets one now, and does not stand before the steps of the test that follows."""
    gate_sync.GateSync().rebuild()  # there may be no leader either
    answer, _ = admit.gate().wake(gate_sync.queue_definitions(dict.fromkeys(LANES, 100_000)))
    while answer.more:
        answer, _ = admit.gate().wake()


def scalar(sql: str, *parameters: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        row = cursor.fetchone()
        return row[0] if row else None


class Collector(Dispatcher):
    """Keeps the steps that became ready; nobody dispatches them."""

    def __init__(self) -> None:
        super().__init__(at_once=True)
        self.steps: list[ReadyStep] = []

    def start(self, steps: Sequence[ReadyStep]) -> None:
        self.steps += steps

    submit = start


@contextlib.contextmanager
def nobody_dispatches() -> Iterator[list[ReadyStep]]:
    """What becomes ready in here is collected, and not dispatched."""
    collector = Collector()
    with this_process.replaced(Dispatcher, collector):
        yield collector.steps


def leave_nothing(org: Organization) -> None:
    """Cancel what is live of an organization and what starts by itself, so that the workers of the next tests have nothing
    of it."""
    Trigger.objects.filter(organization=org).delete()
    CronFire.objects.filter(org_id=org.id, outcome="queued").delete()
    ids = list(Run.objects.filter(org_id=org.id, ended_at=None).values_list("id", flat=True))
    with nobody_dispatches():
        stopping.stop_runs(run_transitions.request_cancel(org.id, ids, reason="the test is over"))
    SweepFailure.objects.all().delete()  # notes of what maintenance could not do, which the next test takes for its own


def children_of(parent: int, what: str) -> list[int]:
    """The processes that a process has started and that live, of those in whose command line `what` stands."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            state, of = (directory / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            if int(of) == parent and state != "Z" and what in (directory / "cmdline").read_text():
                found.append(int(directory.name))
        except OSError:
            continue
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def is_alive(pid: int) -> bool:
    """Not so for a process that has ended and is not yet waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def start_beat(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """celery-beat as a real process, which looks at its rows every second."""
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "config",
        "beat",
        "-l",
        "INFO",
        "--pidfile=",
        "--max-interval",
        "1",
    ]
    with (Path(os.environ["HEADRACE_VAR_DIR"]) / "log" / "test-beat.log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)
