"""The times that admission keeps to, for Python; each verb of the gate tells the store its lease and reservation."""

from __future__ import annotations

LEASE_S = 15.0
"""A started step's permit expires so long after its last renewal (`HEADRACE_GATE_LEASE_S`)."""
RESERVATION_S = 15.0
"""A granted step's permit lapses so long after its grant, where the step has not started
(`HEADRACE_GATE_RESERVATION_S`)."""
MIN_LEASE_S = MIN_RESERVATION_S = 2.0
MAX_LEASE_S = MAX_RESERVATION_S = 3_600.0
MAX_SLACK_US = 100_000
LOOK_WHILE_WAITING_S = 0.075
"""While steps wait at limits, the gate is looked at so often."""


def slack_us(period_us: int) -> int:
    """By how much a window is longer than its period: a step may start so long after its stamp."""
    return min(MAX_SLACK_US, period_us // 50)


def bucket_us(period_us: int) -> int:
    """The part of a window whose starts are counted together, and leave it together."""
    return max(1, period_us // 1000)
