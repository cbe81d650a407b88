"""One log line per step: how long it ran, and how long it waited for its limits."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Iterable, Mapping
from typing import Any
from uuid import UUID

import structlog

from throttling.limits import StepPolicy
from workflows import this_process
from workflows.definitions.compiled import CompiledStep
from workflows.edge.log_lines import Lines
from workflows.engine.pipeline import admit
from workflows.engine.pipeline.perform import Visit
from workflows.engine.state import flow_cache
from workflows.engine.state.records import StepResult
from workflows.steps.outcome import Completed, Failed

log = structlog.get_logger("workflows.throttling")
lines = Lines("workflows.throttling")
MAX_KNOWN = 10_000


class KnownConfigs(dict[tuple[UUID, str], tuple[int, dict[str, Any]]]):
    """`throttlingConfig` of each step as this process has last found it, with the revision of the policies."""


def throttling_config(policy: StepPolicy) -> dict[str, Any]:
    """`throttlingConfig`: the limits of a step, in the legacy format."""
    return {
        "concurrency": policy.concurrency,
        "rateLimit": str(policy.rate),
        "maxRetries": policy.retry.max_attempts,
    }


def log_configuration(visits: Iterable[Visit]) -> None:
    """Log at debug which policy each step is looked up by."""
    if not lines.are_wanted(logging.DEBUG):
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
    if not lines.are_wanted():
        return
    now = time.monotonic()
    rows = []
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
        run_id = str(claim.run_id)
        rows.append(
            {
                "org": str(claim.org_id),
                "flow": flow.slug,
                "run_id": run_id,
                "step_run_id": str(claim.id),
                "attempt": claim.attempt,
                "stepId": claim.key,
                "stepType": claim.type,
                "executionId": run_id,
                "duration": duration,
                "totalStepTime": duration + overhead,
                "throttlingOverhead": overhead,
                "retryCount": claim.attempt - 1,
                "throttlingConfig": config_of(claim.version_id, step),
            }
        )
    lines.info("throttling metrics", rows)


def config_of(version_id: UUID, step: CompiledStep) -> Mapping[str, Any]:
    """`throttlingConfig` of a step of a version, by the policies as they are now."""
    policies, known = admit.policies(), this_process.own(KnownConfigs)
    revision, config = known.get((version_id, step.key), (-1, {}))
    if revision != policies.revision:
        if len(known) >= MAX_KNOWN:
            known.clear()
        config = throttling_config(policies.effective(step.facts))
        known[version_id, step.key] = policies.revision, config
    return config
