"""What it costs to tell monitors of each step: W2 with events off, on, and on with a Flower that listens.

In turn, each in a fresh I/O worker, so that noise hits all alike; ratios are of each round's neighbours.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.contenders import Headrace, Workers
from config.env import BASE_DIR

RUNS = 500
REPEATS = 7
MODES = {"off": ("0", False), "on": ("1", False), "flower": ("1", True)}


def measure(headrace: Headrace, workers: Workers, rounds: int) -> dict[str, object]:
    """Steps a second by mode, and the ratios to `off` (1: no cost); the I/O worker's CPU time, which other work on the
    machine does not change."""
    rates: dict[str, list[float]] = {mode: [] for mode in MODES}
    cpu_us: dict[str, list[float]] = {mode: [] for mode in MODES}
    for number in range(rounds):
        sys.stderr.write(f"monitors: round {number + 1} of {rounds}\n")
        for mode in sorted(MODES, reverse=number % 2 == 1):
            is_on, listens = MODES[mode]
            workers.swap_io(HEADRACE_STEP_EVENTS=is_on)
            for _ in range(3):
                headrace.warm_up()
            with _flower(listens):
                before = _cpu_s(workers.processes["io"].pid)
                rates[mode].append(statistics.median(5 * RUNS / headrace.w2(RUNS) for _ in range(REPEATS)))
                spent_s = _cpu_s(workers.processes["io"].pid) - before
                cpu_us[mode].append(spent_s * 1e6 / (5 * RUNS * REPEATS))
    workers.swap_io()
    report: dict[str, object] = {
        f"w2_events_{mode}_vs_off": round(statistics.median(map(_ratio, rates[mode], rates["off"])), 2)
        for mode in ("on", "flower")
    }
    for mode in MODES:
        report[f"w2_steps_per_s_{mode}"] = [round(rate) for rate in rates[mode]]
        report[f"w2_worker_cpu_us_per_step_{mode}"] = round(statistics.median(cpu_us[mode]))
    return report


def _ratio(one: float, other: float) -> float:
    return one / other


def _cpu_s(pid: int) -> float:
    """Seconds of CPU that all threads of the process have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _flower(listens: bool) -> Iterator[None]:
    """A Flower for as long as this is open, where one is wanted."""
    if not listens:
        yield
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "config", "flower", "--address=127.0.0.1", "--port=0"],
        cwd=BASE_DIR,
        env={**os.environ, "FLOWER_BASIC_AUTH": "bench:bench"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(5)
        yield
    finally:
        process.kill()
        process.wait()
