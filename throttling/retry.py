"""When a failed step is tried again. Pure; times in milliseconds."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from throttling.errors import ThrottlingError

LONG_DELAY_MS = 30_000
LONG_MAX_DELAY_MS = 6 * 3_600_000


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

    def overridden(
        self, *, max_attempts: int | None, backoff: BackoffKind | None, delay_ms: int | None, max_delay_ms: int | None
    ) -> RetryPolicy:
        """The policy with an override's values. A cap below the policy's own delay shortens that delay: an override is
        checked once, and must then be usable with the policy of every step type."""
        if delay_ms is None and max_delay_ms is not None and backoff is not BackoffKind.LONG_EXPONENTIAL:
            delay_ms = min(self.delay_ms, max_delay_ms)
        return self.changed(max_attempts=max_attempts, backoff=backoff, delay_ms=delay_ms, max_delay_ms=max_delay_ms)

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
