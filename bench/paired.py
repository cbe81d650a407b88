"""Medians and their intervals, from what was measured in pairs. No assumption about the distribution."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A median with the interval in which that of the population is, with this confidence."""

    median: float
    low: float
    high: float
    confidence: float
    count: int

    @property
    def is_sure(self) -> bool:
        """Whether there were values enough for the interval to be one of 95 %."""
        return self.confidence >= CONFIDENCE


def estimate(values: Sequence[float]) -> Estimate:
    """The median and its interval by the sign test: two order statistics, as near to the median as 95 % allow.

    With fewer than six values the whole range is given, with the confidence that it has.
    """
    if not values:
        raise ValueError("there is nothing to take a median of")
    ordered = sorted(values)
    count = len(ordered)
    rank = max((k for k in range(1, count // 2 + 1) if _coverage(count, k) >= CONFIDENCE), default=1)
    return Estimate(
        median=statistics.median(ordered),
        low=ordered[rank - 1],
        high=ordered[count - rank],
        confidence=_coverage(count, rank),
        count=count,
    )


def _coverage(count: int, rank: int) -> float:
    """The probability that the median is between the rank-th smallest and the rank-th largest of so many values."""
    outside: float = sum(math.comb(count, k) for k in range(rank)) / 2**count
    return max(0.0, 1 - 2 * outside)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours by theirs, pair by pair: neighbours in time, so that what else the machine does touches both."""
    return [one / other for one, other in zip(ours, theirs, strict=False) if other]
