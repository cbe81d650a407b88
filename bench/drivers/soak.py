"""Runs at a steady pace for a long time, while old ones are deleted: what grows is seen in the samples."""

from __future__ import annotations

import os
import time
from typing import Any

import redis
from django.db import connection

from bench.drivers.processes import cpu_s, pss_mib
from bench.drivers.site import Site
from bench.volume import filling, templates
from devtools import embedded
from workflows import services
from workflows.models import RetentionState, Run

FLOW = "five-effects"
STEPS = 5
TURN_S = 0.25
TRY_RUNS = 1_500
DELETES_WITHIN_S, LOOK_WITHIN_S = 120.0, 60.0
HOT = ("headrace_workflows_run", "headrace_workflows_steprun", "headrace_workflows_attempt")
OLD = "created_at < now() - interval '31 days'"


def old_runs(site: Site, *, runs: int) -> int:
    """Insert runs that ended before every default of the retention, and wait until the leader deletes them. Returns how
    many there were. Raises RuntimeError where it does not."""
    before = filling.Span(newest_days=32, oldest_days=60)
    filling.fill(templates.execute(site.organization, STEPS, waits=False), runs, lambda _: None, before)
    made, until = _count_old(), time.monotonic() + DELETES_WITHIN_S
    RetentionState.objects.update(next_at=None)
    while _count_old() == made:
        if time.monotonic() > until:
            raise RuntimeError("nothing is deleted; see the log of the worker")
        time.sleep(TURN_S)
    return made


def capacity(site: Site, *, repeats: int = 3) -> float:
    """Runs of five steps a second, the best of some tries with everything at once."""
    best = 0.0
    for _ in range(repeats):
        began = time.time()
        services.trigger_many(site.organization, FLOW, [{}] * TRY_RUNS)
        site.await_idle()
        best = max(best, TRY_RUNS / (site.last_end(began) - began))
    return best


def soak(site: Site, *, runs_per_s: float, seconds: float, sample_s: float) -> list[dict[str, Any]]:
    """Trigger at this pace, and sample each `sample_s`. Returns the samples."""
    began = time.monotonic()
    triggered, samples = 0, []
    last = _Reading(site)
    while (passed := time.monotonic() - began) < seconds:
        due = int(passed * runs_per_s) - triggered
        if due:
            services.trigger_many(site.organization, FLOW, [{}] * due)
            triggered += due
        if time.monotonic() - last.at >= sample_s:
            now = _Reading(site)
            now.values |= _look(site)
            samples.append({"minute": passed / 60, **now.beside(last)})
            last = now
        time.sleep(TURN_S)
    return samples


def _look(site: Site) -> dict[str, Any]:
    """What the worker has in use, in MiB and in small blocks of Python's own, after a collection; and its objects by
    type."""
    run_id = services.trigger(site.organization, "look-python", {"trims": False, "traces": False}).run_ids[0]
    until = time.monotonic() + LOOK_WITHIN_S
    while (run := Run.objects.get(id=run_id)).is_live:
        if time.monotonic() > until:
            raise RuntimeError("the worker does not say what it holds; see its log")
        time.sleep(0.05)
    return {"in_use_mib": run.output["in_use"], "blocks": run.output["blocks"], "types": run.output["types"]}


def _count_old() -> int:
    return int(_row(f"SELECT count(*) FROM headrace_workflows_run WHERE {OLD}")[0])


class _Reading:
    """What the processes and both services hold at a moment."""

    def __init__(self, site: Site) -> None:
        self.at = time.monotonic()
        store = redis.Redis.from_url(os.environ["REDIS_URL"])
        services_ = embedded.current()
        paths = services_.paths if services_ is not None else None
        postgres = embedded.postmaster_pid(paths) if paths else None
        worker = site.processes.running["worker-io"].pid
        self.cpu_s = cpu_s(worker)
        self.ended, self.live = _row(
            "SELECT count(*) FILTER (WHERE ended_at > now() - interval '10 s'), "
            "count(*) FILTER (WHERE status IN ('queued', 'running')) "
            "FROM headrace_workflows_run WHERE org_id = %s AND created_at > now() - interval '60 s'",
            site.organization.id,
        )
        self.dead, self.bytes = _row(
            "SELECT sum(n_dead_tup), sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables "
            "WHERE relname = ANY (%s)",
            list(HOT),
        )
        self.values = {
            "worker_mib": pss_mib(worker),
            "postgres_mib": pss_mib(postgres) if postgres else 0.0,
            "store_mib": store.info("memory")["used_memory"] / 2**20,
            "store_keys": float(store.dbsize()),
            "connections": float(_row("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")[0]),
            "dead_tuples": float(self.dead),
            "tables_mib": float(self.bytes) / 2**20,
            "old_runs": float(_count_old()),
            "live_runs": float(self.live),
            "ended_per_s": float(self.ended) / 10,
        }

    def beside(self, before: _Reading) -> dict[str, float]:
        return {**self.values, "worker_cpu": (self.cpu_s - before.cpu_s) / (self.at - before.at)}


def _row(sql: str, *parameters: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()
