"""What a policy is made of. Pure and frozen; times in milliseconds."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import ClassVar
from uuid import UUID

from throttling import clocks
from throttling.errors import ThrottlingError
from throttling.names import RUN_PLACES, Definition, Dimension, Kind, LimitInstance, LimitName, Scope, with_key
from throttling.retry import RetryPolicy

MAX_LIMIT = 1_000_000
MAX_PERIOD_MS = 31 * 24 * 3_600_000
MAX_KEY_CHARACTERS = 200
MIN_WEIGHT = 0.01
MAX_WEIGHT = 100.0
_CONTROL = re.compile(r"[\x00-\x1f]")


class Algorithm(StrEnum):
    """How starts are counted: exactly in any interval, or evenly spaced with a burst (GCRA)."""

    WINDOW = "window"
    GCRA = "gcra"


def checked_limit(value: object, what: str) -> int:
    """A limit from outside. Raises ThrottlingError for zero, negative, fractional or enormous ones."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ThrottlingError(f"{what}={value!r} must be a whole number from 1 to {MAX_LIMIT:,}")
    if not 1 <= value <= MAX_LIMIT:
        raise ThrottlingError(f"{what}={value} is out of range; set it to 1…{MAX_LIMIT:,}")
    return value


def checked_weight(value: object) -> float:
    """An organization's share from outside. Raises ThrottlingError for what is no number of 0.01 … 100."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not MIN_WEIGHT <= value <= MAX_WEIGHT:
        raise ThrottlingError(f"weight={value!r} is out of range; set it to {MIN_WEIGHT}…{MAX_WEIGHT:.0f}")
    return float(value)


def usable_weight(stored: float | None) -> float:
    """A stored share within 0.01 … 100: rows from before the bounds go on with the nearest one. None and NaN are 1."""
    if stored is None or math.isnan(stored):
        return 1.0
    return min(max(stored, MIN_WEIGHT), MAX_WEIGHT)


@dataclass(frozen=True, kw_only=True)
class RateLimit:
    """At most `max_executions` starts in any interval of `per_ms` milliseconds.

    With `gcra` they are spaced evenly, and up to `burst` of them may start at once.
    """

    dimension: ClassVar[Dimension] = Dimension.RATE
    max_executions: int
    per_ms: int
    algorithm: Algorithm = Algorithm.WINDOW
    burst: int = 1

    def __post_init__(self) -> None:
        checked_limit(self.max_executions, "limit")
        if not 1 <= self.per_ms <= MAX_PERIOD_MS:
            raise ThrottlingError(f"period={self.per_ms!r} ms is out of range; set it to 1 ms … 31 days")
        checked_limit(self.burst, "burst")

    def __str__(self) -> str:
        return f"{self.max_executions}/{self.per_ms}ms"

    @property
    def value(self) -> str:
        """As the store keeps it: limit, period in µs, burst."""
        burst = f",{self.burst}" if self.algorithm is Algorithm.GCRA else ""
        return f"{self.max_executions},{self.per_ms * 1000}{burst}"

    @property
    def slack_us(self) -> int:
        """How long after its stamp a step may start: windows are longer by it."""
        return clocks.slack_us(self.per_ms * 1000)


@dataclass(frozen=True, kw_only=True)
class ConcurrencyLimit:
    """At most `max_running` at once."""

    dimension: ClassVar[Dimension] = Dimension.CONCURRENCY
    max_running: int

    def __post_init__(self) -> None:
        checked_limit(self.max_running, "concurrency")

    @property
    def value(self) -> str:
        return str(self.max_running)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A limit that applies to a step, before its key is evaluated.

    `bound` is None for one that can only be paused. `key` is a CEL expression. Where organizations are kept apart, the
    name says whose it is. `base` and `override` with their stamps are what the store decides by which of two callers
    knows the newer value. `runs`: it counts whole runs.
    """

    name: LimitName
    bound: ConcurrencyLimit | RateLimit | None
    base: str = ""
    base_stamp: int = 0
    override: str = ""
    override_revision: int = 0
    key: str | None = None
    runs: bool = False
    level: str = ""
    """Of the runs that it holds for: their priority's level; empty: all."""
    source: str = "shipped"

    @property
    def kind(self) -> Kind:
        if self.bound is None:
            return Kind.PAUSE
        if isinstance(self.bound, ConcurrencyLimit):
            return Kind.CONCURRENCY
        return Kind.GCRA if self.bound.algorithm is Algorithm.GCRA else Kind.WINDOW

    @property
    def is_defined(self) -> bool:
        """Not so for one that can only be paused, and where another defines it (a queue's, by its workers' slots)."""
        return bool(self.override or self.base)

    @cached_property
    def definition(self) -> Definition:
        return Definition(
            base=self.base, stamp=self.base_stamp, override=self.override, revision=self.override_revision
        )

    @cached_property
    def stored(self) -> tuple[str, str]:
        """Name and definition as the store keeps them."""
        return self.name.text, str(self.definition)

    @cached_property
    def is_paused_by_answers(self) -> bool:
        """Whether an answer's `Retry-After` pauses it: a keyed or shared one. One of all organizations is not: one of
        them chooses what it calls, and would stop the others with it."""
        is_of_all = self.name.scope is Scope.LIMIT and self.name.org_id is None
        return bool(self.key or self.source == "named") and not is_of_all

    @property
    def title(self) -> str:
        """The limit as its author knows it: `the flow's concurrency`; a shared one by its name."""
        what = self.name.dimension or self.name.subject
        if self.source == "named":
            return f"the shared limit {self.name.subject!r} ({what})"
        whose = {"flow": "the flow's", "run": "the flow's", "step": "the step's", "type": "the step type's"}
        return f"{whose.get(self.source, f'the {self.source}')} {what}"

    def instance(self, value: str | None = None) -> str:
        """The store's key of the limit, for a value of its key expression."""
        return with_key(self._unkeyed, value) if value else self._unkeyed

    @cached_property
    def _unkeyed(self) -> str:
        return str(LimitInstance(kind=self.kind, name=self.name))


