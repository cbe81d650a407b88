"""Tasks that workers run: values, errors, retries, cancel, crash."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import uuid
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils import timezone

from dlq.models import DeadLetter
from tests.support.django_tasks import functions
from tests.support.django_tasks.names import TaskResultStatus, task, task_backends
from tests.support.workers import WorkerPool, await_end, await_that, run_to_end
from workflows import services, this_process
from workflows.engine.pipeline import admit
from workflows.engine.pipeline.dispatcher import Dispatcher
from workflows.errors import StepCancelled
from workflows.models import Organization, StepRun
from workflows.services import repair as repair_service
from workflows.steps.django_tasks.lookup import TaskGone


def ended(result: Any, patience_s: float = 30) -> Any:
    """The result, once it is finished."""

    def refreshed() -> Any:
        result.refresh()
        return result.is_finished

    await_that(refreshed, patience_s, f"the end of {result}")
    return result


def test_a_task_runs_and_its_value_comes_back(tasks: Organization, task_workers: WorkerPool) -> None:
    before = timezone.now()
    result = ended(functions.add.enqueue(2, right=3))
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 5)
    assert result.attempts == len(result.worker_ids) == 1
    assert result.errors == []
    assert before <= result.started_at <= result.finished_at
    assert result.last_attempted_at == result.started_at


def test_values_travel_as_json(tasks: Organization, task_workers: WorkerPool) -> None:
    big = 2**70
    given = [1, 2.5, "ü", None, True, [1, [2]], {"a": {"b": []}}, big, 1e16, "${ input.args }", "{{ x }}"]
    result = ended(functions.echo.enqueue(*given, (1, 2), key=b"text"))
    assert result.return_value == {"args": [*given, [1, 2]], "kwargs": {"key": "text"}}


def test_an_async_task_uses_the_orm_in_a_thread_of_its_own(tasks: Organization, task_workers: WorkerPool) -> None:
    results = [functions.counts_organizations_async.enqueue(tasks.slug) for _ in range(6)]
    values = [ended(result).return_value for result in results]
    assert {count for count, _, _ in values} == {1}
    assert {loop for _, _, loop in values} == {"loop"}
    assert ended(functions.add_async.enqueue(2, right=5)).return_value == 7


def test_a_sync_task_uses_the_orm(tasks: Organization, task_workers: WorkerPool) -> None:
    assert ended(functions.counts_organizations.enqueue(tasks.slug)).return_value == 1


def test_a_failure_says_class_and_traceback(tasks: Organization, task_workers: WorkerPool) -> None:
    result = ended(functions.fails_oddly.enqueue())
    assert result.status == TaskResultStatus.FAILED
    (error,) = result.errors
    assert error.exception_class is functions.Odd
    assert "raise error" in error.traceback
    assert error.traceback.endswith("Odd: this is odd\na note beside it\n")
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value
    letter = DeadLetter.objects.get(run_id=result.id)
    assert (letter.step_type, letter.group.error_name) == ("django_task", "Odd")


def test_what_a_task_returns_must_be_json(tasks: Organization, task_workers: WorkerPool) -> None:
    result = ended(functions.returns_no_json.enqueue())
    (error,) = result.errors
    assert error.exception_class is TypeError
    assert "The return value: unsupported type builtins.object" in error.traceback
    assert DeadLetter.objects.get(run_id=result.id).category == "invalid_output"


def test_a_task_that_leaves_the_process_fails_alone(tasks: Organization, task_workers: WorkerPool) -> None:
    result = ended(functions.exits.enqueue())
    assert result.errors[0].exception_class is SystemExit
    assert ended(functions.add.enqueue(1, 1)).return_value == 2


def test_arguments_that_the_function_does_not_take_are_not_tried_again(
    tasks: Organization, task_workers: WorkerPool
) -> None:
    result = ended(functions.add.using(backend="another").enqueue(1, 2, 3))  # type: ignore[call-arg]
    assert result.attempts == 1
    assert result.errors[0].exception_class is TypeError
    assert DeadLetter.objects.get(run_id=result.id).category == "invalid_input"


def test_tries_are_counted_by_their_workers(tasks: Organization, task_workers: WorkerPool) -> None:
    mark = uuid.uuid4().hex
    result = ended(functions.fails_at_first.enqueue(mark=mark, until=3))
    assert functions.lines(mark) == ["1 1 0 RUNNING", "2 2 1 RUNNING", "3 3 2 RUNNING"]
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.attempts == len(result.worker_ids) == 3
    assert result.return_value == [result.id, 3, result.worker_ids]
    assert [error.exception_class for error in result.errors] == [ValueError, ValueError]
    assert result.started_at < result.last_attempted_at < result.finished_at


def test_a_task_out_of_tries_is_one_dead_letter_and_can_be_replayed(
    tasks: Organization, task_workers: WorkerPool
) -> None:
    mark = uuid.uuid4().hex
    result = ended(functions.fails_at_first.enqueue(mark=mark, until=4))
    assert (result.status, result.attempts, len(result.errors)) == (TaskResultStatus.FAILED, 3, 3)
    DeadLetter.objects.get(run_id=result.id)
    await_end(tasks, uuid.UUID(result.id))
    repeat = repair_service.replay(tasks, uuid.UUID(result.id), by="test")
    again = ended(functions.fails_at_first.get_result(str(repeat.run_id)))
    assert (again.args, again.kwargs) == (result.args, result.kwargs)
    assert ended(result).status == TaskResultStatus.FAILED  # a replay is a run of its own


def test_signals_tell_of_the_start_and_of_the_recorded_end(tasks: Organization, task_workers: WorkerPool) -> None:
    mark = uuid.uuid4().hex
    ended(functions.note.enqueue(mark=mark))
    marked = f"signal-{mark}"
    await_that(lambda: len(functions.lines(marked)) == 2, what="both signals")
    assert functions.lines(marked) == ["started RUNNING 1", "finished SUCCESSFUL 1"]
    failing = uuid.uuid4().hex
    ended(functions.fails_at_first.enqueue(mark=failing, until=9))
    await_that(lambda: len(functions.lines(f"signal-{failing}")) == 4, what="all signals")
    assert functions.lines(f"signal-{failing}")[-1] == "finished FAILED 3"


def test_a_task_that_is_cancelled_has_failed(tasks: Organization, task_workers: WorkerPool) -> None:
    for given in (functions.waits_for_cancel, functions.waits_for_cancel_async):
        mark = uuid.uuid4().hex
        result = given.enqueue(mark=mark)
        await_that(functools.partial(functions.lines, mark), what="the start")
        result.refresh()
        assert (result.status, result.attempts) == (TaskResultStatus.RUNNING, 1)
        services.cancel_run(tasks, uuid.UUID(result.id), reason="nobody wants it")
        ended(result)
        assert result.status == TaskResultStatus.FAILED
        assert result.errors[0].exception_class is StepCancelled
        assert "nobody wants it" in result.errors[0].traceback


def test_a_queue_may_belong_to_the_compute_workers(tasks: Organization, task_workers: WorkerPool) -> None:
    here = ended(functions.where.enqueue()).return_value
    there = ended(functions.where.using(queue_name="reports").enqueue()).return_value
    assert here[0] != there[0]
    assert here[1].startswith("step_")


def test_a_limit_of_a_task_holds(tasks: Organization, task_workers: WorkerPool) -> None:
    mark = uuid.uuid4().hex
    for result in [functions.one_at_a_time.enqueue(mark) for _ in range(8)]:
        ended(result)
    assert functions.lines(mark) == ["begin", "end"] * 8


def test_of_those_that_wait_the_one_of_the_highest_priority_starts_first(
    tasks: Organization, task_workers: WorkerPool
) -> None:
    mark = uuid.uuid4().hex
    first = functions.in_turn.enqueue(mark, "first", 1.5)  # the limit is one at a time
    await_that(lambda: functions.lines(mark), what="the first start")
    results = [functions.in_turn.using(priority=each).enqueue(mark, str(each)) for each in (-50, 0, 50, -1, 100)]
    for result in (first, *results):
        ended(result)
    assert functions.lines(mark) == ["first", "100", "50", "0", "-1", "-50"]


def test_an_exception_with_an_exception_in_it_is_told(tasks: Organization, task_workers: WorkerPool) -> None:
    result = ended(functions.fails_with_its_like.enqueue())
    assert result.errors[0].exception_class is ValueError
    assert "ValueError(" in result.errors[0].traceback


def test_a_task_starts_when_it_is_due(tasks: Organization, task_workers: WorkerPool) -> None:
    at = timezone.now() + dt.timedelta(seconds=1.5)
    result = functions.add.using(run_after=at).enqueue(1)
    assert result.status == TaskResultStatus.READY
    assert ended(result).started_at >= at
    assert result.task.run_after == at
    past = functions.add.using(run_after=timezone.now() - dt.timedelta(days=1)).enqueue(1)
    assert ended(past).return_value == 1


def test_a_function_that_is_gone_is_a_dead_letter_of_the_configuration(
    tasks: Organization, task_workers: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, reason in (("vanished", "is gone"), ("plain_function", "is no task any more")):
        function = functions.function_at(functions.__name__, name)
        monkeypatch.setattr(functions, name, task(function), raising=False)  # only in this process
        result = getattr(functions, name).using(backend="another").enqueue()
        monkeypatch.undo()
        ended(result)
        assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 1)
        assert result.errors[0].exception_class is TaskGone
        letter = DeadLetter.objects.get(run_id=result.id)
        assert letter.category == "configuration"
        assert reason in letter.group.message
        stored = task_backends["another"].get_result(result.id)
        assert stored.task.module_path == f"{functions.__name__}.{name}"


def test_other_organizations_do_not_run_tasks_of_this_one(
    tasks: Organization, task_workers: WorkerPool, other: Organization
) -> None:
    step = {"id": "steal", "type": "django_task", "config": {"task": f"{functions.__name__}.add", "args": [1]}}
    detail = run_to_end(other, [step])
    (failed,) = detail.steps
    assert failed.attempts[0].error["category"] == "configuration"
    assert "belongs to the organization" in failed.attempts[0].error["message"]


def test_a_step_of_a_flow_may_be_a_task(tasks: Organization, task_workers: WorkerPool) -> None:
    config = {"task": f"{functions.__name__}.add", "args": ["${ input.left }"], "kwargs": {"right": 4}}
    detail = run_to_end(tasks, [{"id": "add", "type": "django_task", "config": config}], {"left": 3}, slug="adds")
    (step,) = detail.steps
    assert step.step_run.output == 7
    result = functions.add.get_result(str(step.step_run.id))
    assert (result.return_value, result.attempts) == (7, 1)


def test_asynchronous_code_enqueues_and_waits(tasks: Organization, task_workers: WorkerPool) -> None:
    async def enqueue_and_wait() -> Any:
        result = await functions.add.aenqueue(20, right=1)
        for _ in range(1_500):
            await result.arefresh()
            if result.is_finished:
                break
            await asyncio.sleep(0.02)
        return await functions.add.aget_result(result.id)

    assert async_to_sync(enqueue_and_wait)().return_value == 21


def test_a_thousand_in_one_transaction_travel_together(tasks: Organization, task_workers: WorkerPool) -> None:
    functions.add.enqueue(0)
    gate = admit.gate()
    with (
        this_process.replaced(Dispatcher, Dispatcher()),
        mock.patch.object(gate, "admit", side_effect=gate.admit) as ask,
    ):
        with transaction.atomic():
            results = [functions.add.enqueue(number, right=1) for number in range(1_000)]
        this_process.own(Dispatcher).stop()
        asked = ask.mock_calls
    assert len(asked) <= 20
    found = StepRun.objects.filter(run_id__in=[result.id for result in results])
    await_that(lambda: found.filter(status="completed").count() == 1_000, 60, "a thousand tasks")
    assert ended(results[-1]).return_value == 1_000
