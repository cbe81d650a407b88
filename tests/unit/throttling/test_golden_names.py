"""Names and definitions of limits are what the release before wrote: the store's strings must not change.

`golden_names.json` was written by the code from before `LimitName`, when every place built and cut strings by itself.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from throttling import overrides, policy
from throttling.limits import Limit, LimitSet, queue_limit
from throttling.models import ThrottleOverride
from throttling.policy import Policies, StepFacts
from workflows.definitions.compiled import compile_flow
from workflows.definitions.validate import parse
from workflows.engine.maintenance import gate_sync
from workflows.selectors.limits import describe

GOLDEN = Path(__file__).with_name("golden_names.json")
ORG, FLOW, OTHER = (uuid.UUID(int=number, version=4) for number in (7 << 90, 8 << 90, 9 << 90))
HTTP = {"type": "http_request", "config": {"url": "https://API.example:8443/x"}}
IPV6 = {"type": "http_request", "config": {"url": "http://[2001:db8::1]/x"}}
KEYS = (None, "k", "a@b:c", "ä|ö", "1")
STEPS: dict[str, dict[str, Any]] = {
    "plain": {"type": "noop"},
    "http": HTTP,
    "address": IPV6,
    "critical": {**HTTP, "critical": True},
    "own": {**HTTP, "throttling": {"concurrency": 3, "rate": {"limit": 4, "period": "2s"}, "key": "event.data.c"}},
    "even": {
        "type": "noop",
        "throttling": {"rate": {"limit": 5, "period": "1s", "algorithm": "gcra", "burst": 2, "key": "input.r"}},
    },
    "shared": {"type": "noop", "throttling": {"limit": "stripe-api"}},
    "shared_by_all": {"type": "noop", "throttling": {"limit": "everyone", "key": "event.data.c"}},
    "script": {"type": "sandbox_sync", "config": {"code": "1"}},
    "detached": {"type": "sandbox_async", "config": {"code": "1"}},
}
DECLARED: dict[str, Any] = {
    "concurrency": [{"limit": 5, "key": "event.data.c"}, {"limit": 20, "scope": "run", "level": "high"}],
    "throttle": {"limit": 20, "period": "60s", "burst": 3},
}
ROWS = [
    ThrottleOverride(scope="global", concurrency=8, rate_limit=9, rate_period_ms=700),
    ThrottleOverride(scope="runs", concurrency=6, rate_limit=3, rate_period_ms=900),
    ThrottleOverride(scope="type", type="http_request", concurrency=7),
    ThrottleOverride(scope="type", type="http_request", org_id=ORG, rate_limit=2, rate_period_ms=10, key="input.r"),
    ThrottleOverride(scope="flow", flow_id=FLOW, org_id=ORG, concurrency=4, rate_limit=1, rate_period_ms=50),
    ThrottleOverride(scope="org", org_id=ORG, concurrency=12, rate_limit=13, rate_period_ms=40, key="input.r"),
    ThrottleOverride(scope="limit", name="stripe-api", org_id=ORG, concurrency=2, rate_limit=5, rate_period_ms=60),
    ThrottleOverride(
        scope="limit", name="everyone", concurrency=3, rate_limit=5, rate_period_ms=60, rate_algorithm="gcra",
        rate_burst=4,
    ),
    ThrottleOverride(scope="pause", flow_id=FLOW, org_id=ORG),
    ThrottleOverride(scope="drain", org_id=ORG),
    ThrottleOverride(scope="pause", name="headrace.io"),
]  # fmt: skip


def facts_of(step: dict[str, Any], flow: dict[str, Any]) -> StepFacts:
    spec = parse({"flow": "f", "steps": [{"id": "a", **step}], **flow})
    return compile_flow(spec, version_id=OTHER, flow_id=FLOW, org_id=ORG).steps["a"].facts


def cases() -> Iterator[tuple[str, Policies, StepFacts]]:
    found = [overrides.as_override(row) for row in ROWS]
    both = {"shipped": Policies(), "overridden": Policies(overrides={o.subject: o for o in found}, revision=31)}
    for how, policies in both.items():
        for name, step in STEPS.items():
            for declared in ({}, DECLARED):
                yield f"{how} {name} {'declared' if declared else ''}".strip(), policies, facts_of(step, declared)


def limit_as_json(policies: Policies, limit: Limit) -> dict[str, Any]:
    instances = [limit.instance(key) for key in KEYS]
    return {
        "name": str(limit.name),
        "definition": str(limit.definition),
        "instances": instances,
        "described": [describe(instance) for instance in instances],
        "title": limit.title if limit.bound else "",  # shown where a key fails: a provider's pause has none
        "override": policies.override_value(limit.name),  # as `bring_policies` asks for it
    }


def set_as_json(limits: LimitSet) -> dict[str, Any]:
    return {
        "text": limits.text,
        "definitions": dict(limits.definitions),
        "paused": list(limits.paused_by_provider),
        "of_child": limits.of_child(frozenset({FLOW})).text,
        "of_another": limits.of_child(frozenset({OTHER})).text,
    }


def collect() -> dict[str, Any]:
    """Everything that reaches the store or a reader: the limits by their names, and the sets of limits by case."""
    found: dict[str, Any] = {"shipped": {}, "overridden": {}}
    for name, policies, facts in cases():
        limits = [*policies.limits(facts, lenient=True), queue_limit(facts.lane)]
        for limit in limits:
            of_name = found["overridden" if policies.revision else "shipped"].setdefault(str(limit.name), [])
            of_name += [entry for entry in [limit_as_json(policies, limit)] if entry not in of_name]
        found[name] = set_as_json(LimitSet.of([(limit, "k" if limit.key else None) for limit in limits]))
    found["a queue"] = str(queue_limit("headrace.io", 9).definition)
    lanes = {"headrace.io": 3, "headrace.compute": 0, "headrace.compute.scripts": 4}
    for shared in (False, True):
        found[f"queues {shared}"] = gate_sync.queue_definitions(lanes, shared=shared)
    return found


def test_the_stores_strings_are_those_of_the_release_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "BOOT", 1_700_000_000)
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_123_456_789)
    assert collect() == json.loads(GOLDEN.read_text("utf-8"))