def key_text(value: object) -> str:
    """The value of a key expression as part of an instance. Raises ThrottlingError for a list, an object or null."""
    if value is None or isinstance(value, list | dict) or value == "":
        found = "nothing" if value is None or value == "" else "a list" if isinstance(value, list) else "an object"
        raise ThrottlingError(f"gives {found}; a limit's key must be a text, a number or a boolean")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if len(text) > MAX_KEY_CHARACTERS or _CONTROL.search(text):
        return "sha256-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return text


_UNIT, _RECORD = "\x1f", "\x1e"


@dataclass(frozen=True, kw_only=True)
class LimitSet:
    """All limits of one step with their keys evaluated, as the store takes them."""

    steps: tuple[str, ...]
    runs: tuple[str, ...]
    definitions: tuple[tuple[str, str], ...]
    paused_by_provider: tuple[str, ...] = ()
    """The keys that an answer's `Retry-After` pauses."""

    @cached_property
    def text(self) -> str:
        return _UNIT.join(self.steps) + _RECORD + _UNIT.join(self.runs)

    def of_child(self, ancestors: frozenset[UUID]) -> LimitSet:
        """For a run that others wait for: it needs no slot of its own where one of them (by the ids of their flows) has
        one that counts for it. Of all runs' limits it needs a place, which those who wait for it have given up, and its
        start counts in no rate."""
        kept = tuple(each for each in self.runs if _needs_own_slot(LimitInstance.parse(each).name, ancestors))
        return self if kept == self.runs else replace(self, runs=kept)

    @classmethod
    def of(cls, limits: Iterable[tuple[Limit, str | None]]) -> LimitSet:
        """From (limit, value of its key) pairs, in the order in which they are asked."""
        found = [(limit, limit.instance(value)) for limit, value in limits]
        own = tuple([instance for limit, instance in found if limit.is_paused_by_answers])
        return cls(
            steps=tuple(dict.fromkeys([instance for limit, instance in found if not limit.runs])),
            runs=tuple(dict.fromkeys([instance for limit, instance in found if limit.runs])),
            definitions=tuple(dict([limit.stored for limit, _ in found if limit.is_defined]).items()),
            paused_by_provider=own or tuple([limit.instance() for limit, _ in found if limit.bound is None]),
        )


def _needs_own_slot(name: LimitName, ancestors: frozenset[UUID]) -> bool:
    return name == RUN_PLACES or (name.scope is Scope.RUN and name.flow_id not in ancestors)


@dataclass(frozen=True, kw_only=True)
class StepPolicy:
    """The policy of a step: its limits and its retries."""

    concurrency: int
    rate: RateLimit
    retry: RetryPolicy

    def bound(self, dimension: Dimension) -> ConcurrencyLimit | RateLimit:
        """The limit of a dimension."""
        return self.rate if dimension == Dimension.RATE else ConcurrencyLimit(max_running=self.concurrency)


def queue_value(places: int, *, timed: bool, shared: bool = True) -> str:
    """A queue's value in the store. `timed`: its tenants share it by time, and while it is `shared` by more than one, a
    place is kept free of each."""
    return f"{places},0,1,{int(shared)},1" if timed else str(places)


def queue_limit(lane: str, permits: int | None = None) -> Limit:
    """The implicit limit of a queue: what is in the broker or executing. It is asked last.

    Without `permits` it leaves the definition to the leader, who knows what the live workers announce.
    """
    bound = ConcurrencyLimit(max_running=permits or 1)
    return Limit(name=LimitName.of_queue(lane), bound=bound, base=bound.value if permits else "", source="queue")
