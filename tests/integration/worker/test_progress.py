"""How far a job is, and code in the sandbox: what it reports, and how it waits without holding anything."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.support.workers import WorkerPool, await_end, await_that, by_key, publish, run_to_end, scalar
from workflows import presenters, selectors, services
from workflows.models import Attempt, Organization, Run, StepRun
from workflows.steps import sandbox

KINDS = {"sandbox_sync": "code", "sandbox_async": "code", "code_execution": "code", "data_transform": "script"}
REPORTS = "progress({percent}, 'so far')\nimport time\ntime.sleep(3)\nreturn 1"


def code(kind: str, text: str, **more: Any) -> dict[str, Any]:
    return {"id": "a", "type": kind, "config": {KINDS[kind]: text}, **more}


def job(org: Organization, run_id: UUID) -> dict[str, Any]:
    return presenters.job_out(selectors.run_detail(org, run_id))


@pytest.mark.parametrize("kind", KINDS)
def test_sandboxed_code_reports_how_far_it_is(org: Organization, workers: WorkerPool, kind: str) -> None:
    (run,) = services.trigger(org, publish(org, [code(kind, REPORTS.format(percent=40))])).run_ids
    shown = await_that(lambda: job(org, run)["progress"], 20, "a progress that is not zero")
    assert shown == 40
    assert StepRun.objects.get(run_id=run).progress == {"percent": 40.0, "message": "so far"}
    detail = await_end(org, run)
    assert (detail.run.status, job(org, run)["progress"]) == ("completed", 100)


def test_a_job_is_as_far_as_its_steps_together(org: Organization, workers: WorkerPool) -> None:
    steps = [
        {"id": "first", "type": "noop"},
        {**code("sandbox_sync", REPORTS.format(percent=50)), "id": "second"},
        {"id": "third", "type": "noop"},
    ]
    (run,) = services.trigger(org, publish(org, steps)).run_ids
    await_that(lambda: job(org, run)["progress"] == 50, 20, "one of three is done, and half of the next")
    await_end(org, run)
    assert job(org, run)["progress"] == 100


def test_a_failed_job_is_not_at_a_hundred(org: Organization, workers: WorkerPool) -> None:
    failing = code("sandbox_sync", "progress(90)\nraise RuntimeError('no')", retry={"attempts": 1})
    detail = run_to_end(org, [{"id": "first", "type": "noop"}, {**failing, "needs": ["first"]}])
    found = job(org, detail.run.id)
    assert (found["state"], found["progress"]) == ("failed", 95)
    detail = run_to_end(org, [code("sandbox_sync", "raise RuntimeError('no')", retry={"attempts": 1})], slug="other")
    assert job(org, detail.run.id)["progress"] == 0


@pytest.mark.parametrize("bad", ["progress(101)", "progress(-1)", "progress('half')", "progress(True)"])
def test_a_bad_report_says_what_to_give(org: Organization, workers: WorkerPool, bad: str) -> None:
    detail = run_to_end(org, [code("sandbox_sync", bad, retry={"attempts": 1})])
    assert "give 0 … 100" in by_key(detail)["a"].attempts[0].error["message"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_delay_in_code_holds_nothing_and_costs_no_try(org: Organization, workers: WorkerPool, kind: str) -> None:
    text = "delay('1h')\ndelay(1)\nprint('done')\nreturn 'woke'"
    (run,) = services.trigger(org, publish(org, [code(kind, text)])).run_ids
    step = await_that(lambda: StepRun.objects.filter(run_id=run, status="waiting").first(), 20, "it waits")
    assert (step.waiting_for, step.worker_id is None or step.lease_token is None) == ("sleep", True)
    StepRun.objects.filter(id=step.id).update(wake_at=step.ready_at)
    detail = await_end(org, run)
    expected: Any = {"result": "woke", "printed": "done\n"} if kind == "code_execution" else "woke"
    assert by_key(detail)["a"].step_run.output == expected
    (attempt,) = Attempt.objects.filter(run_id=run)
    assert (attempt.number, attempt.status, [line["message"] for line in attempt.logs or []]) == (
        1, "completed", ["done"],
    )  # fmt: skip


def test_code_can_not_catch_its_delay(org: Organization, workers: WorkerPool) -> None:
    text = "try:\n    delay('50ms')\nexcept Exception:\n    pass\nreturn 'after'"
    detail = run_to_end(org, [code("sandbox_sync", text)])
    assert by_key(detail)["a"].step_run.output == "after"
    assert by_key(detail)["a"].step_run.wake_seq == 1


def test_a_try_after_a_delay_does_not_wait_for_it_again(org: Organization, workers: WorkerPool) -> None:
    text = "delay('20ms')\nif attempt == 1:\n    raise RuntimeError('once')\nreturn attempt"
    detail = run_to_end(org, [code("sandbox_sync", text, retry={"attempts": 2, "delay": "1ms"})])
    step = by_key(detail)["a"]
    assert (step.step_run.output, step.step_run.wake_seq) == (2, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("delay('soon')", "is no duration"),
        ("delay(-1)", "out of range"),
        ("for _ in range(200):\n    delay(0)", "at most 100 in one step"),
    ],
)
def test_a_bad_delay_says_what_to_write(org: Organization, workers: WorkerPool, text: str, says: str) -> None:
    detail = run_to_end(org, [code("sandbox_sync", text, retry={"attempts": 1})])
    assert says in by_key(detail)["a"].attempts[0].error["message"]


def test_a_name_of_the_codes_own_comes_first() -> None:
    result = sandbox.run("progress = 3\ndelay = 4\nprogress + delay", {}, timeout_s=5, name="own")
    assert result.value == 7


# --- the demo task ------------------------------------------------------------------------------------------------------


@pytest.fixture
def demo(org: Organization) -> str:
    from devtools.instance import EXAMPLES
    from workflows.definitions import document

    read = document.read(EXAMPLES / "demo-task.yaml")
    services.apply_definition(org, read.spec, source=read.source)
    return "demo-task"


def test_the_demo_tasks_priority_counts(org: Organization, workers: WorkerPool, demo: str) -> None:
    runs = {
        priority: services.trigger(org, demo, {"taskId": f"p{priority}", "priority": priority, "delayMs": 1}).run_ids[0]
        for priority in (-600, 0, 600)
    }
    (default,) = services.trigger(org, demo, {"taskId": "none", "delayMs": 1}).run_ids
    for priority, run in {**runs, 0: default}.items():
        assert await_end(org, run).run.status == "completed"
        assert Run.objects.get(id=run).priority == priority
        assert set(StepRun.objects.filter(run_id=run).values_list("priority", flat=True)) == {priority}


def test_the_demo_tasks_delay_is_durable_and_has_no_bound_of_seconds(
    org: Organization, workers: WorkerPool, demo: str
) -> None:
    (run,) = services.trigger(org, demo, {"taskId": "long", "delayMs": 3_600_000}).run_ids
    step = await_that(lambda: StepRun.objects.filter(run_id=run, status="waiting").first(), 20, "it waits")
    assert step.key == "step-3-simulate-delay"
    assert scalar(
        "SELECT extract(epoch FROM wake_at - now()) > 3000 FROM headrace_workflows_steprun WHERE id = %s", step.id
    )
    assert StepRun.objects.get(id=step.id).progress["percent"] == 50
    StepRun.objects.filter(id=step.id).update(wake_at=step.ready_at)
    detail = await_end(org, run)
    assert detail.run.status == "completed"
    assert by_key(detail)["step-3-simulate-delay"].step_run.output == {"sleptMs": 3_600_000}


def test_the_demo_task_fails_at_its_third_step_too(org: Organization, workers: WorkerPool, demo: str) -> None:
    data = {"taskId": "f", "simulateFailure": True, "failAtStep": "step-3-simulate-delay", "failTimes": 1, "delayMs": 1}
    detail = await_end(org, services.trigger(org, demo, data).run_ids[0])
    assert [attempt.status for attempt in by_key(detail)["step-3-simulate-delay"].attempts] == ["failed", "completed"]
