"""What an I/O worker holds: just started, and after each of several long runs of a flow in Python, one at a time.

`python -m bench.memory --runs 10 --steps 10000`; `--trace` says which lines have allocated what stays (slow), `--idle`
looks at a worker that has done nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench import report, variants

SHOWN = ("rss", "collected", "trimmed", "in_use", "free", "blocks", "pss")
RUN_WITHIN_S = 300


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10_000, help="of each run; 10,000 at most")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("--set", nargs="*", default=[""], help="'NAME=VALUE …' for the worker; with --idle several")
    parser.add_argument("--var", type=Path, default=variants.ROOT / "var" / "bench")
    parser.add_argument("--out", type=Path, default=variants.ROOT / "var" / "bench-memory.json")
    options = parser.parse_args()
    contender = variants.start("memory", variants.Places(var=options.var))
    try:
        if options.idle:
            for words in options.set:
                environment = _environment(words)
                found = contender.do("idle_worker", seconds=20, environment=environment, traces=options.trace)
                sys.stdout.write(json.dumps({"set": words, **found}, indent=1) + "\n")
            return
        within_s = (options.runs + 1) * RUN_WITHIN_S
        looks = contender.do(
            "long_runs",
            runs=options.runs,
            steps=options.steps,
            environment=_environment(options.set[0]),
            traces=options.trace,
            within_s=within_s,
        )
    finally:
        contender.end()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(looks, indent=1) + "\n")
    sys.stdout.write(report.as_text(table(looks)))
    sys.stdout.write("\n".join(("", "objects, from the second run to the last:", *grown_types(looks), "")))
    for line in looks[-2].get("grown", ()):
        sys.stdout.write(line + "\n")


def _environment(words: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words.split())


def table(looks: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each look: MiB, and small blocks of Python's own."""
    rows = [["after", *SHOWN]]
    last = len(looks) - 1
    for number, look in enumerate(looks):
        name = "the start" if number == 0 else "trimming" if number == last else f"run {number}"
        rows.append([name, *(report.number(look[each]) if each in look else "" for each in SHOWN)])
    return rows


def grown_types(looks: list[dict[str, Any]], most: int = 20) -> list[str]:
    """The types that have more objects at the last look than after the second run."""
    if len(looks) < 4:  # the start, two runs, the trimming
        return []
    before, after = looks[2]["types"], looks[-1]["types"]
    grown = {name: count - before.get(name, 0) for name, count in after.items()}
    ordered = sorted(grown.items(), key=lambda each: -each[1])
    return [f"{more:+} {name}" for name, more in ordered[:most] if more > 0]


if __name__ == "__main__":
    main()
