"""Tasks that workers run: values, errors, retries, cancel, crash."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.utils import timezone
from django_tasks import TaskResultStatus

from tests.support import task_functions as functions
from tests.support.workers import WorkerPool, await_that
from workflows.models import Organization


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
