"""A long run at a share of what the machine can do, while old runs are deleted: `python -m bench.soak`."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import report, rounds, variants

SHOWN = (
    "minute", "ended_per_s", "live_runs", "old_runs", "worker_mib", "in_use_mib", "blocks", "postgres_mib", "store_mib",
    "store_keys", "connections", "dead_tuples", "tables_mib", "worker_cpu",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--share", type=float, default=0.7, help="of the runs a second that it can do at most")
    parser.add_argument("--old-runs", type=int, default=200_000, help="to be deleted meanwhile")
    parser.add_argument("--sample", type=float, default=60.0, help="seconds between samples")
    parser.add_argument("--var", type=Path, default=variants.ROOT / "var" / "bench")
    parser.add_argument("--out", type=Path, default=variants.ROOT / "var" / "bench-soak.json")
    options = parser.parse_args()
    contender = variants.start("soak", variants.Places(var=options.var))
    try:
        without = contender.do("soak_capacity")
        rounds.to_stderr(f"capacity: {without:,.0f} runs of five steps a second")
        old = contender.do("soak_old_runs", runs=options.old_runs, within_s=3_600)
        rounds.to_stderr(f"{old:,} runs are old")
        beside = contender.do("soak_capacity")
        rounds.to_stderr(f"capacity while they are deleted: {beside:,.0f} ({beside / without:.2f} of before)")
        samples = contender.do(
            "soak",
            runs_per_s=without * options.share,
            seconds=options.minutes * 60,
            sample_s=options.sample,
            within_s=options.minutes * 60 + 600,
        )
    finally:
        contender.end()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    found = {"capacity": without, "capacity_beside_deletion": beside, "share": options.share, "samples": samples}
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(report.as_text(table(samples)))
    sys.stdout.write("\n".join(("", "objects, from the middle to the end:", *grown_types(samples), "")))


def table(samples: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row for each sample; below them how much the last third holds by the second one: 1.00 is flat."""
    rows = [[name.replace("_", " ") for name in SHOWN]]
    rows += [[report.number(sample[name]) for name in SHOWN] for sample in samples]
    third = len(samples) // 3
    if third:
        middle, last = samples[third : 2 * third], samples[-third:]
        rows.append(["last by middle third", *(_ratio(middle, last, name) for name in SHOWN[1:])])
    return rows


def grown_types(samples: Sequence[dict[str, Any]], most: int = 15) -> list[str]:
    """The types that the worker has more objects of at the end than in the middle."""
    before, after = samples[len(samples) // 2]["types"], samples[-1]["types"]
    grown = {name: count - before.get(name, 0) for name, count in after.items()}
    ordered = sorted(grown.items(), key=lambda each: -each[1])
    return [f"{more:+} {name}" for name, more in ordered[:most] if more > 0]


def _ratio(middle: Sequence[dict[str, Any]], last: Sequence[dict[str, Any]], name: str) -> str:
    one, other = (statistics.median(sample[name] for sample in part) for part in (middle, last))
    return f"{other / one:.2f}" if one else "–"


if __name__ == "__main__":
    main()
