"""When the leader looks: by the next timer, and by hints of what is due sooner than its next look."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import threading
from collections.abc import Iterator
from uuid import UUID

import pytest
from django.db import transaction
from django.utils import timezone

from config.env import BASE_DIR
from tests.integration.maintenance.sweep_cases import NOOP, clean, turn  # noqa: F401  (clean: a fixture)
from tests.support.by_hand import NO, claim, start
from tests.support.workers import await_that, publish
from throttling.gate import Gate
from workflows import services, this_process
from workflows.engine.maintenance import leader
from workflows.engine.pipeline import admit, hints, record
from workflows.engine.state.records import ReadyStep, StepResult
from workflows.models import Organization, StepRun
from workflows.steps.outcome import Outcome, Retry, Sleep

FROM_ANOTHER = """
import django
django.setup()
from workflows.engine.pipeline import hints
hints.send()
"""


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """A hint each that the leader, which is this process, was given."""
    given: list[int] = []
    this_process.own(hints.Hints).lead(lambda: given.append(1))
    yield given
    this_process.own(hints.Hints).lead(None)


def record_as(run_id: UUID, outcome: Outcome) -> None:
    """Perform the run's only step by hand."""
    record.record([StepResult(claim=claim(run_id, "a"), outcome=outcome)])


def test_the_leader_sleeps_until_the_next_timer(org: Organization, published: list[ReadyStep]) -> None:
    run_id = start(org, [NOOP])
    record_as(run_id, Sleep(seconds=0.9))
    assert leader.pump_timers(turn()) <= 0.9
    StepRun.objects.filter(run_id=run_id).update(wake_at=timezone.now() - dt.timedelta(seconds=1))
    leader.pump_timers(turn())
    step = StepRun.objects.get(run_id=run_id)
    assert (step.status, step.wake_at) == ("ready", None)


def test_a_hint_comes_from_another_process() -> None:
    hint = threading.Event()
    listener = hints.Listener(hint.set)
    listener.start()
    try:
        gate = admit.gate()
        channel = f"{gate.prefix}leader"
        await_that(lambda: dict(gate.client.pubsub_numsub(channel))[channel] > 0, 10, "somebody listens")
        subprocess.run([sys.executable, "-c", FROM_ANOTHER], cwd=BASE_DIR, check=True)
        assert hint.wait(10)
    finally:
        listener.stop()


def test_a_store_that_is_away_costs_the_hint_and_nothing_else() -> None:
    with this_process.replaced(admit._new_gate, Gate("redis://127.0.0.1:1/0")):
        hints.Hints().send()


@pytest.mark.parametrize(("pause_s", "is_hinted"), [(0.2, True), (3_600.0, False)])
@pytest.mark.parametrize("sleeps", [True, False])
def test_what_is_due_before_the_next_look_is_hinted_at(
    org: Organization, published: list[ReadyStep], heard: list[int], pause_s: float, is_hinted: bool, sleeps: bool
) -> None:
    run_id = start(org, [NOOP])
    heard.clear()
    record_as(run_id, Sleep(seconds=pause_s) if sleeps else Retry(error=NO, delay_s=pause_s))
    assert bool(heard) == is_hinted


@pytest.mark.parametrize(("delay_s", "is_hinted"), [(0.5, True), (3_600.0, False)])
def test_a_delayed_start_is_hinted_at_after_the_commit(
    org: Organization, published: list[ReadyStep], heard: list[int], delay_s: float, is_hinted: bool
) -> None:
    slug = publish(org, [NOOP])
    with transaction.atomic():
        services.trigger(org, slug, None, run_at=timezone.now() + dt.timedelta(seconds=delay_s))
        assert heard == []
    if is_hinted:
        await_that(lambda: heard, 10, "the hint")
    else:
        assert heard == []
