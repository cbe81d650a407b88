"""Measuring in rounds: each contender once a round, one active at a time, the order turned around every time."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from bench import variants
from bench.contender import Contender, ContenderFailed
from bench.experiments import Experiment

Turn = Callable[[], AbstractContextManager[object]]
"""What is entered before a machine that others use, too, is measured on."""
TURN_S = 100.0
Values = dict[str, list[float]]


@dataclass(kw_only=True)
class Measured:
    """By contender and metric: a value for each round. And who was not measured, and why."""

    values: dict[str, Values] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def measure(
    experiment: Experiment,
    pairs: int,
    places: variants.Places,
    *,
    idle_s: float,
    turn: Turn,
    say: Callable[[str], None],
) -> Iterator[Measured]:
    """The rounds of an experiment, some of them at a time. What can't be started, or fails, is skipped with a word.

    Starting, and each group of rounds, has a turn of its own; in between all contenders are frozen.
    """
    skipped: dict[str, str] = {}
    running: dict[str, Contender] = {}
    at_once = max(1, int(TURN_S // (experiment.pair_s + (idle_s if experiment.is_idle else 0))))
    try:
        with turn():
            for name in experiment.contenders:
                try:
                    running[name] = _start(name, places)
                except (variants.NotHere, ContenderFailed) as error:
                    skipped[name] = str(error)
                    say(f"{experiment.name}: {name} is skipped: {error}")
        for first in range(0, pairs, at_once):
            found = Measured(skipped=skipped)
            try:
                with turn():
                    for number in range(first, min(first + at_once, pairs)):
                        say(f"{experiment.name}: round {number + 1} of {pairs}")
                        _round(experiment, number, running, found, idle_s)
            except ContenderFailed as error:
                say(f"{experiment.name}: {error}")
                skipped["the rest"] = str(error)
                return
            finally:
                if found.values or skipped:
                    yield found
    finally:
        for contender in running.values():
            contender.end()


def _round(
    experiment: Experiment, number: int, running: Mapping[str, Contender], found: Measured, idle_s: float
) -> None:
    if experiment.is_idle:
        _rest(running, idle_s)
    told: dict[str, Any] = {}
    for name in list(running)[:: 1 if number % 2 == 0 else -1]:
        told[name] = ask(experiment, running[name], name)
    if experiment.is_idle:
        for contender in running.values():
            contender.freeze()
    for name in running:  # only whole rounds count, each at its place
        add(found, name, told[name])


def _start(name: str, places: variants.Places) -> Contender:
    contender = variants.start(name, places)
    if name != "services":
        contender.do("warm")
    contender.freeze()
    return contender


def _rest(running: Mapping[str, Contender], idle_s: float) -> None:
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
