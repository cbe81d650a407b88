"""`get_step_configuration`: which limits and retries hold for a step, in the legacy format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError

from throttling.policy import StepFacts
from workflows.definitions.compiled import NIL_UUID
from workflows.definitions.schema import StepSpec
from workflows.engine.pipeline import admit
from workflows.errors import InvalidInput
from workflows.models import Organization
from workflows.steps.registry import REGISTRY

log = structlog.get_logger("workflows.throttling")


def get_step_configuration(step: Mapping[str, Any], organization: Organization | None = None) -> dict[str, Any]:
    """`{concurrency, rateLimit: {maxExecutions, perMilliseconds}, retry: {maxAttempts, backoff: {type, delay}}}` of a
    step `{type, config}` as it holds now, live overrides included (with an organization, its own too).

    `config` may hold `critical` and `throttlingOverride`, as in a definition; what else it holds is not looked at.
    Times are milliseconds. Raises InvalidInput for an unknown type or what can't be used.
    """
    type_name = step.get("type")
    if type_name not in REGISTRY:
        raise InvalidInput(f"type {type_name!r} is no step type; there are {', '.join(sorted(REGISTRY))}.")
    given = {key: step[key] for key in ("critical", "retry", "throttling") if key in step}
    config = step.get("config") or {}
    if not isinstance(config, Mapping):
        raise InvalidInput("config must be an object, like {'critical': true}.")
    own = {key: config[key] for key in ("critical", "throttlingOverride") if key in config}
    key = str(step.get("id") or "step")
    try:
        spec = StepSpec.model_validate({"id": "step", "type": type_name, "config": own, **given})
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    facts = _facts(spec, key, organization.id if organization else NIL_UUID)
    log.debug(
        "Determining step configuration for throttling",
        stepId=key,
        stepType=type_name,
        isCritical=spec.critical is not False,
    )
    policy = admit.policies().effective(facts)
    return {
        "concurrency": policy.concurrency,
        "rateLimit": {"maxExecutions": policy.rate.max_executions, "perMilliseconds": policy.rate.per_ms},
        "retry": {
            "maxAttempts": policy.retry.max_attempts,
            "backoff": {"type": str(policy.retry.backoff), "delay": policy.retry.delay_ms},
        },
    }


def _facts(spec: StepSpec, key: str, org_id: UUID) -> StepFacts:
    step_type = REGISTRY[spec.type]
    facts = StepFacts(
        type=spec.type,
        critical=spec.critical is True,
        key=key,
        flow_id=NIL_UUID,
        org_id=org_id,
        version=0,
        lane=step_type.queue,
        throttling=spec.throttling.declared() if spec.throttling else None,
    )
    if spec.retry is None:
        return facts
    return replace(facts, retry=spec.retry.policy(admit.policies().retry(facts)))
