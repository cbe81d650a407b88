"""Thin Celery shells: one task per step type, so that Flower, routing and metrics speak the user's language."""

from __future__ import annotations

from collections.abc import Sequence

from celery import shared_task

from workflows import worker
from workflows.steps.registry import REGISTRY, StepType, load_types

load_types()


def _task_of(step_type: StepType) -> None:
    @shared_task(name=step_type.task_name, ignore_result=True)
    def visit(batch: Sequence[tuple[str, int]]) -> None:
        worker.current().visit(batch)

    visit.__doc__ = step_type.summary


for _step_type in REGISTRY.values():
    _task_of(_step_type)
