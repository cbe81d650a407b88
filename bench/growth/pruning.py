"""What deleting costs: rows a second without a pace, and what the hot path does beside it at the shipped pace.

`python -m bench.growth.pruning` fills a database by SQL with expired runs of five steps, deletes a part of them as fast
as it can, then runs the bench in pairs: alone, and beside a pass.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bench.paired import estimate, ratios

OLD_DAYS, OLDEST_DAYS = 40, 70


def fill(site: Any, *, runs: int) -> dict[str, float]:
    """So many expired runs of five steps, in an organization of their own: copies of one that was executed."""
    from bench.volume import filling  # noqa: PLC0415  (the driver sets the environment first)
    from bench.volume.templates import Template  # noqa: PLC0415
    from workflows import services  # noqa: PLC0415
    from workflows.definitions.validate import parse  # noqa: PLC0415
    from workflows.models import Organization, Run  # noqa: PLC0415

    others, _ = Organization.objects.get_or_create(slug="bench-expired", defaults={"name": "Expired"})
    steps = [{"id": f"s{number}", "type": "noop"} for number in range(5)]
    services.apply_definition(others, parse({"flow": "expired", "steps": steps}))
    run_id = services.trigger(others, "expired").run_ids[0]
    while not Run.objects.filter(id=run_id).exclude(ended_at=None).exists():
        time.sleep(0.05)
    began = time.monotonic()
    span = filling.Span(newest_days=OLD_DAYS, oldest_days=OLDEST_DAYS)
    filling.fill([Template(run_id, 1.0)], runs, lambda _: None, span)
    return {"runs": runs, "seconds": time.monotonic() - began}


def _passes(*, per_s: int, until: threading.Event) -> dict[str, float]:
    """Delete at a pace until the event is set, or all is gone. Returns rows and seconds."""
    from django.db import connections  # noqa: PLC0415
    from django.utils import timezone  # noqa: PLC0415

    from workflows.engine.retention.pacing import Pace  # noqa: PLC0415
    from workflows.engine.retention.walking import Walk, Wanted  # noqa: PLC0415
    from workflows.models import Organization  # noqa: PLC0415

    org = Organization.objects.get(slug="bench-expired")
    pace, rows, began = Pace(per_s), 0, time.monotonic()
    try:
        for piece in Walk(Wanted(org_ids=[org.id], subjects=["completed"]), now=timezone.now()).pieces():
            rows += sum(piece.deleted.values())
            pace.spend(piece.cost)
            while (pause_s := pace.seconds_until()) > 0 and not until.is_set():
                time.sleep(min(pause_s, 0.25))
            if until.is_set():
                break
    finally:
        connections.close_all()
    return {"rows": rows, "seconds": time.monotonic() - began}


def as_fast_as_it_can(_: Any, *, seconds: float) -> dict[str, float]:
    """Rows a second without a pace, for so long."""
    until = threading.Event()
    timer = threading.Timer(seconds, until.set)
    timer.start()
    done = _passes(per_s=10_000_000, until=until)
    timer.cancel()
    return {**done, "rows_per_s": done["rows"] / done["seconds"]}


def beside(site: Any, *, runs: int, per_s: int) -> dict[str, float]:
    """Steps a second of runs of five steps: alone (`per_s` 0), or beside a pass."""
    from bench.drivers import many  # noqa: PLC0415

    if not per_s:
        return many.chain(site, runs=runs)
    until, done = threading.Event(), {}
    thread = threading.Thread(target=lambda: done.update(_passes(per_s=per_s, until=until)))
    thread.start()
    try:
        measured = many.chain(site, runs=runs)
    finally:
        until.set()
        thread.join()
    return {**measured, "deleted_per_s": done["rows"] / done["seconds"]}


def main() -> None:
    from bench import variants  # noqa: PLC0415  (the driver imports this module without it)

    parser = argparse.ArgumentParser(prog="python -m bench.growth.pruning", description=__doc__)
    parser.add_argument("--expired", type=int, default=60_000, help="runs of five steps")
    parser.add_argument("--runs", type=int, default=400, help="of each measurement")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--pace", type=int, default=2_000)
    parser.add_argument("--fast", type=float, default=8.0, help="seconds without a pace")
    parser.add_argument("--var", type=Path, default=variants.ROOT / "var" / "bench")
    options = parser.parse_args()
    contender = variants.start("growth_expired", variants.Places(var=options.var))
    try:
        filled = contender.do("fill_expired", runs=options.expired)
        fast = contender.do("prune_fast", seconds=options.fast)
        alone: list[float] = []
        besides: list[float] = []
        deleted: list[float] = []
        for number in range(options.pairs):
            for per_s in (0, options.pace) if number % 2 == 0 else (options.pace, 0):
                found = contender.do("prune_beside", runs=options.runs, per_s=per_s)
                (besides if per_s else alone).append(found["steps_per_s"])
                deleted += [found["deleted_per_s"]] if per_s else []
    finally:
        contender.end()
    ratio = estimate(ratios(besides, alone))
    json.dump(
        {"filled": filled, "fast": fast, "alone_steps_per_s": alone, "beside_steps_per_s": besides,
         "deleted_per_s": deleted, "ratio": [ratio.low, ratio.median, ratio.high]}, sys.stdout, indent=1,
    )  # fmt: skip


if __name__ == "__main__":
    main()
