"""What was measured, as tables: in the terminal, and in the pages that have a place for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.goals import GOALS, Results
from bench.paired import Estimate, estimate, ratios

_PLACE = re.compile(r"(<!-- bench: (?P<what>[^>]+?) -->\n).*?(<!-- /bench -->)", re.DOTALL)
TITLES = {
    "own_ms": "created to ended, by its rows, ms",
    "first own_ms": "the first of a series: created to ended, by its rows, ms",
    "call_ms": "call to ended, ms",
    "first call_ms": "the first of a series: call to ended, ms",
    "client_ms": "call until the client knows, ms",
    "first client_ms": "the first of a series: call until the client knows, ms",
    "first_step_ms": "call to the first step, ms",
    "first first_step_ms": "the first of a series: call to the first step, ms",
    "trigger_ms": "the call itself, ms",
    "first trigger_ms": "the first of a series: the call itself, ms",
    "stored_per_s": "stored, runs/s",
    "executed_per_s": "executed to the end, runs/s",
    "steps_per_s": "executed to the end, steps/s",
    "per_s": "requests/s",
    "items_per_s": "items/s",
    "cpu_us": "CPU, µs a run",
    "cpu_us_without_looks": "CPU without the looks, µs a run",
    "ratio": "with the looks to without them, the median of pairs",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
}
NAMES = {
    "headrace": "Headrace", "no_limits": "without limits", "old": "the other checkout", "bullmq": "BullMQ",
    "bullmq_aof": "BullMQ, AOF always", "restate": "Restate", "celery": "Celery",
    "celery_django": "Celery, Django results",
    "delayed": "1 ms a round trip", "rabbitmq": "over RabbitMQ", "counted": "Headrace", "services": "Headrace",
    "events_off": "told to nobody", "flower": "with a Flower", "no_continuation": "Headrace",
    "no_sealing": "without these looks", "by_hand": "Headrace",
}  # fmt: skip


def results_of(everything: Mapping[str, Any]) -> Results:
    """By experiment, contender and metric."""
    return {name: entry["values"] for name, entry in everything.get("experiments", {}).items()}


def number(value: float) -> str:
    """With as many digits as say something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(found: Estimate) -> str:
    """`median (low–high)`; a `?` where there were too few values for 95 %."""
    if found.count == 1:
        return number(found.median)
    return f"{number(found.median)} ({number(found.low)}–{number(found.high)}{'' if found.is_sure else ' ?'})"


def table_of(entry: Mapping[str, Any]) -> list[list[str]]:
    """A row for each metric, a column for each contender, and the ratio to the first one's below its own."""
    values: Mapping[str, Mapping[str, Sequence[float]]] = entry["values"]
    if not values:
        return []
    first, *others = values
    rows = [["", *(NAMES.get(name, name) for name in values)]]
    for metric in values[first]:
        cells = [spread(estimate(of[metric])) if of.get(metric) else "" for of in values.values()]
        rows.append([TITLES.get(metric, metric.replace("_", " ")), *cells])
        compared = [ratios(values[first][metric], values[name].get(metric, ())) for name in others]
        if any(compared):
            rows.append(["– ratio", "", *(spread(estimate(each)) if each else "" for each in compared)])
    return rows


def goals_table(results: Results) -> list[list[str]]:
    """Each goal, what was measured, and whether it holds for the whole interval."""
    rows = [["goal", "bound", "measured (95 %)", ""]]
    for goal in GOALS:
        found = goal.found(results)
        rows.append([goal.title, goal.bound, spread(found) if found else "", str(goal.verdict(found))])
    return rows


SHORT = (
    ("one run of five steps, ms", "lone", "own_ms"),
    ("from the call to the first step, ms", "lone", "first_step_ms"),
    ("200 parallel steps and a join, ms", "fan_out", "own_ms"),
    ("500 runs of five steps, steps/s", "chain", "steps_per_s"),
    ("2,000 runs of one step, runs/s", "many", "executed_per_s"),
)
OF_SHORT = ("headrace", "bullmq", "restate", "celery")


def short_table(results: Results) -> list[list[str]]:
    """The medians that a reader asks for first, of four systems."""
    rows = [["", *(NAMES[name] for name in OF_SHORT)]]
    for title, experiment, metric in SHORT:
        values = [results.get(experiment, {}).get(name, {}).get(metric, ()) for name in OF_SHORT]
        rows.append([title, *(number(estimate(each).median) if each else "" for each in values)])
    return rows


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(cell for cell in line)} |\n" for line in lines)


def as_text(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


def conditions_of(entry: Mapping[str, Any]) -> str:
    """When, over how many rounds, and under which load of the machine."""
    notes: Sequence[Mapping[str, Any]] = entry.get("conditions", [])
    loads = [note["load"] for note in notes]
    rounds = min((len(each) for of in entry["values"].values() for each in of.values()), default=0)
    return f"{rounds} rounds, {notes[-1]['at']} UTC, load {min(loads)}–{max(loads)}" if notes else f"{rounds} rounds"


def show(everything: Mapping[str, Any], names: Sequence[str] = ()) -> str:
    """The whole report, or of these experiments, as text."""
    parts = []
    for name, entry in everything.get("experiments", {}).items():
        if names and name not in names:
            continue
        rows = table_of(entry)
        skipped = "".join(f"  skipped {who}: {why}\n" for who, why in entry["skipped"].items())
        parts.append(f"{entry['title']} [{name}; {conditions_of(entry)}]\n{as_text(rows) if rows else ''}{skipped}")
    if not names:
        parts.append("Goals\n" + as_text(goals_table(results_of(everything))))
    return "\n".join(parts)


def put(page: Path, tables: Mapping[str, str]) -> None:
    """Put tables into the places of a page that have their names, as they are."""

    def replaced(match: re.Match[str]) -> str:
        return f"{match[1]}\n{tables[match['what']]}\n{match[3]}" if match["what"] in tables else match[0]

    page.write_text(_PLACE.sub(replaced, page.read_text()))


def fill(page: Path, everything: Mapping[str, Any]) -> list[str]:
    """Fill the places of a page (`<!-- bench: lone fan_out -->` … `<!-- /bench -->`). Returns what was not measured."""
    missing: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        parts = []
        for name in match["what"].split():
            entry = everything.get("experiments", {}).get(name)
            if name == "short":
                parts.append(as_markdown(short_table(results_of(everything))))
            elif name == "goals":
                parts.append(as_markdown(goals_table(results_of(everything))))
            elif entry is None or not entry["values"]:
                missing.append(name)
            else:
                parts.append(f"**{entry['title']}** ({conditions_of(entry)})\n\n{as_markdown(table_of(entry))}")
        return f"{match[1]}\n{chr(10).join(parts)}\n{match[3]}" if parts else match[0]

    page.write_text(_PLACE.sub(replaced, page.read_text()))
    return missing
