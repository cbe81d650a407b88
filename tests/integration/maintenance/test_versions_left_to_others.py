"""Steps of versions that only a newer process can load are left to it."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tests.integration.pipeline.test_bad_versions import NOOP, current, spoil
from tests.support import poison
from tests.support.by_hand import claim, end, start, steps_of
from tests.support.workers import publish
from workflows import services, this_process
from workflows.engine.containers import fan_out
from workflows.engine.maintenance import leader, sweeps
from workflows.engine.pipeline import record
from workflows.engine.run_controls import stopping
from workflows.engine.state import flow_cache, unloadable
from workflows.engine.state.records import ReadyStep, StepResult
from workflows.engine.state.transitions import runs as run_transitions
from workflows.engine.state.transitions import steps as step_transitions
from workflows.engine.waits import resolve
from workflows.errors import ConfigurationFailure, UnloadableVersion
from workflows.models import (
    Attempt,
    Flow,
    Organization,
    Run,
    StepRun,
    SweepFailure,
    Wait,
)
from workflows.steps.outcome import FanOut, WaitFor


@contextlib.contextmanager
def newer(org: Organization, slug: str) -> Iterator[None]:
    """Within, the version is one that only a process of a newer release can load."""
    version = current(org, slug)
    definition = version.definition
    poison.spoil(version.id, {**definition, "made_of": "newer stuff"})
    try:
        yield
    finally:
        poison.spoil(version.id, definition)


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No notes of other tests, and no grace."""
    monkeypatch.setattr("workflows.engine.waits.waits.GRACE_S", 0.0)
    SweepFailure.objects.all().delete()
    sweeps.ledger().forget_memory()
    yield
    SweepFailure.objects.all().delete()
    sweeps.ledger().forget_memory()


def failing_for_long() -> None:
    """What is noted has failed for more than ten minutes, and is due again."""
    long_ago = timezone.now() - dt.timedelta(seconds=2 * sweeps.GIVE_UP_AFTER_S)
    SweepFailure.objects.update(since=long_ago, try_again_at=long_ago)
    sweeps.ledger().forget_memory()


def parent_of(org: Organization) -> tuple[Any, Any]:
    """(a run that waits for another and goes on with a step, that other)."""
    child = start(org, [NOOP], slug="child")
    steps = [{"id": "w", "type": "invoke_flow", "config": {"flow": "child"}}, {"id": "b", "type": "noop"}]
    parent = start(org, steps, slug="parent")
    outcome = WaitFor(kind="run", child_id=child, timeout_s=3600)
    record.record([StepResult(claim=claim(parent, "w"), outcome=outcome)])
    Run.objects.filter(id=child).update(parent_id=parent)
    return parent, child


def test_the_end_of_a_child_leaves_a_newer_parent_to_others(
    org: Organization, published: list[ReadyStep], notes: None
) -> None:
    parent, child = parent_of(org)
    with newer(org, "parent"):
        end(claim(child, "a"))
        assert Run.objects.get(id=child).status == "completed"
        assert steps_of(parent) == {"w": "waiting", "b": "pending"}
        assert Wait.objects.filter(run_id=parent).exclude(taken_at=None).exists()
    resolve.resolve_late()
    assert steps_of(parent) == {"w": "completed", "b": "ready"}


def test_the_end_of_a_child_fails_a_parent_that_nobody_can_load(org: Organization, published: list[ReadyStep]) -> None:
    parent, child = parent_of(org)
    spoil(org, "parent")
    end(claim(child, "a"))
    assert Run.objects.get(id=parent).error["category"] == "configuration"
    assert steps_of(parent)["w"] == "failed"
    Flow.objects.filter(organization=org).update(current=None)


def test_the_end_of_a_wait_of_a_newer_version_is_never_given_up(
    org: Organization, published: list[ReadyStep], notes: None
) -> None:
    parent, child = parent_of(org)
    with newer(org, "parent"):
        end(claim(child, "a"))
        for _ in range(2):
            resolve.resolve_late()
            failing_for_long()
        assert steps_of(parent)["w"] == "waiting"
        assert Wait.objects.filter(run_id=parent).exists()
    resolve.resolve_late()
    assert steps_of(parent) == {"w": "completed", "b": "ready"}


