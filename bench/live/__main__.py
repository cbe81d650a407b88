"""How live the pages are, and what that costs: milliseconds from the record of a change until a browser shows it, and
the web's share of a core for two hundred streams while runs end. `python -m bench.live [--only pages|streams]`."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from bench import report, variants

TITLES = {
    "row": "a run in the list of runs", "line": "a step in the list of a run", "bar": "its bar in the waterfall",
    "idle": "without streams", "streams": "with them", "ends": "and while runs end",
    "lists": "and with as many lists of runs, fetched as browsers do",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__)
    parser.add_argument("--only", choices=("pages", "streams"))
    parser.add_argument("--changes", type=int, default=20, help="steps, and runs, that a browser is to show")
    parser.add_argument("--runs-per-s", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--var", type=Path, default=variants.ROOT / "var" / "bench")
    parser.add_argument("--out", type=Path, default=variants.ROOT / "var" / "bench-live.json")
    options = parser.parse_args()
    found: dict[str, object] = {}
    contender = variants.start("live", variants.Places(var=options.var))
    try:
        if options.only != "streams":
            found["pages"] = pages = contender.do("live_pages", count=options.changes)
            sys.stdout.write(report.as_text(pages_table(pages)))
        if options.only != "pages":
            found["streams"] = used = contender.do(
                "live_streams", runs_per_s=options.runs_per_s, seconds=options.seconds
            )
            sys.stdout.write(report.as_text(streams_table(used)))
    finally:
        contender.end()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")


def pages_table(found: dict[str, list[float]]) -> list[list[str]]:
    """Milliseconds from the record until it is seen."""
    rows = [["ms from the record of a change", "median", "most", "of"]]
    for what, values in found.items():
        rows.append([TITLES[what], report.number(statistics.median(values)), report.number(max(values)),
                     str(len(values))])  # fmt: skip
    return rows


def streams_table(found: dict[str, float]) -> list[list[str]]:
    """The web's share of a core."""
    rows = [[f"the web, {found['count']:.0f} streams", "% of a core"]]
    rows += [[TITLES[what], report.number(found[what])] for what in ("idle", "streams", "ends", "lists")]
    rows.append(["ends of runs a second, each told to half of the readers", report.number(found["told_per_s"])])
    return [*rows, ["fetches of lists a second", report.number(found["fetched_per_s"])]]


if __name__ == "__main__":
    main()
