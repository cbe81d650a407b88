"""Flows in Python whose code changes while their runs are on their way, and what ends a run from outside."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.integration.functions.test_code_flows import journal, start
from tests.support.python_flows import more
from tests.support.python_flows.basic import told
from tests.support.workers import WorkerPool, await_end, await_that
from workflows import services
from workflows.models import Attempt, FlowVersion, Organization, Run, StepRun, Worker
from workflows.selectors.absent_code import absent_code
from workflows.services import approvals, callbacks, events
from workflows.services.approvals import Decider


def waits(run_id: uuid.UUID, key: str) -> StepRun | None:
    return StepRun.objects.filter(run_id=run_id, key=key, status="waiting").first()


@pytest.mark.usefixtures("workers")
class TestOneWorker:
    def test_another_order_is_explained_and_the_run_goes_on_once_the_code_fits(
        self, org: Organization, tmp_path: Path
    ) -> None:
        (tmp_path / "order").write_text("a b go c")
        run_id = start(org, more.order, {"dir": str(tmp_path)})
        await_that(lambda: waits(run_id, "go"), 20, "the wait")
        (tmp_path / "order").write_text("b a go c")
        events.send(org, [{"name": "code/go", "data": {"dir": str(tmp_path)}}])
        error = await_that(lambda: _error_of(run_id), 20, "the error")
        assert error["name"] == "Nondeterminism"
        assert "Step 1 was 'a', the code now asks for 'b'" in error["message"]
        (tmp_path / "order").write_text("a b go c")
        detail = await_end(org, run_id, 40)
        assert detail.run.status == "completed", detail.run.error
        assert [told(tmp_path, what) for what in "abc"] == [1, 1, 1]

    def test_a_step_that_is_left_out_is_found_at_the_end(self, org: Organization, tmp_path: Path) -> None:
        (tmp_path / "order").write_text("a b go")
        run_id = start(org, more.order, {"dir": str(tmp_path)})
        await_that(lambda: waits(run_id, "go"), 20, "the wait")
        (tmp_path / "order").write_text("a")
        events.send(org, [{"name": "code/go", "data": {"dir": str(tmp_path)}}])
        error = await_that(lambda: _error_of(run_id), 20, "the error")
        assert "Step 2 was 'b', the code now ends before it" in error["message"]
        services.cancel_run(org, run_id)

    def test_a_patched_step_is_for_new_runs_only(self, org: Organization, tmp_path: Path) -> None:
        old = start(org, more.patched, {"dir": str(tmp_path)})
        await_that(lambda: waits(old, "go"), 20, "the wait")
        (tmp_path / "changed").touch()
        new = start(org, more.patched, {"dir": str(tmp_path)})
        await_that(lambda: waits(new, "go"), 20, "the wait")
        events.send(org, [{"name": "code/go", "data": {"dir": str(tmp_path)}}])
        assert await_end(org, old).run.status == await_end(org, new).run.status == "completed"
        assert [key for key, _, _ in journal(old)] == ["first", "go", "last"]
        assert [key for key, _, _ in journal(new)] == ["first", "patched check", "check", "go", "last"]

    def test_people_callbacks_and_rows_are_waited_for(self, org: Organization, tmp_path: Path) -> None:
        slug = f"w-{uuid.uuid4().hex[:12]}"
        run_id = start(org, more.people, {"dir": str(tmp_path), "slug": slug})
        step = await_that(lambda: waits(run_id, "allow"), 20, "the approval")
        approvals.decide(org, step.id, approve=True, by=Decider(name="anna", roles=frozenset()))
        await_that(lambda: waits(run_id, "paid"), 20, "the callback")
        token = (tmp_path / "url").read_text().rsplit("/", 1)[1]
        callbacks.receive_callback(token, {"cents": 5})
        await_that(lambda: waits(run_id, "row"), 20, "the row")
        Organization.objects.create(slug=slug, name="late")
        detail = await_end(org, run_id)
        assert detail.run.output == {"approved": True, "paid": {"cents": 5}, "found": True}, detail.run.error

    def test_a_step_has_its_own_timeout_and_a_cancel_ends_the_run(self, org: Organization, tmp_path: Path) -> None:
        run_id = start(org, more.slow, {"dir": str(tmp_path)})
        await_that(lambda: told(tmp_path, "hang"), 30, "the hanging step")
        assert told(tmp_path, "ResourceExhausted") == 1
        services.cancel_run(org, run_id)
        detail = await_end(org, run_id)
        assert detail.run.status == "cancelled"
        assert {each.step_run.status for each in detail.steps} <= {"cancelled", "completed", "failed"}
        (tmp_path / "over").touch()


def _error_of(run_id: uuid.UUID) -> dict[str, Any] | None:
    row = Attempt.objects.filter(run_id=run_id, status="failed").order_by("-id").first()
    return row.error if row is not None else None


CODE = """
from workflows.functions import flow

@flow("code-deployed")
def deployed(event, step):
    step.run("a", str, "a")
    step.wait_for_event("go", "code/deployed", timeout="60s")
    return step.run("b", str, "{text}")
"""


def test_old_and_new_code_side_by_side(
    org: Organization, own_workers: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run stays with the code that it began with, while a worker has it; then newer code that fits takes over."""
    workers, having = {}, Worker.objects.filter(code__has_key="code-deployed")
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "deployed_flows.py").write_text(CODE.replace("{text}", name))
        workers[name] = own_workers.start(
            "io", PYTHONPATH=str(tmp_path / name), HEADRACE_FLOW_MODULES="deployed_flows",
            HEADRACE_CODE_ORGANIZATION=org.slug,
        )  # fmt: skip
        own_workers.await_ready(len(workers))
        await_that(lambda: FlowVersion.objects.filter(flow__organization=org).count() == len(workers), 30, "a version")
        if name == "old":
            old = await_that(lambda: set(having.values_list("id", flat=True)), 30, "its word")
            first = services.trigger(org, "code-deployed", {}).run_ids[0]
            await_that(lambda: waits(first, "go"), 30, "the wait")  # noqa: B023
    await_that(lambda: having.exclude(id__in=old).exists(), 30, "the other worker's word")
    second = services.trigger(org, "code-deployed", {}).run_ids[0]
    await_that(lambda: waits(second, "go"), 40, "the wait")
    third = services.trigger(org, "code-deployed", {}).run_ids[0]
    await_that(lambda: waits(third, "go"), 40, "the wait")
    events.send(org, [{"name": "code/deployed", "data": {}}])
    outputs = {run_id: await_end(org, run_id, 60).run.output for run_id in (second, third)}
    assert set(outputs.values()) == {"new"}
    assert await_end(org, first, 60).run.output in {"old", "new"}
    assert Run.objects.get(id=first).version.number == 1
    fourth = services.trigger(org, "code-deployed", {}).run_ids[0]
    own_workers.kill(workers["new"])
    time.sleep(2.5)
    assert Run.objects.get(id=fourth).is_live, "old code must not perform a run of newer code"
    having.exclude(id__in=old).delete()  # it has been silent for less long than counts as gone
    (absent,) = (each for each in absent_code() if each.organization == org.slug)
    assert (absent.flow, absent.version, absent.live_runs) == ("code-deployed", 2, 1)
