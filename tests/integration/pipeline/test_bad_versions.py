"""A version that can't be loaded: its runs fail once, with a dead letter that names the path, and no others do."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from dlq.models import DeadLetter
from tests.support import poison
from tests.support.by_hand import claim, end, start, steps_of
from tests.support.poison import doctor
from tests.support.workers import WorkerPool, await_end, await_that, nobody_dispatches, publish
from workflows import services
from workflows.engine.events import matching
from workflows.engine.pipeline import publish as dispatch
from workflows.engine.pipeline import record
from workflows.engine.run_controls import stopping
from workflows.engine.sql import rescue as rescue_sql
from workflows.engine.state import flow_cache
from workflows.engine.state.records import ReadyStep, StepResult
from workflows.engine.state.transitions import runs as run_transitions
from workflows.engine.waits import resolve
from workflows.errors import UnloadableVersion
from workflows.models import (
    Event,
    Flow,
    FlowVersion,
    Organization,
    Run,
    StepRun,
    TriggerOutcome,
    Wait,
)
from workflows.steps.outcome import WaitFor

NOOP = {"id": "a", "type": "noop"}
HOUR = {"id": "a", "type": "delay", "config": {"for": "1h"}}


def current(org: Organization, slug: str) -> FlowVersion:
    return FlowVersion.objects.get(id__in=Flow.objects.filter(organization=org, slug=slug).values("current_id"))


def spoil(org: Organization, slug: str, **more: Any) -> FlowVersion:
    """Make the stored version one that does not compile: its first step's condition has no end."""
    version = current(org, slug)
    definition = version.definition
    definition["steps"][0]["if"] = "1 +"
    definition.update(more)
    poison.spoil(version.id, definition)
    return version


def letters(run_id: Any) -> list[tuple[str, bool]]:
    rows = DeadLetter.objects.filter(run_id=run_id)
    return [(row.category, "steps[0].if" in row.error_message) for row in rows]


def test_what_loads_is_given_back_and_of_the_rest_why_not(org: Organization) -> None:
    good, bad = (services.published(org, publish(org, [NOOP], slug=slug)).version_id for slug in ("good", "bad"))
    spoil(org, "bad")
    unknown = org.id
    loaded = flow_cache.load([good, bad, unknown])
    assert set(loaded.flows) == {good}
    error = loaded.refused[bad]
    assert isinstance(error, UnloadableVersion)
    assert (error.path, error.newer, error.category) == ("steps[0].if", False, "configuration")
    assert "publish the flow again" in str(error)
    assert set(loaded.refused) == {bad, unknown}
    assert doctor()["unloadableVersions"] >= 1
    assert any(each["version"] == str(bad) and "steps[0].if" in each["reason"] for each in doctor()["versions"])
    with pytest.raises(UnloadableVersion, match="can't be loaded"):
        services.trigger(org, "bad")
    Flow.objects.filter(organization=org).update(current=None)


def test_a_run_of_a_bad_version_fails_once_and_the_others_of_its_group_go_on(
    org: Organization, other: Organization, published: list[ReadyStep]
) -> None:
    with nobody_dispatches() as collected:
        bad = services.trigger_many(org, publish(org, [NOOP]), [{}] * 3).run_ids
        good = start(other, [NOOP])
    spoil(org, "flow")
    dispatch.dispatch(collected)
    assert [step.run_id for step in published] == [good]
    for run_id in bad:
        assert Run.objects.get(id=run_id).status == "failed"
        assert letters(run_id) == [("configuration", True)]
    Flow.objects.filter(organization=org).update(current=None)


def test_a_worker_fails_the_steps_of_a_bad_version_that_it_claims(
    org: Organization, other: Organization, own_workers: WorkerPool
) -> None:
    """The messages are in the broker when the version goes bad: the worker claims both steps in a visit."""
    bad = services.trigger(org, publish(org, [NOOP])).run_ids[0]
    good = services.trigger(other, publish(other, [NOOP])).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id__in=(bad, good)).exclude(dispatched_at=None).count() == 2)
    spoil(org, "flow")
    own_workers.start("io")
    own_workers.await_ready(1)
    assert await_end(other, good).run.status == "completed"
    await_that(lambda: Run.objects.get(id=bad).status == "failed", what="the failure")
    assert letters(bad) == [("configuration", True)]
    assert StepRun.objects.get(run_id=bad).losses == 0
    Flow.objects.filter(organization=org).update(current=None)


