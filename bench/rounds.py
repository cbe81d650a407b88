"""Measuring in rounds: each contender once a round, one active at a time, the order turned around every time."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from bench import variants
from bench.contender import Contender, ContenderFailed
from bench.experiments import Experiment

Turn = Callable[[], AbstractContextManager[object]]
"""What is entered before a machine that others use, too, is measured on."""
TURN_S = 130.0
START_S = 20.0
WITHOUT_WORKER = frozenset({"services", "by_hand"})
"""Contenders that have nobody who executes runs."""
Values = dict[str, list[float]]


@dataclass(kw_only=True)
class Measured:
    """By contender and metric: a value for each round. And who was not measured, and why."""

    values: dict[str, Values] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


class Session:
    """Contenders that stay, frozen, from experiment to experiment: starting one takes longer than a round.

    Whoever else uses the machine has a turn now and then: it is given back after `TURN_S`, and asked for again.
    """

    def __init__(self, places: variants.Places, *, idle_s: float, turn: Turn, say: Callable[[str], None]) -> None:
        self._places, self._idle_s, self._turn, self._say = places, idle_s, turn, say
        self._running: dict[str, Contender] = {}
        self._absent: dict[str, str] = {}
        self._held = contextlib.ExitStack()
        self._until = 0.0

    def measure(self, experiment: Experiment, pairs: int) -> Iterator[Measured]:
        """The rounds of an experiment, one by one. What can't be started is skipped with a word."""
        for name in experiment.contenders:
            self._start(name)
        skipped = {name: why for name, why in self._absent.items() if name in experiment.contenders}
        if len(skipped) == len(experiment.contenders):
            yield Measured(skipped=skipped)
            return
        for number in range(pairs):
            found = Measured(skipped=skipped)
            self._take_turn(experiment.pair_s + (self._idle_s if experiment.is_idle else 0))
            self._say(f"{experiment.name}: round {number + 1} of {pairs}")
            try:
                self._round(experiment, number, found)
            except ContenderFailed as error:
                self._say(f"{experiment.name}: {error}")
                yield Measured(skipped={**skipped, "the rest": str(error)})
                return
            yield found

    def keep_only(self, names: Iterable[str]) -> None:
        """End the contenders that nobody needs any more."""
        for name in set(self._running) - set(names):
            self._running.pop(name).end()

    def end(self) -> None:
        """End all of them, and the turn."""
        try:
            self.keep_only(())
        finally:
            self._held.close()

    def _take_turn(self, seconds: float) -> None:
        """Have a turn for so long: the one that there is, where it is young enough, else a new one."""
        if time.monotonic() + seconds <= self._until:
            return
        self._held.close()
        self._held.enter_context(self._turn())
        self._until = time.monotonic() + TURN_S

    def _start(self, name: str) -> None:
        if name in self._running or name in self._absent:
            return
        self._take_turn(START_S)
        try:
            self._running[name] = _started(name, self._places)
        except (variants.NotHere, ContenderFailed) as error:
            self._absent[name] = str(error)
            self._say(f"{name} is skipped: {error}")

    def _round(self, experiment: Experiment, number: int, found: Measured) -> None:
        running = [name for name in experiment.contenders if name in self._running]
        if experiment.is_idle:
            for name in running:
                self._running[name].thaw()
            time.sleep(self._idle_s)
        told: dict[str, Any] = {}
        for name in running[:: 1 if number % 2 == 0 else -1]:
            told[name] = ask(experiment, self._running[name], name)
        if experiment.is_idle:
            for name in running:
                self._running[name].freeze()
        for name in running:  # only whole rounds count
            add(found, name, told[name])


def _started(name: str, places: variants.Places) -> Contender:
    contender = variants.start(name, places)
    if name not in WITHOUT_WORKER:
        contender.do("warm")
    contender.freeze()
    return contender


def ask(experiment: Experiment, contender: Contender, name: str) -> Any:
    """What a contender measures, active by itself; `name` says whose arguments it gets."""
    if experiment.is_idle:
        return contender.do(experiment.verb, **experiment.given_to(name))
    contender.thaw()
    try:
        if name not in {*WITHOUT_WORKER, *variants.CELERY} and not name.startswith(("bullmq", "restate")):
            contender.do("wake")
        elif name not in WITHOUT_WORKER:
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
