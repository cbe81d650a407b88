"""What the environment says about limits: the global policy, the policy of whole runs, the emergency switch; and how
numbers in it are read and checked, whoever wants them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

from throttling import clocks
from throttling.defaults import GLOBAL, NO_SIZE, SIZES
from throttling.errors import EnvironmentValueError, ThrottlingError
from throttling.limits import MAX_LIMIT, MAX_PERIOD_MS, RateLimit, StepPolicy

_VARIABLES = ("CONCURRENCY", "RATE_LIMIT_EXECUTIONS", "RATE_LIMIT_PERIOD_MS", "RETRY_ATTEMPTS", "RETRY_DELAY_MS")
_RUN_VARIABLES = ("RUN_CONCURRENCY", "RUN_RATE_LIMIT_EXECUTIONS", "RUN_RATE_LIMIT_PERIOD_MS")
Default = TypeVar("Default", int, None)
STEP_LEASE_S = 10.0


def whole_number(source: Mapping[str, str], name: str, default: Default, *, low: int, high: int) -> int | Default:
    """The whole number that a variable has, or the default where it is not set. Raises EnvironmentValueError."""
    raw = source.get(name, "").strip()
    if not raw:
        return default
    try:
        value = int(raw)
    except ValueError:
        raise EnvironmentValueError(f"{name}={raw!r} is not a whole number; set it to {low}…{high}") from None
    if not low <= value <= high:
        raise EnvironmentValueError(f"{name}={raw!r} is out of range; set it to {low}…{high}")
    return value


def switch(source: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Whether a variable says on, or the default where it is not set. Raises EnvironmentValueError."""
    raw = source.get(name, "").strip().lower()
    if raw in {"1", "true", "yes", "on"}:
        return True
    if raw in {"0", "false", "no", "off"}:
        return False
    if raw:
        raise EnvironmentValueError(f"{name}={raw!r} is not a switch; set it to 1 or 0")
    return default


def seconds(source: Mapping[str, str], name: str, default: float, *, low: float, high: float) -> float:
    """The seconds that a variable has, or the default where it is not set. Raises EnvironmentValueError."""
    raw = source.get(name, "").strip()
    try:
        value = float(raw) if raw else default
    except ValueError:
        raise EnvironmentValueError(f"{name}={raw!r} is no number of seconds; set it to {low:g}…{high:g}") from None
    if not low <= value <= high:
        raise EnvironmentValueError(f"{name}={raw} is out of range; set it to {low:g}…{high:g} seconds")
    return value


def step_lease_s(source: Mapping[str, str]) -> float:
    """`HEADRACE_LEASE_S`: for how long a worker has a step without a sign of life. Less than the shortest lease of a
    permit counts as that."""
    return max(clocks.MIN_LEASE_S, seconds(source, "HEADRACE_LEASE_S", STEP_LEASE_S, low=0.0, high=math.inf))


@lru_cache(maxsize=1)
def global_policy() -> StepPolicy:
    """The global policy, with `HEADRACE_GLOBAL_*` (or its alias `INNGEST_GLOBAL_*`) from the environment."""
    return read_global_policy(os.environ)


def read_global_policy(environment: Mapping[str, str]) -> StepPolicy:
    """Raises EnvironmentValueError naming the variable that is no whole number above zero, or too large a one."""
    values = {name: _positive(environment, name) for name in _VARIABLES}
    return StepPolicy(
        concurrency=values["CONCURRENCY"] or GLOBAL.concurrency,
        rate=RateLimit(
            max_executions=values["RATE_LIMIT_EXECUTIONS"] or GLOBAL.rate.max_executions,
            per_ms=values["RATE_LIMIT_PERIOD_MS"] or GLOBAL.rate.per_ms,
        ),
        retry=replace(
            GLOBAL.retry,
            max_attempts=values["RETRY_ATTEMPTS"] or GLOBAL.retry.max_attempts,
            delay_ms=values["RETRY_DELAY_MS"] or GLOBAL.retry.delay_ms,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class RunPolicy:
    """How many whole runs may be live at once, and may start in a period; None: as many as there are."""

    concurrency: int | None = None
    rate: RateLimit | None = None


@lru_cache(maxsize=len(SIZES) + 2)
def global_run_policy(default_size: str = NO_SIZE) -> RunPolicy:
    """From `HEADRACE_GLOBAL_RUN_*`, or from the preset `HEADRACE_SIZE`; where that is not set, from `default_size`."""
    return read_run_policy(os.environ, default_size)


def environment_limits_runs() -> bool:
    """Whether the environment says anything of whole runs."""
    return bool(named_size(os.environ)) or any(_positive(os.environ, name) for name in _RUN_VARIABLES)


def named_size(environment: Mapping[str, str]) -> str:
    """`HEADRACE_SIZE`; empty where it is not set. Raises ThrottlingError for an unknown one."""
    size = environment.get("HEADRACE_SIZE", "").strip().lower()
    if size and size not in (*SIZES, NO_SIZE):
        raise ThrottlingError(f"HEADRACE_SIZE={size!r} is unknown; set it to {', '.join(SIZES)} or {NO_SIZE}")
    return size


def read_run_policy(environment: Mapping[str, str], default_size: str = NO_SIZE) -> RunPolicy:
    """Raises ThrottlingError for an unknown size or a number that can't be used."""
    size = named_size(environment) or default_size
    base = RunPolicy(concurrency=SIZES[size][0], rate=SIZES[size][1]) if size in SIZES else RunPolicy()
    concurrency, executions, period = (_positive(environment, name) for name in _RUN_VARIABLES)
    rate = base.rate
    if executions or (period and rate):
        rate = RateLimit(
            max_executions=executions or (rate.max_executions if rate else 1),
            per_ms=period or (rate.per_ms if rate else 60_000),
        )
    return RunPolicy(concurrency=concurrency or base.concurrency, rate=rate)


def flow_control_is_on() -> bool:
    """`HEADRACE_FLOW_CONTROL=off` admits everything without a store call: for emergencies and comparison."""
    raw = os.environ.get("HEADRACE_FLOW_CONTROL", "on").strip().lower()
    if raw not in {"on", "off"}:
        raise ThrottlingError(f"HEADRACE_FLOW_CONTROL={raw!r} is unknown; set it to on or off")
    return raw == "on"


def _highest(name: str) -> int:
    return 100 if name == "RETRY_ATTEMPTS" else MAX_PERIOD_MS if name.endswith("_MS") else MAX_LIMIT


def _positive(environment: Mapping[str, str], name: str) -> int | None:
    """The number by either name; what can't be used is refused at the start, rather than at each step."""
    for prefix in ("HEADRACE_GLOBAL_", "INNGEST_GLOBAL_"):
        value = whole_number(environment, prefix + name, None, low=1, high=_highest(name))
        if value is not None:
            return value
    return None
