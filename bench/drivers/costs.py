"""What a step costs: round trips, statements, transactions, fsyncs, buffers and CPU; and what the stack costs idle."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import redis
from django.db import connection

from bench.drivers.between import Between
from bench.drivers.lone import lone
from bench.drivers.processes import cpu_s, pss_mib, tree
from bench.drivers.site import Site
from config.env import BASE_DIR
from devtools import embedded
from workflows import services

FLUSH_S = 1.5
"""Postgres' backends tell their statistics at most once a second."""


@dataclass(frozen=True, kw_only=True)
class Used:
    """Counters at a moment, or what they have grown by."""

    at: float
    postgres_turns: float
    store_turns: float
    transactions: float
    fsyncs: float
    buffers: float
    store_commands: float
    worker_cpu_us: float
    client_cpu_us: float
    postgres_cpu_us: float
    store_cpu_us: float

    def since(self, other: Used) -> Used:
        return Used(**{each.name: getattr(self, each.name) - getattr(other, each.name) for each in fields(self)})

    def beyond(self, idle: Used, units: float) -> dict[str, float]:
        """For each of so many units: what was used beyond what an idle stack uses in the same time."""
        share = self.at / idle.at
        return {
            each.name: (getattr(self, each.name) - getattr(idle, each.name) * share) / units
            for each in fields(self)
            if each.name != "at"
        }


class Costs:
    """What the site's worker, this process and both services have used."""

    def __init__(self, site: Site, between: Between | None) -> None:
        self._site, self._between = site, between
        services_ = embedded.current()
        self._paths = services_.paths if services_ is not None else None
        self._store = redis.Redis.from_url(os.environ["REDIS_URL"])

    def read(self) -> Used:
        time.sleep(FLUSH_S)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute(
                "SELECT xact_commit + xact_rollback, blks_hit + blks_read FROM pg_stat_database "
                "WHERE datname = current_database()"
            )
            transactions, buffers = cursor.fetchone()
            cursor.execute("SELECT coalesce(sum(fsyncs), 0) FROM pg_stat_io WHERE object = 'wal'")
            (fsyncs,) = cursor.fetchone()
        stats: Mapping[str, Mapping[str, int]] = self._store.info("commandstats")
        worker = self._site.processes.running.get("worker-io")
        times = os.times()
        return Used(
            at=time.monotonic(),
            postgres_turns=self._between.turns("postgres") if self._between else 0,
            store_turns=self._between.turns("store") if self._between else 0,
            transactions=transactions,
            fsyncs=float(fsyncs),
            buffers=buffers,
            store_commands=sum(value["calls"] for value in stats.values()),
            worker_cpu_us=cpu_s(worker.pid) * 1e6 if worker else 0,
            client_cpu_us=(times.user + times.system) * 1e6,
            postgres_cpu_us=_cpu_us(embedded.postmaster_pid, self._paths),
            store_cpu_us=_cpu_us(embedded.valkey_pid, self._paths),
        )

    def idle(self, seconds: float) -> Used:
        """What is used in so many seconds in which nothing is asked."""
        before = self.read()
        time.sleep(seconds)
        return self.read().since(before)

    def of_lone_runs(self, *, count: int, kind: str = "effects") -> dict[str, float]:
        """Of a lone run of five steps, from its trigger on."""
        idle = self.idle(6)
        before = self.read()
        lone(self._site, count=count, pause_ms=50, kind=kind)
        return self.read().since(before).beyond(idle, count)

    def of_many(self, *, runs: int, kind: str = "effects") -> dict[str, float]:
        """Of a step of many runs of five steps."""
        idle = self.idle(6)
        before = self.read()
        services.trigger_many(self._site.organization, f"five-{kind}", [{}] * runs)
        self._site.await_idle(0.5)
        return self.read().since(before).beyond(idle, runs * 5)


def _cpu_us(pid_of: Callable[[embedded.Paths], int | None], paths: embedded.Paths | None) -> float:
    pid = pid_of(paths) if paths is not None else None
    return cpu_s(pid) * 1e6 if pid else 0.0


def idle_stack(site: Site, *, seconds: float) -> dict[str, float]:
    """All of `manage.py up`, idle: a share of a core, transactions and store commands a second, memory, processes."""
    up = subprocess.Popen(
        [sys.executable, "manage.py", "up"],
        cwd=BASE_DIR, env={**os.environ, "PORT": str(_three_free_ports())},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        site.await_worker()
        time.sleep(25)  # the fifteen seconds after a start are not idle
        costs, paths = Costs(site, None), embedded.current()
        roots = [up.pid]
        if paths is not None:
            roots += [pid for pid in (embedded.postmaster_pid(paths.paths), embedded.valkey_pid(paths.paths)) if pid]
        cpu_before, before = sum(map(cpu_s, roots)), costs.read()
        time.sleep(seconds)
        cpu, used = sum(map(cpu_s, roots)) - cpu_before, costs.read().since(before)
        return {
            "cpu_percent": cpu / used.at * 100,
            "transactions_per_s": used.transactions / used.at,
            "store_commands_per_s": used.store_commands / used.at,
            "memory_mib": sum(map(pss_mib, roots)),
            "processes": float(len({pid for root in roots for pid in tree(root)})),
            "up_memory_mib": pss_mib(up.pid),
        }
    finally:
        up.send_signal(signal.SIGINT)
        try:
            up.wait(30)
        except subprocess.TimeoutExpired:
            up.kill()


def _three_free_ports() -> int:
    for first in itertools.count(21_000, 7):
        probes = [socket.socket() for _ in range(3)]
        try:
            for number, probe in enumerate(probes):
                probe.bind(("127.0.0.1", first + number))
            return first
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
    raise RuntimeError("no free ports")


def worker_memory(site: Site) -> dict[str, float]:
    """Of the I/O worker, as it is now."""
    return {"memory_mib": pss_mib(site.processes.running["worker-io"].pid)}


def fsyncs_ms(directory: Path, count: int = 6, repeats: int = 15) -> float:
    """The floor of a lone run: so many writes of a page with fsync, one after the other, the median."""
    spent = []
    path = directory / "fsync-probe"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for _ in range(repeats):
            begun = time.perf_counter()
            for _ in range(count):
                os.pwrite(descriptor, b"x" * 8192, 0)
                os.fdatasync(descriptor)
            spent.append(time.perf_counter() - begun)
    finally:
        os.close(descriptor)
        path.unlink()
    return sorted(spent)[repeats // 2] * 1e3
