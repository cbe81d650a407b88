"""`flows replay-check`: would this process's code fit the runs in flight?"""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError, CommandParser

from workflows.duration import parse_ms
from workflows.functions.replay import in_flight
from workflows.functions.replay.in_flight import Report, Shape
from workflows.management.output import HeadraceCommand, table

MAX_NAMED = 5
"""Runs of a shape that are named."""


def add_arguments(verb: CommandParser) -> None:
    """Of `flows replay-check`."""
    verb.add_argument("slugs", nargs="*", help="these flows only")
    verb.add_argument("--budget", type=_seconds, default=60.0, metavar="60s", help="spend so long at most")
    verb.add_argument(
        "--sample", type=_count, default=in_flight.SAMPLE, help="runs that are checked of those with the same steps"
    )


def _seconds(text: str) -> float:
    try:
        found = parse_ms(text) / 1000
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    if found <= 0:
        raise ArgumentTypeError("a budget is longer than nothing: 60s")
    return found


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1_000:
        raise ArgumentTypeError("a sample has 1 … 1000 runs")
    return int(text)


def run(command: HeadraceCommand, options: dict[str, Any]) -> None:
    """Check, and say what was found. Raises CommandError (exit code 1) where a run would break, or a shape of journal
    was left unchecked."""
    report = in_flight.check(
        command.organization(options), slugs=options["slugs"], budget_s=options["budget"], sample=options["sample"]
    )
    if options["as_json"]:
        command.print_json(_as_json(report))
    else:
        _print(command, report)
    broken = sum(shape.runs for shape in report.broken)
    if broken:
        raise CommandError(f"The code does not fit {broken} of the {report.runs} runs in flight.")
    if not report.is_complete:
        left = len(report.unchecked)
        raise CommandError(f"{left} shapes of journals are unchecked: the time was up. Give a longer --budget.")


def _print(command: HeadraceCommand, report: Report) -> None:
    if not report.runs:
        command.stdout.write("No run of a flow in Python is in flight.")
        return
    rows = table("flow", "shapes", "runs", "checked", "would break")
    for slug in dict.fromkeys(shape.flow for shape in report.shapes):
        shapes = [shape for shape in report.shapes if shape.flow == slug]
        runs, checked = sum(shape.runs for shape in shapes), sum(shape.checked for shape in shapes)
        broken = sum(shape.runs for shape in shapes if shape.broken)
        rows.add_row(slug, str(len(shapes)), str(runs), str(checked), str(broken))
    command.console.print(rows)
    for shape in report.broken:
        command.stdout.write(f"\n{shape.flow}: {shape.runs} runs like {_named(shape)}\n  {shape.broken[0].sentence}")
    command.stdout.write(f"\n{report.runs} runs in {report.seconds:.1f} s; no step was performed, nothing was written.")


def _named(shape: Shape) -> str:
    return ", ".join(str(verdict.run_id) for verdict in shape.broken[:MAX_NAMED])


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "ok": not report.broken and report.is_complete,
        "runs": report.runs,
        "complete": report.is_complete,
        "seconds": round(report.seconds, 3),
        "shapes": [
            {
                "flow": shape.flow,
                "runs": shape.runs,
                "checked": shape.checked,
                "broken": [
                    {"run": str(each.run_id), "fit": each.fit.value, "reason": each.sentence} for each in shape.broken
                ],
            }
            for shape in report.shapes
        ],
    }
