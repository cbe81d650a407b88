"""Blocking steps in a worker: how many of a message it claims, and how stamps that got too old are renewed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from tests.support import by_hand
from tests.support.workers import await_that, publish
from workflows import services, this_process
from workflows.engine.pipeline import admit, batch_size
from workflows.engine.pipeline import publish as publishing
from workflows.engine.state.records import ReadyStep
from workflows.engine.worker.runtime import Runtime
from workflows.models import Organization, Run, StepRun
from workflows.steps.registry import REGISTRY, Mode, StepConfig, StepType

Message = list[tuple[str, int]]


class Handled:
    """What the handler of the step type `blocks` has been called with, and what it waits for."""

    def __init__(self) -> None:
        self.steps: Counter[UUID] = Counter()
        self.may_end = threading.Event()
        self.may_end.set()
        self._lock = threading.Lock()

    def __call__(self, context: Any) -> dict[str, bool]:
        with self._lock:
            self.steps[context.step_run_id] += 1
        self.may_end.wait(20)
        return {"ok": True}


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> Handled:
    found = Handled()
    kind = StepType(name="blocks", summary="Blocks.", config_model=StepConfig, handler=found, mode=Mode.THREAD)
    monkeypatch.setitem(REGISTRY, "blocks", kind)
    return found


@pytest.fixture
def durations() -> Iterator[batch_size.MeanDurations]:
    with this_process.replaced(batch_size.MeanDurations, batch_size.MeanDurations()):
        yield this_process.own(batch_size.MeanDurations)


@pytest.fixture
def worker(published: list[ReadyStep]) -> Iterator[Runtime]:
    made = by_hand.runtime(slots=200)
    made.start()
    yield made
    made.drain(1)


@pytest.fixture
def sent_on(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """The messages that are published beside those of ready steps."""
    found: list[Message] = []
    monkeypatch.setattr(publishing, "_send_all", lambda messages: found.extend(batch for _, _, batch in messages))
    return found


def message(org: Organization, published: list[ReadyStep], count: int) -> Message:
    """The one message in which so many runs of a blocking step leave a process that knows nothing of it."""
    slug = publish(org, [{"id": "a", "type": "blocks", "retry": {"attempts": 1}}])
    services.trigger_many(org, slug, [{}] * count)
    ((_, _, batch),) = publishing.messages(published)
    assert len(batch) == count
    return batch


def await_ends(org: Organization, count: int) -> None:
    await_that(lambda: Run.objects.filter(org_id=org.id, status="completed").count() == count, 30, "the ends")


def test_a_worker_claims_ten_of_a_message_where_nobody_knows_how_long_they_take(
    org: Organization,
    published: list[ReadyStep],
    handled: Handled,
    worker: Runtime,
    sent_on: list[Message],
    durations: Any,
) -> None:
    batch = message(org, published, 50)
    worker.visit(REGISTRY["blocks"], batch)
    await_ends(org, 10)
    assert [len(each) for each in sent_on] == [10] * 4
    assert [one for each in sent_on for one in each] == batch[10:]
    assert StepRun.objects.filter(org_id=org.id, status="ready").count() == 40
    durations["blocks"] = 0.000_1  # as of steps that take no time
    for each in list(sent_on):
        worker.visit(REGISTRY["blocks"], each)
    await_ends(org, 50)
    assert handled.steps.total() == len(handled.steps) == 50
    assert len(sent_on) == 4


def test_a_worker_takes_all_of_a_message_of_quick_steps(
    org: Organization,
    published: list[ReadyStep],
    handled: Handled,
    worker: Runtime,
    sent_on: list[Message],
    durations: Any,
) -> None:
    durations["blocks"] = 0.000_1
    worker.visit(REGISTRY["blocks"], message(org, published, 50))
    await_ends(org, 50)
    assert not sent_on
    assert handled.steps.total() == len(handled.steps) == 50


def test_a_message_that_can_not_be_divided_is_taken_as_a_whole(
    org: Organization, published: list[ReadyStep], handled: Handled, worker: Runtime, monkeypatch: pytest.MonkeyPatch,
    durations: Any,
) -> None:  # fmt: skip
    batch = message(org, published, 30)

    def away(_: Any) -> None:
        raise OSError("the broker is away")

    monkeypatch.setattr(publishing, "_send_all", away)
    worker.visit(REGISTRY["blocks"], batch)
    await_ends(org, 30)
    assert len(handled.steps) == 30


@pytest.mark.parametrize(("mean", "expected"), [(None, 10), (0.000_1, 50), (0.002, 25), (0.010, 10), (5.0, 10)])
def test_how_many_fit(durations: batch_size.MeanDurations, mean: float | None, expected: int) -> None:
    kind = StepType(name="t", summary="", config_model=StepConfig, handler=print, mode=Mode.THREAD)
    version = UUID(int=1)
    if mean is not None:
        batch_size.observe_blocking(version, "a", "t", mean)
    assert batch_size.fit(kind) == expected
    assert batch_size.batch_size(kind, Mode.THREAD, version, "a") == (50 if mean is None else expected)


def test_stamps_of_steps_that_wait_together_are_renewed_together(
    org: Organization, published: list[ReadyStep], handled: Handled, worker: Runtime, durations: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    batch = message(org, published, 20)
    durations["blocks"] = 0.000_1
    for step in StepRun.objects.filter(org_id=org.id)[:1]:
        durations[Run.objects.get(id=step.run_id).version_id, "a"] = 0.000_1
    again: list[int] = []
    real = admit.gate().confirm

    def confirm(lease: str, ids: list[str], **more: Any) -> Any:
        if more.get("again"):
            again.append(len(ids))
        return real(lease, ids, **more)

    monkeypatch.setattr(admit.gate(), "confirm", confirm)
    handled.may_end.clear()
    worker.visit(REGISTRY["blocks"], batch)
    await_that(lambda: sum(handled.steps.values()) == 2, 20, "both threads are at work")
    for visit in worker.in_flight.visits():
        visit.start_by = time.monotonic() - 1
    handled.may_end.set()
    await_ends(org, 20)
    assert handled.steps.total() == len(handled.steps) == 20
    assert again, "what had waited for too long is not started by its old stamp"
    assert again.count(1) <= 2, "for all that wait, and not for each (an answer that comes late is asked for again)"
    assert sum(again) >= 18
