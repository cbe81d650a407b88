"""What the I/O worker holds, as a driver sees it: just started, and after long runs of a flow in Python."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bench.drivers.processes import pss_mib
from bench.drivers.site import Site
from workflows import services
from workflows.models import Run

REST_S = 5.0


def long_runs(
    site: Site, *, runs: int, steps: int, environment: dict[str, str], traces: bool = False
) -> list[dict[str, Any]]:
    """Looks at a worker that has just started: before and after each of so many runs of so many steps, one at a time.

    The last look comes after the C library was told to give back what it does not use.
    """
    site.start_worker(**environment)
    found = [_look(site, traces=traces)]
    if traces:
        _look(site, traces=True)
    for _ in range(runs):
        services.trigger(site.organization, "long-python", {"steps": steps})
        site.await_idle(0.5)
        found.append(_look(site, traces=traces))
    found.append(_look(site, trims=True))
    return found


def idle_worker(site: Site, *, seconds: float, environment: dict[str, str], traces: bool = False) -> dict[str, Any]:
    """MiB of a worker, as production starts it, that has performed nothing (`pss`: its own and its share of what others
    have too; `private`: its own). `traces`: what it holds by the files that have allocated it, instead."""
    if "worker-io" in site.processes.running:
        site.processes.stop("worker-io")
    command = site.commands["worker-io"].replace("-m celery", "-m headrace")
    more = {"PYTHONTRACEMALLOC": "1"} if traces else {}
    process = site.processes.start("worker-io", command, **environment, **more)
    site.await_worker()
    if traces:
        return {"files": _output(site, {"files": True})}
    time.sleep(seconds)
    return {"pss": pss_mib(process.pid), **_private(process.pid)}


def _private(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith("kB")}
    return {"rss": sizes["Rss"], "private": sizes["Private_Dirty"] + sizes["Private_Clean"]}


def _look(site: Site, *, trims: bool = False, traces: bool = False) -> dict[str, Any]:
    time.sleep(REST_S)  # what the worker keeps for a moment is gone
    found: dict[str, Any] = _output(site, {"trims": trims, "traces": traces})
    return {**found, "pss": pss_mib(site.processes.running["worker-io"].pid)}


def _output(site: Site, data: dict[str, Any]) -> Any:
    run_id = services.trigger(site.organization, "look-python", data).run_ids[0]
    site.await_idle()
    run = Run.objects.get(id=run_id)
    if run.status != Run.Status.COMPLETED:
        raise RuntimeError(f"the look at the worker has failed: {run.error}")
    return run.output