def test_the_end_of_a_container_of_a_newer_version_is_left_to_others(
    org: Organization, published: list[ReadyStep], notes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = start(org, [{"id": "all", "type": "map", "config": {"items": []}, "steps": [{"id": "x", "type": "noop"}]}])
    with monkeypatch.context() as dying:
        dying.setattr(fan_out, "conclude", lambda _: ([], []))
        record.record([StepResult(claim=claim(run_id, "all"), outcome=FanOut(items=[0], parallelism=1))])
        end(claim(run_id, "x"))
    with newer(org, "flow"):
        resolve.conclude_late()
        assert Run.objects.get(id=run_id).is_live
        assert steps_of(run_id)["all"] == "waiting"
    failing_for_long()
    resolve.conclude_late()
    assert Run.objects.get(id=run_id).status == "completed"


def test_a_step_that_only_a_newer_process_can_dispatch_is_never_given_up(
    org: Organization, published: list[ReadyStep], notes: None
) -> None:
    run_id = start(org, [NOOP])
    with newer(org, "flow"):
        for _ in range(2):
            StepRun.objects.filter(run_id=run_id).update(dispatched_at=None, ready_at="2026-01-01T00:00:00Z")
            leader._undispatched()
            failing_for_long()
        assert steps_of(run_id) == {"a": "ready"}


def test_a_claimed_step_of_a_newer_version_is_offered_again_without_end(
    org: Organization, published: list[ReadyStep]
) -> None:
    """However often: these waits are none of those that another side may ask for."""
    run_id = start(org, [NOOP])
    StepRun.objects.filter(run_id=run_id).update(server_retry_waits=10)
    claimed = claim(run_id, "a")
    with newer(org, "flow"):
        ((_, why),) = flow_cache.divide([claimed])[1]
        record.record([unloadable.result_of(claimed, why)])
        row = StepRun.objects.get(run_id=run_id)
        assert (row.status, row.attempt, row.server_retry_waits) == ("waiting", claimed.attempt, 10)
        assert not Attempt.objects.filter(step_run_id=row.id).exists()
    StepRun.objects.filter(run_id=run_id).update(wake_at="2026-01-01T00:00:00Z")
    assert run_id in {step.run_id for step in step_transitions.wake(batch=1_000)}


def test_what_was_performed_of_a_newer_version_goes_back(org: Organization, published: list[ReadyStep]) -> None:
    """Its process knew the version when it claimed the step, and knows it no more."""
    run_id = start(org, [NOOP, {"id": "b", "type": "noop"}])
    claimed = claim(run_id, "a")
    with newer(org, "flow"):
        end(claimed)
        assert steps_of(run_id) == {"a": "waiting", "b": "pending"}


UNDONE = [
    {**NOOP, "on_cancel": ["undo"]},
    {"id": "undo", "type": "noop"},
    {"id": "b", "type": "noop"},
]


def test_what_undoes_the_steps_of_a_newer_version_is_left_to_others(
    org: Organization, published: list[ReadyStep]
) -> None:
    run_id = start(org, UNDONE)
    end(claim(run_id, "a"))
    run_transitions.request_cancel(org.id, [run_id], reason="test")
    with newer(org, "flow"):
        stopping.stop_runs([run_id])
        assert Run.objects.get(id=run_id).is_live
        assert "undo" not in steps_of(run_id)
    stopping.stop_runs([run_id])
    assert steps_of(run_id)["undo"] == "ready"


def test_a_run_of_a_newer_version_that_has_nothing_to_undo_can_be_cancelled(
    org: Organization, published: list[ReadyStep]
) -> None:
    run_id = start(org, [NOOP])
    run_transitions.request_cancel(org.id, [run_id], reason="test")
    with newer(org, "flow"):
        stopping.stop_runs([run_id])
    assert Run.objects.get(id=run_id).status == "cancelled"


def test_a_run_is_not_ended_without_the_output_that_another_process_knows(
    org: Organization, published: list[ReadyStep]
) -> None:
    run_id = start(org, [NOOP], output={"n": "${ 1 + 1 }"})
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('headrace.damage', '1', false)")
        cursor.execute("DELETE FROM headrace_workflows_steprun WHERE run_id = %s", [run_id])
        cursor.execute("SELECT set_config('headrace.damage', '', false)")
    with newer(org, "flow"):
        with pytest.raises(UnloadableVersion):
            record.finish([run_id])
        assert Run.objects.get(id=run_id).is_live
    record.finish([run_id])
    assert Run.objects.get(id=run_id).output == {"n": 2}


# --- whose fault it is ----------------------------------------------------------------------------------------------


def test_a_fault_of_this_process_is_not_the_tenant_s(
    org: Organization, published: list[ReadyStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    version_id = services.published(org, publish(org, [NOOP])).version_id

    def load(raised: BaseException) -> BaseException:
        def fails(*_: Any, **__: Any) -> Any:
            raise raised

        flow_cache.forget()
        monkeypatch.setattr(flow_cache, "compile_flow", fails)
        return flow_cache.load([version_id]).refused[version_id]

    assert flow_cache.is_newer(load(KeyError("a bug")))
    assert not flow_cache.is_newer(load(ConfigurationFailure("the text")))
    for raised in (MemoryError("full"), SystemExit(1), KeyboardInterrupt()):
        with pytest.raises(type(raised)):
            load(raised)
        assert version_id not in this_process.own(flow_cache.Versions).refused
    flow_cache.forget()
