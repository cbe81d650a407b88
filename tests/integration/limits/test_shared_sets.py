"""Steps of a version that differ by their key only have one set of limits: it is found once, not for each of them."""

from __future__ import annotations

from uuid import UUID

from throttling.models import ThrottleOverride
from workflows import services
from workflows.definitions.validate import parse
from workflows.engine.pipeline import admit
from workflows.models import Flow, Organization
from workflows.services.limits import put_limit

WIDE = [
    {"id": "one", "type": "noop", "needs": []},
    {"id": "two", "type": "noop", "needs": []},
    {"id": "other", "type": "data_transform", "needs": [], "config": {"expression": "1"}},
    {"id": "own", "type": "noop", "needs": [], "throttling": {"concurrency": 3}},
    {"id": "same", "type": "noop", "needs": [], "throttling": {"concurrency": 3}},
]


def version(org: Organization) -> UUID:
    services.apply_definition(org, parse({"flow": "wide", "steps": WIDE}))
    current = Flow.objects.get(organization=org, slug="wide").current
    assert current is not None
    return current.id


def test_alike_steps_share_a_set_and_others_do_not(org: Organization) -> None:
    id_ = version(org)
    limits = {key: admit.limits_of(id_, key) for key in ("one", "two", "other", "own", "same")}
    assert limits["one"] is limits["two"]
    assert limits["other"] is not limits["one"]
    own, same = (set(limits[key].fixed.steps) for key in ("own", "same"))
    assert own != same  # each has a concurrency of its own, by its key
    assert own - same
    assert same - own


def test_a_change_reaches_all_of_them(org: Organization) -> None:
    id_ = version(org)
    before = admit.limits_of(id_, "one")
    flow = Flow.objects.get(organization=org, slug="wide")
    put_limit(ThrottleOverride(scope="flow", org_id=org.id, flow_id=flow.id, concurrency=7), by="test")
    admit.snapshot().reload()
    after = admit.limits_of(id_, "one")
    assert after is not before
    assert after is admit.limits_of(id_, "two")
    assert len(after.fixed.steps) == len(before.fixed.steps) + 1
