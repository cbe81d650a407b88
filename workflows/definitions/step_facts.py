"""What the policy and the limits of a step depend on: its definition, its flow, its type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit
from uuid import UUID

from throttling.limits import StepPolicy
from throttling.policy import StepFacts, step_policy
from throttling.retry import RetryPolicy
from workflows.definitions.schema import FUNCTION, FlowSpec, StepSpec
from workflows.steps.registry import StepType


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The flow that a step belongs to, as it is compiled. `chains`: by step, its fallbacks."""

    flow_id: UUID
    org_id: UUID
    number: int
    spec: FlowSpec
    chains: Mapping[str, tuple[str, ...]]


def facts_of(step: StepSpec, step_type: StepType, retry: RetryPolicy | None, owner: Owner) -> StepFacts:
    """What the live policy of a step is found by."""
    return StepFacts(
        type=step.type,
        critical=step.critical is True,
        key=step.id,
        flow_id=owner.flow_id,
        org_id=owner.org_id,
        version=owner.number,
        lane=step_type.lane_of(step.config),
        queue=step_type.queue,
        retry=retry,
        throttling=step.throttling.declared() if step.throttling else None,
        flow_limits=owner.spec.limits,
        provider=_provider(step) if step_type.outbound else "",
        only_drives=step.type == FUNCTION,
    )


def _provider(step: StepSpec) -> str:
    """The host of a URL that says it outright; one made by a template is not known before the step runs."""
    url = str(step.config.get("url", ""))
    parts = urlsplit(url.split("${", 1)[0])
    is_whole = "${" not in url or parts.path not in {"", None}
    return (parts.hostname or "").lower() if is_whole and parts.scheme in {"http", "https"} else ""


def policy_of(step: StepSpec, owner: Owner) -> tuple[StepPolicy, RetryPolicy | None]:
    """What holds for the step as it is defined, and the retries that the definition itself gives."""
    policy = step_policy(step.type, critical=step.critical is True)
    retry = owner.spec.retry.policy(policy.retry) if owner.spec.retry else None
    retry = step.retry.policy(retry or policy.retry) if step.retry else retry
    return replace(policy, retry=retry or policy.retry), retry


def has_keys(step: StepSpec, owner: Owner) -> bool:
    """Whether a limit of the step is kept apart by what an expression gives."""
    own = step.throttling
    return any(limit.key for limit in owner.spec.limits) or bool(
        own and (own.key or own.limit or (own.rate and own.rate.key))
    )
