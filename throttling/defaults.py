"""The shipped policy table (docs/reference/policies.md)."""

from __future__ import annotations

from throttling.limits import RateLimit, StepPolicy
from throttling.retry import LONG_DELAY_MS, LONG_MAX_DELAY_MS, BackoffKind, RetryPolicy

GLOBAL = StepPolicy(
    concurrency=10,
    rate=RateLimit(max_executions=100, per_ms=60_000),
    retry=RetryPolicy(max_attempts=3, backoff=BackoffKind.EXPONENTIAL, delay_ms=2_000),
)

_API = StepPolicy(
    concurrency=5,
    rate=RateLimit(max_executions=10, per_ms=10_000),
    retry=RetryPolicy(max_attempts=3, backoff=BackoffKind.EXPONENTIAL, delay_ms=3_000),
)
_API_CRITICAL = StepPolicy(
    concurrency=2,
    rate=RateLimit(max_executions=10, per_ms=10_000),
    retry=RetryPolicy(max_attempts=5, backoff=BackoffKind.EXPONENTIAL, delay_ms=3_000),
)
_COMPUTE = StepPolicy(
    concurrency=3,
    rate=RateLimit(max_executions=20, per_ms=30_000),
    retry=RetryPolicy(max_attempts=2, backoff=BackoffKind.FIXED, delay_ms=5_000),
)
_LIGHT = StepPolicy(
    concurrency=15,
    rate=RateLimit(max_executions=50, per_ms=30_000),
    retry=RetryPolicy(max_attempts=2, backoff=BackoffKind.FIXED, delay_ms=1_000),
)
_PUBLISH = StepPolicy(
    concurrency=20,
    rate=RateLimit(max_executions=200, per_ms=60_000),
    retry=RetryPolicy(max_attempts=2, backoff=BackoffKind.FIXED, delay_ms=500),
)

_TASK = StepPolicy(
    concurrency=1_000,
    rate=RateLimit(max_executions=10_000, per_ms=60_000),
    retry=RetryPolicy(max_attempts=1, backoff=BackoffKind.NONE, delay_ms=0),
)
"""A Celery task has a queue, workers and retries of its own: only what the step says is added to them."""

BY_TYPE: dict[str, StepPolicy] = {
    "http_request": _API,
    "oauth_api_call": _API,
    "sandbox_sync": _COMPUTE,
    "sandbox_async": _COMPUTE,
    "code_execution": _COMPUTE,
    "data_transform": _LIGHT,
    "conditional": _LIGHT,
    "publish_event": _PUBLISH,
    "celery_task": _TASK,
}
CRITICAL_BY_TYPE: dict[str, StepPolicy] = {"http_request": _API_CRITICAL, "oauth_api_call": _API_CRITICAL}

PRESETS: dict[str, RetryPolicy] = {
    "email": RetryPolicy(max_attempts=6, backoff=BackoffKind.EXPONENTIAL, delay_ms=2_000),
    "payment": RetryPolicy(max_attempts=4, backoff=BackoffKind.FIXED, delay_ms=30_000),
    "report": RetryPolicy(max_attempts=3, backoff=BackoffKind.NONE, delay_ms=0),
    "webhook": RetryPolicy(max_attempts=6, backoff=BackoffKind.EXPONENTIAL, delay_ms=2_000),
    "data_sync": RetryPolicy(
        max_attempts=11,
        backoff=BackoffKind.LONG_EXPONENTIAL,
        delay_ms=LONG_DELAY_MS,
        max_delay_ms=LONG_MAX_DELAY_MS,
    ),
    "image": RetryPolicy(max_attempts=3, backoff=BackoffKind.FIXED, delay_ms=10_000),
    "demo": RetryPolicy(max_attempts=6, backoff=BackoffKind.EXPONENTIAL, delay_ms=1_000),
}

SIZES: dict[str, tuple[int, RateLimit]] = {
    "512mb": (5, RateLimit(max_executions=50, per_ms=60_000)),
    "1gb": (10, RateLimit(max_executions=100, per_ms=60_000)),
    "2gb": (20, RateLimit(max_executions=200, per_ms=60_000)),
    "4gb": (40, RateLimit(max_executions=400, per_ms=60_000)),
}
"""By a server's memory: runs at once, and starts of runs per minute (`HEADRACE_SIZE`)."""
NO_SIZE = "off"
"""Whole runs have no limits."""
SHIPPED_SIZE = "1gb"
"""Of a new database. One that was made before runs had limits goes on without."""
