"""Predicting and changing limits by command."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from tests.support.workers import publish
from throttling import overrides
from throttling.limits import RateLimit
from throttling.models import ThrottleOverride
from workflows import services
from workflows.models import Organization
from workflows.selectors import limits
from workflows.simulation import forecast as simulation


def test_a_simulation_names_the_limit_that_binds(org: Organization) -> None:
    steps = [{"id": "a", "type": "noop", "throttling": {"concurrency": 2}}, {"id": "b", "type": "noop"}]
    flow = services.published(org, publish(org, steps))
    forecast = simulation.Simulation(org, flow, durations_s={"a": 1.0, "b": 0.1}).run([0.0] * 10)
    assert forecast.runs == 10
    assert forecast.ended_s == pytest.approx(5.1, abs=0.05)
    limit, share = forecast.binding[0]
    assert limits.describe(limit) == "the concurrency limit of step a"
    assert share == 1.0
    out = StringIO()
    call_command(
        "limits", "--org", org.slug, "simulate", "--flow", "flow", "--burst", "10", "--duration", "a=1s", stdout=out
    )
    assert "100% of the waiting is for the concurrency limit of step a" in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--flow", "missing", "--burst", "1"], "no flow"),
        (["--flow", "flow"], "Say how runs arrive"),
        (["--flow", "flow", "--rate", "often"], "write 20/60s"),
        (["--flow", "flow", "--burst", "100000"], "simulate a shorter time"),
        (["--flow", "flow", "--burst", "1", "--duration", "x=1s"], "STEP=TIME"),
        (["--flow", "flow", "--burst", "1", "--input", "{"], "no JSON"),
    ],
)
def test_a_simulation_that_makes_no_sense_says_so(org: Organization, arguments: list[str], reason: str) -> None:
    publish(org, [{"id": "a", "type": "noop"}])
    with pytest.raises(CommandError, match=reason):
        call_command("limits", "--org", org.slug, "simulate", *arguments, stdout=StringIO())


def test_set_and_unset_by_command(org: Organization) -> None:
    out = StringIO()
    call_command(
        "limits", "--org", org.slug, "set", "--limit", "stripe-api", "--rate", "20/60s", "--note", "x", stdout=out
    )
    row = ThrottleOverride.objects.get(org_id=org.id, name="stripe-api")
    assert overrides.as_override(row).rate == RateLimit(max_executions=20, per_ms=60_000)
    call_command("limits", "--org", org.slug, "history", stdout=out)
    call_command("limits", "--org", org.slug, "list", stdout=out)
    call_command("limits", "--org", org.slug, "unset", "--limit", "stripe-api", stdout=out)
    assert not ThrottleOverride.objects.filter(org_id=org.id, name="stripe-api").exists()
    with pytest.raises(CommandError, match="Name one of"):
        call_command("limits", "--org", org.slug, "set", "--concurrency", "1", stdout=out)
    assert "stripe-api" in out.getvalue()
