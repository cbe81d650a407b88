"""The file of what was measured. Rounds can be added to it, so that a long bench can be taken in pieces."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.experiments import Experiment
from bench.rounds import Measured


def load(path: Path) -> dict[str, Any]:
    """What the file has; empty where there is none."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def store(path: Path, experiment: Experiment, measured: Measured, *, append: bool) -> None:
    """Put the rounds of an experiment into the file, in the place of those that it had, or after them."""
    everything = load(path)
    kept = everything.setdefault("experiments", {})
    entry = kept.get(experiment.name) if append else None
    entry = entry or {"title": experiment.title, "values": {}, "skipped": {}, "conditions": []}
    for contender, values in measured.values.items():
        of = entry["values"].setdefault(contender, {})
        for metric, numbers in values.items():
            of.setdefault(metric, []).extend(round(number, 4) for number in numbers)
    entry["skipped"] = measured.skipped
    entry["conditions"].append(conditions())
    kept[experiment.name] = entry
    everything["machine"] = machine()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(everything, indent=1) + "\n")


def rounds_of(everything: dict[str, Any], experiment: str) -> int:
    """How many rounds of it were measured: the fewest of any contender."""
    values = everything.get("experiments", {}).get(experiment, {}).get("values", {})
    counts: Sequence[int] = [len(numbers) for of in values.values() for numbers in of.values()]
    return min(counts, default=0)


def conditions() -> dict[str, Any]:
    """What else the machine does: its load over the last minute."""
    return {"at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "load": round(os.getloadavg()[0], 1)}


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
