"""What one entry of a journal costs that is only replayed, in µs: `python -m bench.replay [--entries 10000]`.

A flow is visited whose journal has all of its steps, without a database: what is timed is the code between them,
the tools and the journal, and apart from it the loading of the rows. The lowest of several rounds counts: others only
add.
"""

from __future__ import annotations

import argparse
import cProfile
import datetime as dt
import gc
import json
import os
import pstats
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--profile", action="store_true", help="where the time goes, of steps that are run")
    given = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.setdefault("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:1/0")
    sys.path.insert(0, str(Path(__file__).parent.parent / "handlers"))
    os.environ.setdefault("HEADRACE_SECRET_KEY", "of a bench that signs nothing")
    import django  # noqa: PLC0415

    django.setup()
    from bench.replay import flows  # noqa: PLC0415

    if given.profile:
        flows.set_count(given.entries)
        profiler = cProfile.Profile()
        profiler.runcall(visit(flows.runs, given.entries))
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
        return 0
    found = {
        name: lowest(flow, given.entries)
        for name, flow in (("step.run", flows.runs), ("step.run with options", flows.options),
                           ("step.sleep", flows.sleeps), ("step.run, async", flows.async_runs),
                           ("200 in step.parallel", flows.parallel), ("200 in asyncio.gather", flows.gathers))
    }  # fmt: skip
    for name, micros in found.items():
        print(f"{name:24} {micros:6.2f} µs an entry of {given.entries:,}")
    print(json.dumps({name: round(micros, 2) for name, micros in found.items()}))
    return 0


def lowest(flow: Any, entries: int) -> float:
    """µs an entry, of the quickest round."""
    from bench.replay import flows  # noqa: PLC0415

    flows.set_count(entries)
    took = []
    for _ in range(ROUNDS):
        once = visit(flow, entries)
        gc.collect()
        began = time.perf_counter()
        once()
        took.append(time.perf_counter() - began)
    return min(took) / entries * 1e6


def visit(flow: Any, entries: int) -> Callable[[], object]:
    """One visit of the flow, with a journal of so many steps that have completed."""
    import structlog  # noqa: PLC0415

    from bench.replay import flows  # noqa: PLC0415
    from workflows.engine.pipeline import perform  # noqa: PLC0415
    from workflows.engine.pipeline.perform import Visit  # noqa: PLC0415
    from workflows.functions.flows import MAIN  # noqa: PLC0415
    from workflows.functions.journal import Journal  # noqa: PLC0415
    from workflows.functions.replay import check  # noqa: PLC0415
    from workflows.functions.visits import FunctionRun  # noqa: PLC0415
    from workflows.steps.context import AttemptLog  # noqa: PLC0415
    from workflows.steps.masking import Secrets  # noqa: PLC0415

    versions = check.Versions()
    version = versions.of(flow)
    claim = check.function_claim(version, uuid.uuid4(), uuid.uuid4(), attempt=1)
    facts = {"id": str(uuid.uuid4()), "name": "bench", "data": {}, "user": {}, "ts": 0}
    now = dt.datetime.now(dt.UTC)
    scope = {"event": facts, "run": {"createdAt": now.isoformat()}}
    made = Visit(claim=claim, flow=version, step=version.steps[MAIN], scope=scope)
    context = perform.context_of(made, version.steps[MAIN].constant, Secrets())  # type: ignore[arg-type]
    context.log = AttemptLog(structlog.get_logger, context.secrets, is_muted=True)
    type_ = "delay" if flow is flows.sleeps else "python"
    run = FunctionRun(
        flow=flow,
        context=context,
        journal=Journal([flows.row(number, type_, now) for number in range(entries)], began_at=now),
        is_same_code=True,
        function_id=claim.id,
        around=check.Nothing(version, versions, {}, now),
    )
    return lambda: check.drive(run)


if __name__ == "__main__":
    raise SystemExit(main())
