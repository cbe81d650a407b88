"""The promises under kill -9, restarts and an empty broker, with real worker processes."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from config import env
from devtools import embedded
from tests.support.volume import volume
from tests.support.workers import WorkerPool, await_that, publish, scalar
from workflows import selectors, services
from workflows.models import Attempt, Organization, Run, StepRun

PAUSE_S = float(os.environ.get("HEADRACE_TEST_PAUSE_S", "8"))
KILLS = 10


class SideEffects:
    """A real HTTP server whose log of calls is only ever appended to: (step run, time of the effect)."""

    def __init__(self) -> None:
        self.log: list[tuple[str, float]] = []
        log = self.log

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                time.sleep(random.uniform(0.01, 0.08))
                log.append((self.headers["idempotency-key"], time.time()))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def finished(org: Organization, count: int) -> bool:
    return Run.objects.filter(org_id=org.id, ended_at__isnull=False).count() == count


def assert_nothing_is_wrong(org: Organization) -> None:
    health = selectors.health()
    assert {name: health[name] for name in selectors.FAULTS} == dict.fromkeys(selectors.FAULTS, 0)
    assert not StepRun.objects.filter(org_id=org.id, ended_at=None).exists()


def test_a_worker_is_killed_ten_times_and_no_recorded_step_runs_again(
    org: Organization, own_workers: WorkerPool
) -> None:
    effects = SideEffects()
    call = {"type": "http_request", "config": {"url": effects.url, "method": "POST"}}
    slug = publish(org, [{"id": f"s{i}", **call} for i in range(4)])
    worker = own_workers.start("io", HEADRACE_LEASE_S="2")
    own_workers.await_ready(1)
    services.trigger_many(org, slug, [{}] * 50)
    chance = random.Random(8288)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.05, 0.4))
        own_workers.kill(worker)
        worker = own_workers.start("io", HEADRACE_LEASE_S="2")
        await_that(lambda: _somebody_executes(org) or finished(org, 50), 20, "work goes on")
    await_that(lambda: finished(org, 50), 90, "all runs end")
    effects.close()
    assert Run.objects.filter(org_id=org.id, status="completed").count() == 50
    recorded = {str(a.step_run_id): a for a in Attempt.objects.filter(org_id=org.id, status="completed")}
    assert len(recorded) == 200
    assert Attempt.objects.filter(org_id=org.id, status="completed").count() == 200
    calls: dict[str, list[float]] = defaultdict(list)
    for step_run_id, moment in effects.log:
        calls[step_run_id].append(moment)
    assert calls.keys() == recorded.keys()
    again = [key for key, times in calls.items() if max(times) > recorded[key].ended_at.timestamp()]
    assert again == []
    assert Attempt.objects.filter(org_id=org.id, status="lost").exists()
    assert_nothing_is_wrong(org)


def _somebody_executes(org: Organization) -> bool:
    sql = "SELECT 1 FROM headrace_workflows_steprun WHERE org_id = %s AND status = 'running' AND lease_until > now()"
    return bool(scalar(sql, org.id))


def test_no_join_is_lost_with_four_workers(org: Organization, own_workers: WorkerPool) -> None:
    """Two parents of each of so many joins, recorded by whoever comes first."""
    number = volume(10_000)
    slug = publish(
        org,
        [
            {"id": "left", "type": "noop", "needs": []},
            {"id": "right", "type": "noop", "needs": []},
            {"id": "join", "type": "noop", "needs": ["left", "right"]},
        ],
    )
    for _ in range(4):
        own_workers.start("io")
    own_workers.await_ready(4)
    for _ in range(2):
        services.trigger_many(org, slug, [{}] * (number // 2))
    await_that(lambda: finished(org, number), 120, "all runs end")
    assert Run.objects.filter(org_id=org.id, status="completed").count() == number
    assert Attempt.objects.filter(org_id=org.id).count() == 3 * number
    assert_nothing_is_wrong(org)


def test_a_long_queue_is_not_mistaken_for_a_lost_one(org: Organization, own_workers: WorkerPool) -> None:
    slug, number = publish(org, [{"id": "a", "type": "noop"}]), volume(10_000)
    for _ in range(2):
        services.trigger_many(org, slug, [{}] * (number // 2))
    time.sleep(PAUSE_S)
    own_workers.start("io")
    own_workers.start("io")
    await_that(lambda: finished(org, number), 60, "all runs end")
    assert StepRun.objects.filter(org_id=org.id, dispatch_count__gt=1).count() < number // 100
    assert Attempt.objects.filter(org_id=org.id).count() == number
    assert_nothing_is_wrong(org)


def test_a_broker_that_comes_back_empty_loses_no_step(org: Organization, own_workers: WorkerPool) -> None:
    runs = volume(10_000)
    slug = publish(
        org, [{"id": "a", "type": "noop"}, {"id": "b", "type": "data_transform", "config": {"expression": "1"}}]
    )
    own_workers.start("io")
    own_workers.await_ready(1)
    own_workers.processes[0].send_signal(signal.SIGSTOP)
    for _ in range(2):
        services.trigger_many(org, slug, [{}] * (runs // 2))
    own_workers.processes[0].send_signal(signal.SIGCONT)
    await_that(lambda: StepRun.objects.filter(org_id=org.id, status="completed").count() > runs // 20, 20)
    kill_the_store_and_its_data()
    await_that(lambda: finished(org, runs), 120, "all runs end")
    assert Run.objects.filter(org_id=org.id, status="completed").count() == runs
    assert Attempt.objects.filter(org_id=org.id).count() == 2 * runs
    assert StepRun.objects.filter(org_id=org.id, dispatch_count__gt=2).count() < 100
    assert_nothing_is_wrong(org)


def kill_the_store_and_its_data() -> None:
    paths = embedded.Paths(var=env.read().var_dir)
    pid = embedded.valkey_pid(paths)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await_that(lambda: embedded.valkey_pid(paths) is None or not embedded.is_alive(pid), 5)
    (paths.valkey / "dump.rdb").unlink(missing_ok=True)
    assert embedded.revive(paths) == ["Valkey"]


def test_triggers_are_accepted_while_the_store_is_away(org: Organization, own_workers: WorkerPool) -> None:
    slug = publish(org, [{"id": "a", "type": "noop"}])
    paths = embedded.Paths(var=env.read().var_dir)
    pid = embedded.valkey_pid(paths)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await_that(lambda: embedded.valkey_pid(paths) is None or not embedded.is_alive(pid), 5)
    try:
        services.trigger(org, slug)
    finally:
        embedded.revive(paths)
    own_workers.start("io")
    await_that(lambda: finished(org, 1), 40, "the run ends")


def test_sigterm_drains_and_loses_nothing(org: Organization, own_workers: WorkerPool) -> None:
    effects = SideEffects()
    call = {"type": "http_request", "config": {"url": effects.url, "method": "POST"}}
    slug = publish(org, [{"id": f"s{i}", **call} for i in range(6)])
    worker = own_workers.start("io")
    own_workers.await_ready(1)
    services.trigger_many(org, slug, [{}] * 40)
    for _ in range(3):
        await_that(lambda: len(effects.log) > 0, 20)
        effects.log.clear()
        worker.terminate()
        assert worker.wait(20) == 0
        own_workers.processes.remove(worker)
        worker = own_workers.start("io")
        own_workers.await_ready(1)
    await_that(lambda: finished(org, 40), 60, "all runs end")
    effects.close()
    assert not Attempt.objects.filter(org_id=org.id).exclude(status="completed").exists()
    assert Attempt.objects.filter(org_id=org.id).count() == 240
    assert_nothing_is_wrong(org)


@pytest.mark.parametrize("how", ["pg_terminate_backend", "zombie"])
def test_a_worker_survives_what_happens_to_its_connections(
    org: Organization, own_workers: WorkerPool, how: str
) -> None:
    """Its sessions are ended under it, or it sleeps past its leases and wakes as a zombie."""
    effects = SideEffects()
    call = {"type": "http_request", "config": {"url": effects.url, "method": "POST"}}
    slug = publish(org, [{"id": f"s{i}", **call} for i in range(5)])
    worker = own_workers.start("io", HEADRACE_LEASE_S="2")
    own_workers.await_ready(1)
    services.trigger_many(org, slug, [{}] * 20)
    await_that(lambda: len(effects.log) > 5, 20)
    if how == "zombie":
        worker.send_signal(signal.SIGSTOP)
        own_workers.start("io", HEADRACE_LEASE_S="2")
        await_that(lambda: Attempt.objects.filter(org_id=org.id, status="lost").exists(), 20, "rescue")
        worker.send_signal(signal.SIGCONT)
    else:
        for _ in range(5):
            scalar(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = 'headrace' AND datname = current_database()"
            )
            time.sleep(0.1)
    await_that(lambda: finished(org, 20), 60, "all runs end")
    effects.close()
    assert Run.objects.filter(org_id=org.id, status="completed").count() == 20
    assert Attempt.objects.filter(org_id=org.id, status="completed").count() == 100
    assert_nothing_is_wrong(org)
