"""Which policy applies to a step: what it says itself, else its type's, else the global one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from throttling.defaults import BY_TYPE, CRITICAL_BY_TYPE, GLOBAL
from throttling.errors import ThrottlingError
from throttling.limits import RateLimit, RetryPolicy, StepPolicy

_VARIABLES = ("CONCURRENCY", "RATE_LIMIT_EXECUTIONS", "RATE_LIMIT_PERIOD_MS", "RETRY_ATTEMPTS", "RETRY_DELAY_MS")


def step_policy(step_type: str, *, critical: bool, retry: RetryPolicy | None = None) -> StepPolicy:
    """The policy of a step. `critical` means that the definition says `critical: true` itself."""
    table = CRITICAL_BY_TYPE if critical and step_type in CRITICAL_BY_TYPE else BY_TYPE
    policy = table.get(step_type) or global_policy()
    return replace(policy, retry=retry) if retry else policy


@lru_cache(maxsize=1)
def global_policy() -> StepPolicy:
    """The global policy, with `HEADRACE_GLOBAL_*` (or the seeds' `INNGEST_GLOBAL_*`) from the environment."""
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


def _positive(environment: Mapping[str, str], name: str) -> int | None:
    for prefix in ("HEADRACE_GLOBAL_", "INNGEST_GLOBAL_"):
        raw = environment.get(prefix + name, "").strip()
        if raw:
            if not raw.isdigit() or int(raw) == 0:
                raise ThrottlingError(f"{prefix}{name}={raw!r} must be a whole number above zero")
            return int(raw)
    return None
