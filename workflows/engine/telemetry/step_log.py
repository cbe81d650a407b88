"""One log line per step: how long it ran, and how long it waited for its limits."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Iterable
from typing import Any
from uuid import UUID

import structlog

from throttling.limits import StepPolicy
from workflows.engine.pipeline import admit
from workflows.engine.pipeline.perform import Visit
from workflows.engine.state import flow_cache
from workflows.engine.state.records import StepResult
from workflows.steps.outcome import Completed, Failed

log = structlog.get_logger("workflows.throttling")
_stdlib = logging.getLogger("workflows.throttling")


def throttling_config(policy: StepPolicy) -> dict[str, Any]:
    """`throttlingConfig`: the limits of a step, in the legacy format."""
    return {
        "concurrency": policy.concurrency,
        "rateLimit": str(policy.rate),
        "maxRetries": policy.retry.max_attempts,
    }


def log_configuration(visits: Iterable[Visit]) -> None:
    """Log at debug which policy each step is looked up by."""
    if not _stdlib.isEnabledFor(logging.DEBUG):
        return
    for visit in visits:
        log.debug(
            "Determining step configuration for throttling",
            stepId=visit.claim.key,
            stepType=visit.claim.type,
            isCritical=visit.step.stops_run,
            run_id=str(visit.claim.run_id),
        )


def log_steps(results: Iterable[StepResult], statuses: Container[UUID]) -> None:
    """Log `throttling metrics` for every step that has ended; times in whole milliseconds."""
    if not _stdlib.isEnabledFor(logging.INFO):
        return
    now = time.monotonic()
    for result in results:
        claim = result.claim
        if claim.id not in statuses or not isinstance(result.outcome, Completed | Failed):
            continue
        flow = flow_cache.find(claim.version_id)
        step = flow.steps.get(claim.key) if flow is not None else None
        if flow is None or step is None:
            continue
        duration = round((now - result.started) * 1000) if result.started is not None else 0
        overhead = round(claim.queued_s * 1000)
        log.info(
            "throttling metrics",
            org=str(claim.org_id),
            flow=flow.slug,
            run_id=str(claim.run_id),
            step_run_id=str(claim.id),
            attempt=claim.attempt,
            stepId=claim.key,
            stepType=claim.type,
            executionId=str(claim.run_id),
            duration=duration,
            totalStepTime=duration + overhead,
            throttlingOverhead=overhead,
            retryCount=claim.attempt - 1,
            throttlingConfig=throttling_config(admit.policies().effective(step.facts)),
        )
