"""One run at a time: timed by its own rows and by the datagrams of its steps. Nobody polls the database meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.drivers.site import Site
from workflows import services, this_process
from workflows.engine.pipeline import admit
from workflows.engine.state import flow_cache

QUIET_S = 0.06
"""How long a run of no-ops is left alone before its row is read: nothing tells its end."""


def verbs(site: Site) -> dict[str, Callable[..., Any]]:
    """What the driver can be asked for, by name."""
    return {verb.__name__: partial(verb, site) for verb in (lone, fan_out, cold_fan_out, long, gather, profile)}


def lone(site: Site, *, count: int, pause_ms: float, kind: str = "effects") -> list[dict[str, float]]:
    """So many runs of five steps, one after the other, each alone."""
    return [_alone(site, f"five-{kind}", "" if kind == "noops" else "s4", pause_ms) for _ in range(count)]


def fan_out(site: Site, *, count: int, pause_ms: float, width: int, kind: str = "effects") -> list[dict[str, float]]:
    """So many runs of parallel steps and a join, one after the other."""
    return [_alone(site, f"wide-{kind}", "" if kind == "noops" else "join", pause_ms) for _ in range(count)]


def long(site: Site, *, steps: int, flow: str = "long-python") -> dict[str, float]:
    """Milliseconds of a run in Python of so many steps: in one visit, or (`replayed-python`) in a visit for each."""
    return _alone(site, flow, "last", 0, {"steps": steps})


def gather(site: Site, *, count: int, width: int, flow: str) -> list[dict[str, float]]:
    """So many runs in Python of a few parallel steps (`row-python`: one after the other) and a join, each alone."""
    return [_alone(site, flow, "join", 20, {"width": width}) for _ in range(count)]


def cold_fan_out(
    site: Site, *, count: int, pause_ms: float, width: int, kind: str = "effects"
) -> list[dict[str, float]]:
    """The same with a worker that has just started and has done other work only, and a caller that knows no version."""
    site.start_worker()
    for part in (flow_cache.Versions, admit.KnownLimits, getattr(admit, "LimitsOfFacts", admit.KnownLimits)):
        this_process.forget(part)
    return fan_out(site, count=count, pause_ms=pause_ms, width=width, kind=kind)


def profile(site: Site, *, count: int, kind: str = "effects") -> list[dict[str, Any]]:
    """So many lone runs, each with what the processes have written into the trace (`bench.profile`)."""
    trace, found = Path(os.environ["BENCH_TRACE"]), []
    for _ in range(count):
        time.sleep(0.05)
        os.truncate(trace, 0)
        called = time.time()
        spent = _alone(site, f"five-{kind}", "" if kind == "noops" else "s4", 0)
        ended = called + spent["call_ms"] / 1e3
        found.append({"called": called, "ended": ended, "trace": trace.read_text()})
    return found


def _alone(site: Site, flow: str, last: str, pause_ms: float, data: Any = None) -> dict[str, float]:
    """Milliseconds: `own` from created to ended, `call` from the call to ended, `first_step` from the call to the first
    step's start, `trigger` of the call itself."""
    time.sleep(pause_ms / 1e3)
    site.effects.clear()
    called = time.time()
    run_id = str(services.trigger(site.organization, flow, data).run_ids[0])
    answered = time.time()
    if last:
        first = min(site.effects.until(run_id, last).values())
        time.sleep(0.02)
        created, ended = site.times_of(run_id)
    else:
        time.sleep(QUIET_S)
        created, ended = site.times_of(run_id)
        first = site.first_start(run_id)
    found: dict[str, Any] = {
        "own_ms": ended - created,
        "call_ms": ended - called,
        "first_step_ms": first - called,
        "trigger_ms": answered - called,
    }
    return {name: spent * 1e3 for name, spent in found.items()}
