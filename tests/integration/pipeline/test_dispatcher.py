"""By whom ready steps are dispatched: by the thread after a commit, at once in the engine's own work."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import transaction

from tests.support.workers import await_that
from workflows import this_process
from workflows.engine.pipeline import dispatcher, publish
from workflows.engine.pipeline.dispatcher import Dispatcher
from workflows.engine.state.records import ReadyStep
from workflows.models import Organization


@pytest.fixture
def dispatched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that have dispatched."""
    names: list[str] = []
    monkeypatch.setattr(publish, "dispatch", lambda steps: names.append(threading.current_thread().name))
    return names


def steps() -> list[ReadyStep]:
    unread: Any = object()
    return [unread]


def test_the_thread_dispatches_after_a_commit_and_not_before(org: Organization, dispatched: list[str]) -> None:
    with transaction.atomic():
        dispatcher.start_after_commit(steps())
        dispatcher.after_commit(lambda: dispatcher.start(steps()))
        assert dispatched == []
    await_that(lambda: len(dispatched) >= 1)
    assert set(dispatched) == {"dispatcher"}


def test_the_engine_s_own_work_dispatches_at_once(org: Organization, dispatched: list[str]) -> None:
    dispatcher.start(steps())
    assert dispatched == [threading.current_thread().name]


def test_work_that_fails_after_a_commit_leaves_the_next_as_it_was(org: Organization, dispatched: list[str]) -> None:
    def fail() -> None:
        raise RuntimeError("on purpose")

    dispatcher.after_commit(fail)
    dispatcher.start(steps())
    assert dispatched == [threading.current_thread().name]


def test_what_waits_for_the_broker_is_bounded_by_its_steps(
    org: Organization, dispatched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Dispatcher()
    with monkeypatch.context() as away:
        away.setattr(dispatcher, "MAX_WAITING", 20)
        away.setattr(Dispatcher, "_ensure_thread", lambda self: None)
        for _ in range(30):
            own.submit(steps())
        assert own._queue.qsize() == 20  # the others are left to rescue
    own.submit(steps() * 2_000)
    await_that(lambda: own._waiting == 0)
    own.stop()
    assert set(dispatched) == {"dispatcher"}


def test_a_process_that_is_its_own_worker_dispatches_at_once(org: Organization, dispatched: list[str]) -> None:
    with this_process.replaced(Dispatcher, Dispatcher(at_once=True)):
        with transaction.atomic():
            dispatcher.start_after_commit(steps())
            assert dispatched == []
        assert dispatched == [threading.current_thread().name]
