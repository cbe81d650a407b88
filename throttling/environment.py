"""What the environment says about limits: the global policy, the policy of whole runs, the emergency switch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from throttling.defaults import GLOBAL, NO_SIZE, SIZES
from throttling.errors import ThrottlingError
from throttling.limits import MAX_LIMIT, MAX_PERIOD_MS, RateLimit, StepPolicy

_VARIABLES = ("CONCURRENCY", "RATE_LIMIT_EXECUTIONS", "RATE_LIMIT_PERIOD_MS", "RETRY_ATTEMPTS", "RETRY_DELAY_MS")
_RUN_VARIABLES = ("RUN_CONCURRENCY", "RUN_RATE_LIMIT_EXECUTIONS", "RUN_RATE_LIMIT_PERIOD_MS")


@lru_cache(maxsize=1)
def global_policy() -> StepPolicy:
    """The global policy, with `HEADRACE_GLOBAL_*` (or its alias `INNGEST_GLOBAL_*`) from the environment."""
    return read_global_policy(os.environ)


def read_global_policy(environment: Mapping[str, str]) -> StepPolicy:
    """Raises ThrottlingError naming the variable that is no whole number above zero."""
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


def _bounded(name: str, value: int) -> int:
    """Raises ThrottlingError where the number can't be used: at the start, rather than at each step."""
    high = 100 if name.endswith("RETRY_ATTEMPTS") else MAX_PERIOD_MS if name.endswith("_MS") else MAX_LIMIT
    if value > high:
        raise ThrottlingError(f"{name}={value} is out of range; set it to 1…{high:,}")
    return value


def _positive(environment: Mapping[str, str], name: str) -> int | None:
    for prefix in ("HEADRACE_GLOBAL_", "INNGEST_GLOBAL_"):
        raw = environment.get(prefix + name, "").strip()
        if raw:
            if not raw.isdecimal() or int(raw) == 0:
                raise ThrottlingError(f"{prefix}{name}={raw!r} must be a whole number above zero")
            return _bounded(prefix + name, int(raw))
    return None
