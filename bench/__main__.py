"""The benchmark: interleaved rounds, medians, ratios. Never a test: it measures, it does not judge."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ["HEADRACE_LOG_LEVEL"] = "WARNING"
# The shipped limits are in force, and so high that none blocks.
os.environ["HEADRACE_GLOBAL_CONCURRENCY"] = "1000000"
os.environ["HEADRACE_GLOBAL_RATE_LIMIT_EXECUTIONS"] = "1000000"
os.environ["HEADRACE_SIZE"] = "off"  # ten runs at once would measure themselves

from config import env
from devtools import embedded

embedded.use()
os.environ["BENCH_BROKER"] = os.environ["REDIS_URL"]

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from bench import edges, gate, monitors  # noqa: E402
from bench.contenders import Headrace, PlainCelery, Workers, count_costs  # noqa: E402
from throttling.environment import flow_control_is_on  # noqa: E402
from workflows import this_process  # noqa: E402

ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=env.BASE_DIR / "var" / "bench.json")
    parser.add_argument("--only-monitors", action="store_true", help="only what telling Flower of each step costs")
    options = parser.parse_args()
    call_command("migrate", verbosity=0, interactive=False)
    workers = Workers()
    try:
        headrace, plain = Headrace(), PlainCelery()
        workers.start_all()
        if options.only_monitors:
            sys.stdout.write(json.dumps(monitors.measure(headrace, workers, options.rounds), indent=2) + "\n")
            return
        report = measure(headrace, plain, workers, options.rounds)
        report["monitors"] = monitors.measure(headrace, workers, options.rounds)
        outside = edges.Edges()
        try:
            report["edges"] = edges.measure(outside, options.rounds)
        finally:
            outside.stop()
    finally:
        workers.stop()
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    show(report)
    sys.stdout.write(f"\nwritten to {options.out}\n")


Runs = dict[str, Callable[[], float]]


def measurements(headrace: Headrace, plain: PlainCelery) -> Runs:
    return {
        "w1_many": lambda: 2_000 / headrace.w1_many(2_000),
        "w1_single": lambda: 1_000 / headrace.w1_single(1_000),
        "w1_celery": lambda: 2_000 / plain.w1(2_000),
        "w2": lambda: 2_500 / headrace.w2(500),
        "w2_celery": lambda: 2_500 / plain.w2(500),
        "w2_celery_django": lambda: 500 / plain.w2_django(100),
        "w2_latency_ms": lambda: statistics.median(headrace.latency() for _ in range(20)) * 1e3,
        "w2_latency_celery_ms": lambda: statistics.median(plain.latency() for _ in range(20)) * 1e3,
        "w3_ms": lambda: headrace.w3() * 1e3,
        "w3_chord_ms": lambda: plain.w3(200) * 1e3,
        "w4_first_step_ms": lambda: statistics.median(headrace.first_step() for _ in range(20)) * 1e3,
        "hand_over_gap_ms": lambda: headrace.hand_over_gap_ms("queue", 200),
    }


def compared(headrace: Headrace) -> Runs:
    """The same work with and without limits, each in a fresh worker with so many slots that its queue does not bind."""
    return {
        "w1_many": lambda: 2_000 / headrace.w1_many(2_000),
        "w2": lambda: statistics.median(2_500 / headrace.w2(500) for _ in range(3)),
        "w2_latency_ms": lambda: statistics.median(headrace.latency() for _ in range(20)) * 1e3,
    }


def measure(headrace: Headrace, plain: PlainCelery, workers: Workers, rounds: int) -> dict[str, object]:
    """Every measurement once per round, all of them in turn, so that noise hits all alike."""
    every, both = measurements(headrace, plain), compared(headrace)
    memory = workers.memory_mib()
    raw: dict[str, list[float]] = {name: [] for name in every}
    for name in both:
        raw[f"{name}_limits"], raw[f"{name}_no_limits"] = [], []
    raw["chain_gap_ms"] = []
    for _ in range(2):
        headrace.warm_up()
        plain.warm_up()
    for number in range(rounds):
        sys.stderr.write(f"round {number + 1} of {rounds}\n")
        measure_once(headrace, workers, every, both, raw)
    return {"counts": count_costs(headrace), "memory_mib": memory, **summary(raw, rounds)}


def measure_once(headrace: Headrace, workers: Workers, every: Runs, both: Runs, raw: dict[str, list[float]]) -> None:
    """One round: adds a value to each list of `raw`."""
    for name, run in every.items():
        raw[name].append(run())
    for mode in ("on", "off"):
        with this_process.replaced(flow_control_is_on, mode == "on"):
            workers.swap_io(HEADRACE_FLOW_CONTROL=mode, HEADRACE_IO_SLOTS="1000")
            for _ in range(3):
                headrace.warm_up()
            for name, run in both.items():
                raw[f"{name}_{'limits' if mode == 'on' else 'no_limits'}"].append(run())
    with this_process.replaced(flow_control_is_on, False):
        workers.swap_io(HEADRACE_FLOW_CONTROL="off", HEADRACE_MAX_CONTINUED="0")
        headrace.warm_up()
        raw["chain_gap_ms"].append(headrace.hand_over_gap_ms("chain", 1))
    workers.swap_io()
    headrace.warm_up()


def summary(raw: dict[str, list[float]], rounds: int) -> dict[str, object]:
    """The ratios and medians of all rounds."""
    median = {name: statistics.median(values) for name, values in raw.items()}
    return {
        "ratios": {
            "w1_vs_celery": round(median["w1_many"] / median["w1_celery"], 2),
            "w1_single_vs_celery": round(median["w1_single"] / median["w1_celery"], 2),
            "w2_vs_celery": round(median["w2"] / median["w2_celery"], 2),
            "w2_latency_vs_celery": round(median["w2_latency_celery_ms"] / median["w2_latency_ms"], 2),
            "w2_vs_celery_django_results": round(median["w2"] / median["w2_celery_django"], 2),
            "w1_limits_vs_none": round(median["w1_many_limits"] / median["w1_many_no_limits"], 2),
            "w2_limits_vs_none": round(median["w2_limits"] / median["w2_no_limits"], 2),
            "hand_over_gap_vs_chain": round(median["hand_over_gap_ms"] / median["chain_gap_ms"], 2),
            "w3_vs_chord": round(median["w3_chord_ms"] / median["w3_ms"], 2),
        },
        "gate": gate.measure(),
        "medians": {
            name: {
                "median": round(median[name], 1),
                "min": round(min(values), 1),
                "max": round(max(values), 1),
                "all": [round(value) for value in values],
            }
            for name, values in raw.items()
        },
        "settings": {
            "celery": "prefork -c 2 per app, prefetch 4, no rate limits, no events, results read "
            "back by join; chain and chord with the Redis backend, chain with django-celery-results and "
            "CELERY_DB_REUSE_MAX=1000",
            "headrace": "one I/O worker (threads) as `up` starts it; global limits in force, so high that none blocks; "
            "*_limits, *_no_limits: fresh workers with 1,000 slots; chain_gap: flow control off, and no continuation",
            "postgres": "fsync and synchronous_commit on",
            "rounds": rounds,
        },
    }


def show(report: dict[str, object]) -> None:
    console = Console()
    medians: dict[str, dict[str, float]] = report["medians"]  # type: ignore[assignment]
    rows = Table("measurement", "median", "min", "max", box=None)
    for name, values in medians.items():
        rows.add_row(name, *(f"{values[key]:,.1f}" for key in ("median", "min", "max")))
    console.print(rows)
    calls = Table(
        "keys", "limits", "batch", "admit µs", "admits/s", "store CPU µs",
        "hand-over µs", "hand-overs/s", "store CPU µs",
        title="the gate, per step", box=None,
    )  # fmt: skip
    rows_of_gate: list[dict[str, float]] = report["gate"]  # type: ignore[assignment]
    for row in rows_of_gate:
        calls.add_row(*(f"{value:,.0f}" for value in row.values()))
    console.print(calls)
    for title in ("ratios", "monitors", "edges", "counts", "memory_mib"):
        found: dict[str, object] = report[title]  # type: ignore[assignment]
        console.print(f"\n[bold]{title}[/]" + (" (above 1: Headrace is the faster)" if title == "ratios" else ""))
        for name, value in found.items():
            console.print(f"  {name}: {value}")
    console.print(f"\nsettings: {report['settings']}", highlight=False)


if __name__ == "__main__":
    main()
