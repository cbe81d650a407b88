"""Measuring in rounds: each contender once a round, one active at a time, the order turned around every time."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench import variants
from bench.contender import Contender, ContenderFailed
from bench.experiments import Experiment

Values = dict[str, list[float]]


@dataclass(kw_only=True)
class Measured:
    """By contender and metric: a value for each round. And who was not measured, and why."""

    values: dict[str, Values] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def measure(
    experiment: Experiment, pairs: int, places: variants.Places, idle_s: float, say: Callable[[str], None]
) -> Measured:
    """All rounds of an experiment. A contender that can't be started, or fails, is skipped with a word."""
    found, running = Measured(), {}
    try:
        for name in experiment.contenders:
            try:
                running[name] = _start(name, places)
            except (variants.NotHere, ContenderFailed) as error:
                found.skipped[name] = str(error)
                say(f"{experiment.name}: {name} is skipped: {error}")
        for number in range(pairs):
            if experiment.is_idle:
                _rest(running, idle_s)
            order = list(running)[:: 1 if number % 2 == 0 else -1]
            say(f"{experiment.name}: round {number + 1} of {pairs}")
            for name in order:
                add(found, name, ask(experiment, running[name], name))
    except ContenderFailed as error:
        say(f"{experiment.name}: {error}")
        found.skipped[experiment.name] = str(error)
    finally:
        for contender in running.values():
            contender.end()
    return found


def _start(name: str, places: variants.Places) -> Contender:
    contender = variants.start(name, places)
    if name != "services":
        contender.do("warm")
    contender.freeze()
    return contender


def _rest(running: dict[str, Contender], idle_s: float) -> None:
    """Let all of them be idle for a while, at the same time."""
    for contender in running.values():
        contender.thaw()
    time.sleep(idle_s)


def ask(experiment: Experiment, contender: Contender, name: str) -> Any:
    """What a contender measures, active by itself; `name` says whose arguments it gets."""
    if experiment.is_idle:
        return contender.do(experiment.verb, **experiment.given_to(name))
    contender.thaw()
    try:
        if name not in {"services", *variants.CELERY} and not name.startswith(("bullmq", "restate")):
            contender.do("wake")
        elif name != "services":
            contender.do("warm")
        return contender.do(experiment.verb, **experiment.given_to(name))
    finally:
        contender.freeze()


def add(found: Measured, name: str, told: Any) -> None:
    """Add what a round has told: figures as they are; of a series its first by itself, and the median of the rest."""
    values = found.values.setdefault(name, {})
    series: list[dict[str, float]] = told if isinstance(told, list) else [told]
    for metric in series[0]:
        numbers = [each[metric] for each in series]
        if isinstance(told, list):
            values.setdefault(f"first {metric}", []).append(numbers[0])
        if len(numbers) > 1 or not isinstance(told, list):
            values.setdefault(metric, []).append(statistics.median(numbers[1:] or numbers))


def to_stderr(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()
