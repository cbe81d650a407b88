"""What a policy is made of. Pure and frozen; times in milliseconds, as in the seeds."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from throttling.errors import ThrottlingError


class BackoffKind(StrEnum):
    EXPONENTIAL = "exponential"
    FIXED = "fixed"
    NONE = "none"


class Jitter(StrEnum):
    """How far a delay is spread: ±20 % of it, anywhere between zero and it, or not at all."""

    PROPORTIONAL = "proportional"
    FULL = "full"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class RateLimit:
    """At most `max_executions` starts in any interval of `per_ms` milliseconds."""

    max_executions: int
    per_ms: int

    def __str__(self) -> str:
        return f"{self.max_executions}/{self.per_ms}ms"


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When a failed step is tried again. `max_attempts` includes the first try."""

    max_attempts: int
    backoff: BackoffKind
    delay_ms: int
    max_delay_ms: int = 3_600_000
    factor: float = 2.0
    jitter: Jitter = Jitter.PROPORTIONAL

    def __post_init__(self) -> None:
        if not 1 <= self.max_attempts <= 100:
            raise ThrottlingError(f"attempts={self.max_attempts} is out of range; set it to 1…100")
        if self.delay_ms < 0 or self.max_delay_ms < self.delay_ms:
            raise ThrottlingError(f"delay={self.delay_ms}ms must be between 0 and max_delay={self.max_delay_ms}ms")
        if self.factor < 1:
            raise ThrottlingError(f"factor={self.factor} must be at least 1")

    def __str__(self) -> str:
        return f"{self.backoff}-{self.max_attempts}x"

    def delay_after(self, attempt: int, *, chance: random.Random | None = None) -> float:
        """Milliseconds to wait after the failed try number `attempt` (from 1), with jitter, capped."""
        if self.backoff is BackoffKind.NONE:
            return 0.0
        exponent = attempt - 1 if self.backoff is BackoffKind.EXPONENTIAL else 0
        base = min(self.delay_ms * self.factor ** min(exponent, 60), float(self.max_delay_ms))
        draw = (chance or random).random()
        if self.jitter is Jitter.FULL:
            return base * draw
        if self.jitter is Jitter.PROPORTIONAL:
            return min(base * (0.8 + 0.4 * draw), float(self.max_delay_ms))
        return base


@dataclass(frozen=True, kw_only=True)
class StepPolicy:
    """The shipped policy of a step: its limits and its retries."""

    concurrency: int
    rate: RateLimit
    retry: RetryPolicy
