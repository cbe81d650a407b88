"""Steps claimed and recorded by the test itself, without a worker (with the fixture `published`)."""

from __future__ import annotations

import uuid
from typing import Any
from uuid import UUID

from tests.support.workers import await_end, await_that, publish
from workflows import services
from workflows.engine.pipeline import admit, record
from workflows.engine.pipeline.retry_decision import describe
from workflows.engine.state.records import Claim, StepResult
from workflows.engine.state.transitions import steps as step_transitions
from workflows.engine.worker.profile import WorkerProfile
from workflows.engine.worker.runtime import Runtime
from workflows.errors import NonRetriable
from workflows.models import Organization, StepRun
from workflows.steps.outcome import Completed, Failed
from workflows.steps.registry import REGISTRY

NO = describe(NonRetriable("no"))


def start(org: Organization, steps: list[dict[str, Any]], data: Any = None, **more: Any) -> UUID:
    return services.trigger(org, publish(org, steps, **more), data).run_ids[0]


def claim(run_id: UUID, key: str) -> Claim:
    row = StepRun.objects.get(run_id=run_id, key=key)
    (claimed,) = step_transitions.claim([(str(row.id), row.attempt)], worker=uuid.uuid4()).claims
    return claimed


def end(*claims: Claim, error: Any = None) -> None:
    outcome = Failed(error=error) if error else Completed()
    record.record([StepResult(claim=each, outcome=outcome) for each in claims])


def runtime(*, slots: int = 10) -> Runtime:
    """A worker's runtime within the test's process; not started."""
    queue = "headrace.io"
    return Runtime(
        WorkerProfile(
            name="by-hand",
            queues=frozenset({queue}),
            slots=slots,
            threads=2,
            runs_in_task_thread=False,
            lanes={queue: 2 * slots},
        )
    )


def visited(org: Organization, slug: str) -> UUID:
    """A run of one step that a worker's runtime in this process has performed, to its end."""
    worker = runtime()
    worker.start()
    try:
        run_id = services.trigger(org, slug).run_ids[0]
        step_run = StepRun.objects.get(run_id=run_id)
        await_that(lambda: admit.gate().places([step_run.id.hex]))
        worker.visit(REGISTRY[step_run.type], [(str(step_run.id), 1)])
    finally:
        worker.drain(1)
    assert await_end(org, run_id).run.status == "completed"
    return run_id


def fail(run_id: UUID, key: str = "a") -> None:
    end(claim(run_id, key), error=NO)


def steps_of(run_id: UUID) -> dict[str, str]:
    return dict(StepRun.objects.filter(run_id=run_id).values_list("key", "status"))
