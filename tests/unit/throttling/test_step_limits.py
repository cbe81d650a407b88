"""Which limits apply to a step, by its definition, the shipped table and overrides."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from throttling import overrides
from throttling.models import ThrottleOverride
from throttling.policy import Policies, StepFacts
from workflows.definitions.compiled import compile_flow
from workflows.definitions.validate import DefinitionProblems, parse


def facts(step_: dict[str, Any], **flow: Any) -> StepFacts:
    spec = parse({"flow": "f", "steps": [{"id": "a", **step_}], **flow})
    return compile_flow(spec, version_id=uuid.uuid4(), flow_id=uuid.uuid4(), org_id=uuid.uuid4()).steps["a"].facts


def bounds(found: StepFacts, policies: Policies | None = None) -> dict[str, str]:
    kinds = {}
    for limit in (policies or Policies()).limits(found):
        name = str(limit.name).replace(str(found.org_id), "ORG").replace(str(found.flow_id), "FLOW")
        kinds[name] = limit.bound.value if limit.bound else "pause"
    return kinds


HTTP = {"type": "http_request", "config": {"url": "https://api.example/x"}}


def test_a_step_meets_its_types_limits_its_providers_pause_and_the_global_ones() -> None:
    assert bounds(facts(HTTP)) == {
        "type:http_request:ORG:concurrency": "5",
        "type:http_request:ORG:rate": "10,10000000",
        "provider:ORG:api.example": "pause",
        "global:concurrency": "10",
        "global:rate": "100,60000000",
    }


def test_critical_steps_have_a_stricter_limit_within_that_of_their_type() -> None:
    found = facts({**HTTP, "critical": True})
    assert bounds(found)["type:http_request:ORG:critical:concurrency"] == "2"
    assert Policies().effective(found).concurrency == 2
    assert Policies().effective(found).retry.max_attempts == 5
    assert Policies().effective(facts(HTTP)).concurrency == 5


def test_a_steps_own_throttling_replaces_that_of_its_type_by_dimension() -> None:
    found = bounds(facts({**HTTP, "throttling": {"concurrency": 1}}))
    assert found["step:FLOW:a:concurrency"] == "1"
    assert "type:http_request:ORG:concurrency" not in found
    assert found["type:http_request:ORG:rate"] == "10,10000000"


def test_the_legacy_throttling_override_is_accepted_whole() -> None:
    bulk_import = {
        "type": "sandbox_sync",
        "config": {
            "code": "return 1",
            "critical": True,
            "throttlingOverride": {
                "concurrency": 1,
                "rateLimit": {"maxExecutions": 5, "perMilliseconds": 60_000},
                "retry": {"maxAttempts": 4, "backoff": {"type": "exponential", "delay": 700}},
            },
        },
    }
    policy = Policies().effective(facts(bulk_import))
    assert (policy.concurrency, str(policy.rate), policy.retry.max_attempts) == (1, "5/60000ms", 4)
    assert (policy.retry.backoff, policy.retry.delay_ms) == ("exponential", 700)


def test_flows_declare_limits_of_steps_and_of_runs() -> None:
    found = bounds(
        facts(
            {"type": "noop"},
            concurrency=[{"limit": 5, "key": "event.data.customerId"}, {"limit": 20, "scope": "run"}],
            throttle={"limit": 20, "period": "60s", "burst": 3},
        )
    )
    assert found["flow:FLOW:0:concurrency"] == "5"
    assert found["run:FLOW:1:concurrency"] == "20"
    assert found["run:FLOW:2:rate"] == "20,60000000,3"


def test_overrides_replace_values_the_closest_first() -> None:
    found = facts(HTTP)
    everywhere = ThrottleOverride(scope="type", type="http_request", concurrency=7, max_attempts=9)
    here = ThrottleOverride(scope="type", type="http_request", org_id=found.org_id, concurrency=3)
    tenant = ThrottleOverride(scope="org", org_id=found.org_id, rate_limit=4, rate_period_ms=500, weight=2.5)
    rows = [overrides.as_override(row) for row in (everywhere, here, tenant)]
    policies = Policies(overrides={row.subject: row for row in rows}, revision=3)
    limits = bounds(found, policies)
    assert limits["type:http_request:ORG:concurrency"] == "3"
    assert limits["org:ORG:rate"] == "4,500000"
    assert policies.retry(found).max_attempts == 9
    assert policies.weight(found.org_id) == 2.5
    other = facts(HTTP)
    assert bounds(other, policies)["type:http_request:ORG:concurrency"] == "7"


@pytest.mark.parametrize(
    ("throttling", "reason"),
    [
        ({"concurrency": 0}, "greater than or equal to 1"),
        ({"concurrency": -3}, "greater than or equal to 1"),
        ({"concurrency": 1.5}, "valid integer"),
        ({"concurrency": 10**9}, "less than or equal to 1000000"),
        ({"rate": {"limit": 0, "period": "1s"}}, "greater than or equal to 1"),
        ({"rate": {"limit": 5, "period": 0}}, "greater than or equal to 1"),
        ({"rate": {"limit": 5}}, "required"),
        ({"rate": {"limit": 5, "period": "1s", "burst": 2}}, "burst belongs to algorithm: gcra"),
        ({"limit": "x", "concurrency": 2}, "give either limit"),
        ({}, "give concurrency, rate, limit or key"),
        ({"key": "event.data.("}, "key"),
    ],
)
def test_bad_limits_are_refused_with_the_reason(throttling: dict[str, Any], reason: str) -> None:
    with pytest.raises(DefinitionProblems) as refused:
        parse({"flow": "f", "steps": [{"id": "a", "type": "noop", "throttling": throttling}]})
    assert reason in str(refused.value)
