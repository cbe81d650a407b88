"""Thin Celery shells: one task per step type, so that routing and metrics speak the user's language.

Monitors are not told of these tasks: one may carry many steps, or a step may need none. The engine tells of each step
(`workflows.engine.telemetry.step_events`).
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from workflows.engine.worker import bootstep
from workflows.services import schedules
from workflows.steps.registry import REGISTRY, StepType, load_types
from workflows.this_process.celery_app import app

load_types()


@app.task(shared=False, name=schedules.TASK)
def cron_tick(trigger_id: str) -> int:
    """celery-beat's tick of a cron trigger: fire what is due of it. Returns how many fire times were new."""
    return schedules.fire(UUID(trigger_id))


def _task_of(step_type: StepType) -> None:
    @app.task(shared=False, name=step_type.task_name, ignore_result=True, send_events=False)
    def visit(batch: Sequence[tuple[str, int]]) -> None:
        bootstep.current().visit(step_type, batch)

    visit.__doc__ = step_type.summary


for _step_type in REGISTRY.values():
    _task_of(_step_type)
