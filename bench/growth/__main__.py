"""Two databases beside each other, one with a thousand stored runs and one with a million: buffers of each statement,
and the figures of the bench in pairs. `--stored 20000 --waiting 2000` is a short look."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench import report, rounds, variants
from bench.contender import Contender
from bench.experiments import BY_NAME
from bench.paired import estimate, ratios

SMALL = 1_000
BUFFERS_AT_MOST = 1.5
FIGURES_AT_MOST = 1.15
FIGURES = (("lone", "own_ms"), ("chain", "steps_per_s"), ("many", "executed_per_s"), ("single_1", "stored_per_s"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-growth", description=__doc__)
    parser.add_argument("--stored", type=int, default=1_000_000)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--var", type=Path, default=variants.ROOT / "var" / "bench")
    parser.add_argument("--out", type=Path, default=variants.ROOT / "var" / "bench-growth.json")
    parser.add_argument("--only-fill", action="store_true", help="fill the databases, which takes minutes, and end")
    parser.add_argument("--page", type=Path, help="a page whose tables are filled")
    options = parser.parse_args()
    sizes = {"small": (SMALL, SMALL // 10), "large": (options.stored, options.waiting)}
    running: dict[str, Contender] = {}
    try:
        for name, (stored, waiting) in sizes.items():
            running[name] = variants.start(f"growth_{name}", variants.Places(var=options.var))
            rounds.to_stderr(f"{name}: {running[name].do('fill', stored=stored, waiting=waiting)}")
            running[name].freeze()
        if options.only_fill:
            return
        buffers = {name: _buffers(contender) for name, contender in running.items()}
        figures = _figures(running, options.pairs)
    finally:
        for contender in running.values():
            contender.end()
    tables = {"buffers": buffers_table(buffers["small"], buffers["large"]), "figures": figures_table(figures)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"sizes": sizes, "buffers": buffers, "figures": figures}, indent=1) + "\n")
    sys.stdout.write("\n".join(report.as_text(rows) for rows in tables.values()))
    if options.page:
        report.put(options.page, {f"growth-{name}": report.as_markdown(rows) for name, rows in tables.items()})


def _buffers(contender: Contender) -> dict[str, float]:
    contender.thaw()
    try:
        found: dict[str, float] = contender.do("buffers", runs=20, repeats=5)
        return found
    finally:
        contender.freeze()


def _figures(running: dict[str, Contender], pairs: int) -> dict[str, dict[str, list[float]]]:
    """By size and figure: a value for each pair."""
    for contender in running.values():
        contender.thaw()
        contender.do("work")
        contender.freeze()
    found: dict[str, dict[str, list[float]]] = {name: {} for name in running}
    for number in range(pairs):
        rounds.to_stderr(f"figures: pair {number + 1} of {pairs}")
        for name in list(running)[:: 1 if number % 2 == 0 else -1]:
            measured = rounds.Measured()
            for experiment, metric in FIGURES:
                rounds.add(measured, experiment, rounds.ask(BY_NAME[experiment], running[name], "headrace"))
                found[name].setdefault(f"{experiment} {metric}", []).append(measured.values[experiment][metric][-1])
    return found


def buffers_table(small: dict[str, float], large: dict[str, float]) -> list[list[str]]:
    """Statement by statement; what is beyond the bound is marked."""
    rows = [["statement", "buffers, small", "buffers, large", "ratio"]]
    for name in small.keys() & large.keys():
        ratio = large[name] / max(small[name], 1.0)
        mark = " !" if ratio > BUFFERS_AT_MOST else ""
        rows.append([name, f"{small[name]:,.0f}", f"{large[name]:,.0f}", f"{ratio:.2f}{mark}"])
    return [rows[0], *sorted(rows[1:])]


def figures_table(figures: dict[str, dict[str, list[float]]]) -> list[list[str]]:
    """The figures of both, and the ratio of each pair: above 1 the large one has the higher figure."""
    rows = [["figure", "small", "large", "large by small"]]
    for name, values in figures["small"].items():
        both = figures["large"][name]
        compared = report.spread(estimate(ratios(both, values)))
        rows.append([name.replace("_", " "), report.spread(estimate(values)), report.spread(estimate(both)), compared])
    return rows


if __name__ == "__main__":
    main()
