"""What a policy is made of. Pure and frozen; times in milliseconds, as in the seeds."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from throttling.errors import ThrottlingError

MAX_LIMIT = 1_000_000
MAX_PERIOD_MS = 31 * 24 * 3_600_000
MAX_KEY_CHARACTERS = 200
MAX_SLACK_US = 100_000
LONG_DELAY_MS = 30_000
LONG_MAX_DELAY_MS = 6 * 3_600_000
MIN_WEIGHT = 0.01
MAX_WEIGHT = 100.0
_CONTROL = re.compile(r"[\x00-\x1f]")


class BackoffKind(StrEnum):
    EXPONENTIAL = "exponential"
    LONG_EXPONENTIAL = "long_exponential"
    FIXED = "fixed"
    NONE = "none"


class Jitter(StrEnum):
    """How far a delay is spread: ±20 % of it, anywhere between zero and it, or not at all."""

    PROPORTIONAL = "proportional"
    FULL = "full"
    NONE = "none"


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
        return min(MAX_SLACK_US, self.per_ms * 20)


@dataclass(frozen=True, kw_only=True)
class ConcurrencyLimit:
    """At most `max_running` at once."""

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

    name: str
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
    def kind(self) -> str:
        if self.bound is None:
            return "p"
        if isinstance(self.bound, ConcurrencyLimit):
            return "c"
        return "g" if self.bound.algorithm is Algorithm.GCRA else "w"

    @property
    def is_defined(self) -> bool:
        """Not so for one that can only be paused, and where another defines it (a queue's, by its workers' slots)."""
        return bool(self.override or self.base)

    @property
    def definition(self) -> str:
        return f"{self.base}|{self.base_stamp}|{self.override}|{self.override_revision}"

    @property
    def title(self) -> str:
        """The limit as its author knows it: `the flow's concurrency`; a shared one by its name."""
        parts = self.name.split(":")
        dimension = parts[-1]
        if self.source == "named":
            return f"the shared limit {parts[-2]!r} ({dimension})"
        whose = {"flow": "the flow's", "run": "the flow's", "step": "the step's", "type": "the step type's"}
        return f"{whose.get(self.source, f'the {self.source}')} {dimension}"

    def instance(self, value: str | None = None) -> str:
        """The store's key of the limit, for a value of its key expression."""
        return f"{self.kind}:{self.name}@{value}" if value else f"{self.kind}:{self.name}"


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

    def of_child(self, ancestors: frozenset[str]) -> LimitSet:
        """For a run that others wait for: it needs no slot of its own where one of them (by the ids of their flows) has
        one that counts for it. Of all runs' limits it needs a place, which those who wait for it have given up, and its
        start counts in no rate."""
        kept = tuple(each for each in self.runs if _needs_own_slot(each[2:].split("@", 1)[0], ancestors))
        return self if kept == self.runs else replace(self, runs=kept)

    @classmethod
    def of(cls, limits: Iterable[tuple[Limit, str | None]]) -> LimitSet:
        """From (limit, value of its key) pairs, in the order in which they are asked."""
        pairs = list(limits)
        own = [limit.instance(value) for limit, value in pairs if _is_paused_by_answers(limit)]
        return cls(
            steps=tuple(dict.fromkeys(limit.instance(value) for limit, value in pairs if not limit.runs)),
            runs=tuple(dict.fromkeys(limit.instance(value) for limit, value in pairs if limit.runs)),
            definitions=tuple({limit.name: limit.definition for limit, _ in pairs if limit.is_defined}.items()),
            paused_by_provider=tuple(own) or tuple(limit.instance() for limit, _ in pairs if limit.bound is None),
        )


def _is_paused_by_answers(limit: Limit) -> bool:
    """A limit of all organizations is not: one of them chooses what it calls, and would stop the others with it."""
    return bool(limit.key or limit.source == "named") and not limit.name.startswith("limit:all:")


def _needs_own_slot(name: str, ancestors: frozenset[str]) -> bool:
    scope, *parts = name.split(":")
    return name == "runs:concurrency" or (scope == "run" and parts[0] not in ancestors)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When a failed step is tried again. `max_attempts` includes the first try."""

    max_attempts: int
    backoff: BackoffKind
    delay_ms: int
    max_delay_ms: int = 3_600_000
    factor: float = 2.0
    jitter: Jitter = Jitter.PROPORTIONAL
    by_category: tuple[tuple[str, RetryPolicy], ...] = ()
    """Policies of their own for categories of failure."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_attempts <= 100:
            raise ThrottlingError(f"attempts={self.max_attempts} is out of range; set it to 1…100")
        if self.delay_ms < 0 or self.max_delay_ms < self.delay_ms:
            raise ThrottlingError(f"delay={self.delay_ms}ms must be between 0 and max_delay={self.max_delay_ms}ms")
        if self.factor < 1:
            raise ThrottlingError(f"factor={self.factor} must be at least 1")

    def __str__(self) -> str:
        return f"{self.backoff}-{self.max_attempts}x"

    def of_category(self, category: str) -> RetryPolicy | None:
        """The policy for failures of a category, where it has one of its own."""
        return next((policy for name, policy in self.by_category if name == category), None)

    def changed(self, **given: Any) -> RetryPolicy:
        """With the given values that are not None. Raises ThrottlingError for impossible ones.

        A long exponential back-off begins at 30 s and goes up to 6 h, unless told otherwise.
        """
        values = {name: value for name, value in given.items() if value is not None}
        if values.get("backoff") == BackoffKind.LONG_EXPONENTIAL:
            values = {"delay_ms": LONG_DELAY_MS, "max_delay_ms": LONG_MAX_DELAY_MS, **values}
        return replace(self, **values)

    def delay_after(self, attempt: int, *, chance: random.Random | None = None) -> float:
        """Milliseconds to wait after the failed try number `attempt` (from 1), with jitter, capped."""
        if self.backoff is BackoffKind.NONE:
            return 0.0
        exponent = 0 if self.backoff is BackoffKind.FIXED else attempt - 1
        base = min(self.delay_ms * self.factor ** min(exponent, 60), float(self.max_delay_ms))
        draw = (chance or random).random()
        if self.jitter is Jitter.FULL:
            return base * draw
        if self.jitter is Jitter.PROPORTIONAL:
            return min(base * (0.8 + 0.4 * draw), float(self.max_delay_ms))
        return base


@dataclass(frozen=True, kw_only=True)
class StepPolicy:
    """The policy of a step: its limits and its retries."""

    concurrency: int
    rate: RateLimit
    retry: RetryPolicy
