"""Enqueuing: what is stored, in whose transaction, and what is refused. No worker is about."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import override_settings
from django.utils import timezone

from tests.support.django_tasks import functions, settings
from tests.support.django_tasks.names import (
    InvalidTaskError,
    Task,
    TaskResultDoesNotExist,
    TaskResultMismatch,
    TaskResultStatus,
    default_task_backend,
    task,
    task_backends,
    task_enqueued,
)
from tests.support.two_databases import ledger
from tests.support.workers import leave_nothing, nobody_dispatches
from workflows.engine.state.records import ReadyStep
from workflows.errors import FlowArchived, FlowPaused, OtherTransaction, PayloadTooLarge, WorkflowsError
from workflows.models import Flow, Organization, Run, StepRun
from workflows.services import pauses
from workflows.services.flows import archiving


@pytest.fixture
def ready(tasks: Organization) -> Iterator[list[ReadyStep]]:
    """The steps that became ready; nobody dispatches them."""
    with nobody_dispatches() as steps:
        yield steps


def test_a_task_is_a_run_of_one_step(ready: list[ReadyStep], tasks: Organization) -> None:
    result = functions.add.enqueue(1, right=2)
    assert (result.status, result.args, result.kwargs) == (TaskResultStatus.READY, [1], {"right": 2})
    assert (result.started_at, result.finished_at, result.attempts) == (None, None, 0)
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value
    run = Run.objects.get(id=result.id)
    assert (run.trigger, run.org_id, run.input) == ("task", tasks.id, {"args": [1], "kwargs": {"right": 2}})
    assert [step.type for step in run.step_runs.all()] == ["django_task"]
    assert run.flow.name == "Task tests.support.django_tasks.functions.add"
    assert [step.run_id for step in ready] == [run.id]


def test_the_stored_result_is_that_which_enqueue_gave(ready: list[ReadyStep]) -> None:
    some: tuple[Task[..., Any], ...] = (
        functions.add,
        functions.add_async,
        functions.add.using(priority=-33, queue_name="reports"),
        functions.add.using(priority=100, run_after=timezone.now() + dt.timedelta(days=3)),
        functions.fails_at_first.using(backend="another", queue_name="anything"),
    )
    for given in some:
        result = given.enqueue(1, right=[2, {"a": None}])
        assert given.get_result(result.id) == result
        assert task_backends[given.backend].get_result(result.id) == result
        assert asyncio.run(_awaited(given, result.id)) == result


async def _awaited(task: Task[..., Any], id_: str) -> Any:
    try:
        return await task.aget_result(id_)
    finally:
        await asyncio.to_thread(connections.close_all)


def test_the_task_vanishes_with_the_transaction(ready: list[ReadyStep]) -> None:
    with transaction.atomic():
        with contextlib.suppress(RuntimeError), transaction.atomic():
            gone = functions.add.enqueue(1)
            assert functions.add.get_result(gone.id) == gone
            raise RuntimeError
        with pytest.raises(TaskResultDoesNotExist):
            functions.add.get_result(gone.id)
        kept = functions.add.enqueue(2)
        assert functions.add.get_result(kept.id) == kept
        assert not ready
    assert functions.add.get_result(kept.id) == kept
    assert str(kept.id) in {str(step.run_id) for step in ready}


def test_within_a_transaction_of_another_database_it_is_refused(ready: list[ReadyStep]) -> None:
    with ledger(in_transaction=True):
        with pytest.raises(OtherTransaction, match=r"within atomic\(using='ledger'\).*on_commit"):
            functions.add.enqueue(1)
        with transaction.atomic():
            functions.add.enqueue(1)  # it belongs to this one
    with ledger(in_transaction=False):
        functions.add.enqueue(1)
    assert len(ready) == 2


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (object(), TypeError, r"args\[0\]: unsupported type builtins\.object"),
        (timezone.now(), TypeError, r"args\[0\]: unsupported type datetime\.datetime"),
        ({1: 2}, TypeError, r"args\[0\]: unsupported type of a key, int"),
        ([{"a": {2, 3}}], TypeError, r"args\[0\]\[0\]\.a: unsupported type builtins\.set"),
        (float("nan"), ValueError, r"args\[0\] is nan: JSON has finite numbers only"),
        (b"\xff", ValueError, r"args\[0\]: unsupported value, bytes"),
        ("a\0b", WorkflowsError, "NUL"),
        ("\ud800", WorkflowsError, "surrogate"),
        ("x" * 600_000, PayloadTooLarge, "the limit is 524,288"),
    ],
)
def test_arguments_that_are_no_json_are_refused(
    ready: list[ReadyStep], tasks: Organization, value: Any, error: type[Exception], said: str
) -> None:
    runs = Run.objects.filter(org_id=tasks.id)
    before = runs.count()
    with pytest.raises(error, match=said):
        functions.add.enqueue(value)
    assert (runs.count(), ready) == (before, [])


def test_a_task_that_the_backend_refuses_is_not_stored(ready: list[ReadyStep]) -> None:
    for field, value, said in (
        ("priority", 101, "priority must be a whole number"),
        ("priority", 1.5, "priority must be a whole number"),
        ("run_after", dt.datetime(2030, 1, 1), "must be an aware datetime"),  # noqa: DTZ001
        ("queue_name", "unknown", "Queue 'unknown' is not valid"),
    ):
        damaged = replace(functions.add)
        object.__setattr__(damaged, field, value)  # as no backend would let it be made
        with pytest.raises(InvalidTaskError, match=said):
            damaged.enqueue(1)
    with pytest.raises(InvalidTaskError, match="run_after: .* more than a year away"):
        functions.add.using(run_after=timezone.now() + dt.timedelta(days=4_000)).enqueue(1)
    assert not ready


def test_a_task_that_no_worker_would_find_is_refused(ready: list[ReadyStep]) -> None:
    for module, said in (
        (functions.__name__, "is gone"),
        ("__main__", "defined in a script"),
        ("no_such", "no module"),
    ):
        with pytest.raises(InvalidTaskError, match=said):
            task(functions.function_at(module, "hidden")).enqueue()
    assert not ready


@pytest.mark.parametrize(("priority", "head_start_s"), [(-100, -600), (-1, -6), (0, 0), (7, 42), (100, 600)])
def test_priority_is_seconds_of_head_start(ready: list[ReadyStep], priority: int, head_start_s: int) -> None:
    result = functions.add.using(priority=priority).enqueue(1)
    assert Run.objects.get(id=result.id).priority == head_start_s
    assert functions.add.get_result(result.id).task.priority == priority


def test_a_deferred_task_sleeps(ready: list[ReadyStep]) -> None:
    result = functions.add.using(run_after=timezone.now() + dt.timedelta(hours=1)).enqueue(1)
    assert StepRun.objects.get(run_id=result.id).status == "waiting"
    assert functions.add.get_result(result.id).status == TaskResultStatus.READY
    assert not ready


def test_an_unknown_result_does_not_exist(ready: list[ReadyStep], other: Organization) -> None:
    result = functions.add.enqueue(1)
    for id_ in (str(uuid.uuid4()), "123", "", None, 5):
        with pytest.raises(TaskResultDoesNotExist):
            default_task_backend.get_result(id_)  # type: ignore[arg-type]
    with pytest.raises(TaskResultDoesNotExist):
        task_backends["another"].get_result(result.id)
    foreign = {"default": {"BACKEND": settings.BACKEND, "OPTIONS": {"organization": other.slug}}}
    with override_settings(TASKS=foreign), pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(result.id)
    with pytest.raises(TaskResultMismatch):
        functions.note.get_result(result.id)


def test_the_signal_tells_of_each_enqueued_task(ready: list[ReadyStep]) -> None:
    told: list[Any] = []

    def receive(sender: type, task_result: Any, **_: Any) -> None:
        told.append((sender, task_result, Run.objects.filter(id=task_result.id).exists()))
        raise RuntimeError("a receiver's fault is none of enqueue's")

    task_enqueued.connect(receive)
    try:
        result = functions.add.enqueue(1)
    finally:
        task_enqueued.disconnect(receive)
    assert told == [(type(task_backends["default"]), result, True)]


def test_an_idempotent_task_is_enqueued_once(ready: list[ReadyStep]) -> None:
    order = uuid.uuid4().hex
    first, second = functions.once.enqueue(order), functions.once.enqueue(order)
    assert first == second
    assert functions.once.enqueue(uuid.uuid4().hex).id != first.id
    assert len(ready) == 2


def test_an_operator_may_stop_a_task(ready: list[ReadyStep], tasks: Organization) -> None:
    result = functions.counts_organizations.enqueue("a")
    flow = Run.objects.get(id=result.id).flow
    subject = pauses.flow(tasks, flow.slug)
    pauses.stop(subject, arrivals="skip", by="test")
    with pytest.raises(FlowPaused, match="resume it"):
        functions.counts_organizations.enqueue("a")
    pauses.resume(subject, by="test")
    functions.counts_organizations.enqueue("a")
    leave_nothing(tasks)
    archiving.archive(tasks, flow.slug, by="test")
    with pytest.raises(FlowArchived, match="unarchive it"):
        functions.counts_organizations.enqueue("a")
    archiving.unarchive(tasks, flow.slug, by="test")
    functions.counts_organizations.enqueue("a")
    assert Flow.objects.get(id=flow.id).versions.count() == 1


def test_an_organization_that_is_not_there_is_named(tasks: Organization) -> None:
    nowhere = {"default": {"BACKEND": settings.BACKEND, "OPTIONS": {"organization": "nowhere"}}}
    with override_settings(TASKS=nowhere), pytest.raises(Exception, match="'nowhere', which there is not; create it"):
        functions.add.enqueue(1)


def test_without_time_zones_times_are_naive(ready: list[ReadyStep]) -> None:
    with override_settings(USE_TZ=False):
        at = timezone.now() + dt.timedelta(hours=1)
        result = functions.add.using(run_after=at).enqueue(1)
        assert functions.add.get_result(result.id) == result
        assert timezone.is_naive(result.enqueued_at)