def test_the_end_of_a_wait_of_a_bad_version_fails_its_run(org: Organization, published: list[ReadyStep]) -> None:
    """What would follow is not known, so it must not be recorded as if nothing did."""
    run_id = start(
        org, [{"id": "w", "type": "wait_for_event", "config": {"event": "x/y"}}, {"id": "b", "type": "noop"}]
    )
    outcome = WaitFor(kind="event", event_name="x/y", timeout_s=3600)
    record.record([StepResult(claim=claim(run_id, "w"), outcome=outcome)])
    spoil(org, "flow")
    Wait.objects.filter(run_id=run_id).update(expires_at="2026-01-01T00:00:00Z")
    while resolve.expire():
        pass
    assert Run.objects.get(id=run_id).status == "failed"
    assert letters(run_id) == [("configuration", True)]
    Flow.objects.filter(organization=org).update(current=None)


def test_runs_of_a_bad_version_can_be_cancelled_with_others(
    org: Organization, other: Organization, published: list[ReadyStep]
) -> None:
    steps = [{**NOOP, "on_cancel": ["undo"]}, {"id": "undo", "type": "noop"}, {"id": "b", "type": "noop"}]
    bad, good = start(org, steps), start(other, [NOOP])
    end(claim(bad, "a"))
    spoil(org, "flow")
    for owner, run_id in ((org, bad), (other, good)):
        run_transitions.request_cancel(owner.id, [run_id], reason="test")
    stopping.stop_runs([bad, good])
    assert {Run.objects.get(id=run_id).status for run_id in (bad, good)} == {"cancelled"}
    Flow.objects.filter(organization=org).update(current=None)


@pytest.mark.parametrize("spoilt", ["schema", "version"])
def test_an_event_starts_the_other_flows_that_hear_it(
    spoilt: str, org: Organization, other: Organization, published: list[ReadyStep]
) -> None:
    """A schema that can't be resolved (the flow goes on without it), and a version that does not load: of one flow among
    three."""
    for owner, slug in ((org, "bad"), (org, "good"), (other, "theirs")):
        publish(owner, [HOUR], slug=slug, on={"event": "order/paid"})
    if spoilt == "schema":
        version = current(org, "bad")
        definition = {**version.definition, "input_schema": {"$ref": "#/nowhere"}}
        poison.spoil(version.id, definition)
    else:
        spoil(org, "bad")
    past = timezone.now() - dt.timedelta(seconds=30)
    made = [Event.objects.create(org_id=each.id, name="order/paid", data={}, ts=past) for each in (org, other)]
    Event.objects.filter(id__in=[event.id for event in made]).update(received_at=past)
    matching.match_left_over()
    started = Run.objects.filter(event_id__in=[event.id for event in made]).values_list("flow__slug", flat=True)
    assert sorted(started) == (["bad", "good", "theirs"] if spoilt == "schema" else ["good", "theirs"])
    assert not Event.objects.filter(id__in=[event.id for event in made], matched_at=None).exists()
    codes = [row.code for row in TriggerOutcome.objects.filter(event_id=made[0].id)]
    assert codes == ([] if spoilt == "schema" else ["invalid"])
    Flow.objects.filter(organization=org).update(current=None)


def test_a_run_of_a_bad_version_can_be_read_and_its_organization_s_limits_too(
    org: Organization, api_key: str, published: list[ReadyStep]
) -> None:
    run_id = start(org, [NOOP], concurrency=[{"limit": 3}])
    start(org, [NOOP], slug="good", concurrency=[{"limit": 4}])
    spoil(org, "flow")
    client = Client(headers={"authorization": f"Bearer {api_key}"})
    run = client.get(f"/api/runs/{run_id}")
    assert run.status_code == 200
    assert len(run.json()["steps"]) == 1
    assert client.get("/api/limits").status_code == 200
    Flow.objects.filter(organization=org).update(current=None)


def test_what_a_newer_process_may_load_is_left_to_it(org: Organization, published: list[ReadyStep]) -> None:
    run_id = start(org, [NOOP])
    published.clear()
    StepRun.objects.filter(run_id=run_id).update(dispatched_at=None, ready_at="2026-01-01T00:00:00Z")
    version = current(org, "flow")
    definition = version.definition
    poison.spoil(version.id, {**definition, "made_of": "newer stuff"})
    rows = rescue_sql.rescue_undispatched(batch=1_000, queues=["headrace.io"], put_off=[])
    dispatch.dispatch([ReadyStep.of(row) for row in rows if row.run_id == run_id])
    assert steps_of(run_id) == {"a": "ready"}
    assert not published
    poison.spoil(version.id, definition)
