"""What the environment says about observing. Read once in a process, when the app is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from throttling.environment import switch, whole_number

DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Switch:
    """`arguments`: those of tasks are kept, as Celery shows them. `org`: the slug of the organization that sees the
    tasks; empty: the oldest."""

    is_on: bool
    arguments: bool
    org: str
    keep_s: float
    most: int


def read(source: Mapping[str, str] | None = None) -> Switch:
    """Raises EnvironmentValueError naming the variable that can't be used."""
    given = os.environ if source is None else source
    return Switch(
        is_on=switch(given, "HEADRACE_OBSERVE", default=False),
        arguments=switch(given, "HEADRACE_OBSERVE_ARGUMENTS", default=False),
        org=given.get("HEADRACE_OBSERVE_ORG", "").strip(),
        keep_s=DAY_S * whole_number(given, "HEADRACE_OBSERVE_DAYS", 7, low=1, high=365),
        most=whole_number(given, "HEADRACE_OBSERVE_MOST", 1_000_000, low=1_000, high=100_000_000),
    )
