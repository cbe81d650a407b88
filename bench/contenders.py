"""Headrace and plain Celery, each with the same four workloads, and what they cost."""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import redis
from celery import chain, chord, group
from django.db import connection
from django.utils import timezone

from bench import celery_app
from config.env import BASE_DIR
from workflows import services, this_process
from workflows.definitions.validate import parse
from workflows.engine.maintenance import gate_sync
from workflows.engine.pipeline import admit
from workflows.engine.pipeline import publish as dispatch
from workflows.engine.pipeline.dispatcher import Dispatcher
from workflows.engine.state import database as engine_store
from workflows.engine.worker.profile import WorkerProfile
from workflows.engine.worker.runtime import Runtime
from workflows.models import Attempt, Organization, Worker
from workflows.steps.registry import LANES

_QUIET = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR"]


def timed(work: Callable[[], Any]) -> float:
    """Seconds that the work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Workers:
    """All worker processes of the run, Headrace's and plain Celery's."""

    def __init__(self) -> None:
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start_all(self) -> None:
        self._start("io", "config", "-P", "threads", "-c", "4", "-Q", "headrace.io,headrace.tasks")
        self._start("compute", "config", "-P", "prefork", "-c", "2", "-Q", "headrace.compute")
        self._start("celery_redis", "bench.celery_app:redis_app", "-P", "prefork", "-c", "2", "-Q", "bench.redis")
        self._start("celery_django", "bench.celery_app:django_app", "-P", "prefork", "-c", "2", "-Q", "bench.django")
        time.sleep(8)

    def swap_io(self, **environment: str) -> None:
        """Our I/O worker anew, in another environment."""
        self.processes["io"].terminate()
        self.processes["io"].wait(30)
        since = timezone.now()
        self._start("io", "config", "-P", "threads", "-c", "4", "-Q", "headrace.io,headrace.tasks", **environment)
        while not Worker.objects.filter(started_at__gt=since, queues__contains=["headrace.io"]).exists():
            time.sleep(0.1)
        time.sleep(2)  # it leads, and has sized the queues

    def _start(self, name: str, app: str, *options: str, **more: str) -> None:
        environment = {**os.environ, **more}
        if name == "celery_redis":
            del environment["DJANGO_SETTINGS_MODULE"]  # no Django, no fixup: as lean as plain Celery can be
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", app, "worker", *options, "-n", f"{name}@%h", *_QUIET],
            cwd=BASE_DIR,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=None if os.environ.get("BENCH_VERBOSE") else subprocess.DEVNULL,
        )

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def memory_mib(self) -> dict[str, float]:
        """PSS of each process tree, idle."""
        return {name: round(sum(_pss_kib(pid) for pid in _tree(p.pid)) / 1024, 1) for name, p in self.processes.items()}


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found.extend(int(child) for child in path.read_text().split())
    return found


def _pss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


class Headrace:
    """Our flows of no-op steps."""

    def __init__(self) -> None:
        self.organization, _ = Organization.objects.get_or_create(slug="bench", defaults={"name": "Bench"})
        noop = {"type": "noop"}
        self._publish("one", [{"id": "a", **noop}])
        self._publish("five", [{"id": f"s{i}", **noop} for i in range(5)])
        wide = [{"id": f"p{i}", **noop, "needs": []} for i in range(200)]
        self._publish("queue", [{"id": "a", **noop, "throttling": {"concurrency": 1}}])
        self._publish("chain", [{"id": f"s{i}", **noop} for i in range(200)])
        self._publish("wide", [*wide, {"id": "join", **noop, "needs": [step["id"] for step in wide]}])

    def _publish(self, slug: str, steps: list[dict[str, Any]]) -> None:
        services.apply_definition(self.organization, parse({"flow": slug, "steps": steps}))

    def _await_idle(self, pause_s: float) -> None:
        sql = "SELECT EXISTS (SELECT 1 FROM workflows_run WHERE org_id = %s AND status IN ('queued', 'running'))"
        with connection.cursor() as cursor:
            while True:
                cursor.execute(sql, [self.organization.id])
                if not cursor.fetchone()[0]:
                    return
                time.sleep(pause_s)

    def warm_up(self) -> None:
        services.trigger_many(self.organization, "five", [{}] * 50)
        self._await_idle(0.02)

    def _runs_of(self, slug: str, runs: int, pause_s: float = 0.01) -> float:
        def work() -> None:
            services.trigger_many(self.organization, slug, [{}] * runs)
            self._await_idle(pause_s)

        return timed(work)

    def hand_over_gap_ms(self, slug: str, runs: int) -> float:
        """Milliseconds from one step's end to the next one's start, the median: of runs of one step each under a
        concurrency of 1, or of a chain."""
        before = timezone.now()
        services.trigger_many(self.organization, slug, [{}] * runs)
        self._await_idle(0.01)
        tries = Attempt.objects.filter(org_id=self.organization.id, started_at__gt=before).order_by("started_at")
        spans = list(tries.values_list("started_at", "ended_at"))
        gaps = [(after[0] - one[1]).total_seconds() * 1e3 for one, after in itertools.pairwise(spans) if after[0]]
        return statistics.median(gaps)

    def w1_many(self, runs: int) -> float:
        """Runs of one no-op step, triggered by one call."""
        return self._runs_of("one", runs)

    def w1_single(self, runs: int) -> float:
        """The same, triggered one by one."""

        def work() -> None:
            for _ in range(runs):
                services.trigger(self.organization, "one")
            self._await_idle(0.01)

        return timed(work)

    def w2(self, runs: int) -> float:
        """Runs of five steps in a row."""
        return self._runs_of("five", runs)

    def latency(self) -> float:
        """One run of five steps, alone."""
        return self._runs_of("five", 1, 0.0005)

    def w3(self) -> float:
        """One run of 200 parallel steps and a join."""
        return self._runs_of("wide", 1, 0.001)

    def first_step(self) -> float:
        """From the call of trigger to the start of the first step, idle: the clocks of one machine."""
        called = time.time()
        run_id: UUID = services.trigger(self.organization, "one").run_ids[0]
        self._await_idle(0.0005)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT extract(epoch FROM started_at)::float8 FROM workflows_steprun WHERE run_id = %s", [run_id]
            )
            return float(cursor.fetchone()[0]) - called


class PlainCelery:
    """The same with `delay`, `chain` and `chord`; all results are waited for."""

    def warm_up(self) -> None:
        for task in (celery_app.redis_noop, celery_app.django_noop):
            for result in [task.delay() for _ in range(50)]:
                result.get(timeout=60)

    def w1(self, runs: int) -> float:
        def work() -> None:
            for result in [celery_app.redis_noop.delay() for _ in range(runs)]:
                result.get(timeout=120)

        return timed(work)

    def w2(self, runs: int) -> float:
        return self._chains(celery_app.redis_noop, runs)

    def w2_django(self, runs: int) -> float:
        return self._chains(celery_app.django_noop, runs)

    def _chains(self, task: Any, runs: int) -> float:
        def work() -> None:
            for result in [chain(*[task.s() for _ in range(5)]).apply_async() for _ in range(runs)]:
                result.get(timeout=120, interval=0.005)

        return timed(work)

    def latency(self) -> float:
        return self._chains(celery_app.redis_noop, 1)

    def w3(self, width: int) -> float:
        tasks = group(celery_app.redis_noop.s() for _ in range(width))
        return timed(lambda: chord(tasks)(celery_app.redis_join.s()).get(timeout=120))


def count_costs(headrace: Headrace) -> dict[str, float]:
    """Per step of W2 under load: SQL statements (pg_stat_statements is not in the wheel: transactions, and the
    engine's own count of statements), and store calls by INFO commandstats."""
    runs, steps = 500, 5
    store = redis.Redis.from_url(os.environ["REDIS_URL"])
    store.config_resetstat()
    before = _transactions()
    services.trigger_many(headrace.organization, "five", [{}] * runs)
    time.sleep(2)
    headrace._await_idle(0.5)
    transactions = _transactions() - before
    calls = sum(value["calls"] for name, value in store.info("commandstats").items() if name != "cmdstat_info")
    return {
        "transactions_per_step": round(transactions / (runs * steps), 3),
        "store_calls_per_step": round(calls / (runs * steps), 3),
        "sql_per_step": round(_statements_per_step(headrace, runs, steps), 3),
    }


def _transactions() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def _statements_per_step(headrace: Headrace, runs: int, steps: int) -> float:
    """Counted at the driver: an engine in this process performs the same batches that a worker would get."""
    sent: list[Any] = []
    publish = dispatch.publish
    setattr(dispatch, "publish", sent.extend)
    runtime = Runtime(
        WorkerProfile(
            name="bench",
            queues=frozenset({"headrace.io"}),
            slots=200,
            threads=2,
            runs_in_task_thread=False,
            lanes={"headrace.io": 400},
        )
    )
    runtime.start()
    admit.gate().wake(gate_sync.queue_definitions(dict.fromkeys(LANES, 100_000)))
    try:
        with this_process.replaced(Dispatcher, Dispatcher(at_once=True)):
            services.trigger_many(headrace.organization, "five", [{}] * runs)
        engine_store.counter().by_name.clear()
        for _, _, batch in dispatch.messages(sent):
            runtime.visit(batch)
        return sum(engine_store.counter().by_name.values()) / (runs * steps)
    finally:
        setattr(dispatch, "publish", publish)
        runtime.drain(1)
        engine_store.close()
