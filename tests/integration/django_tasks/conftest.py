"""The organization of the task backends, and workers whose settings have them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import override_settings

from tests.support.django_tasks import functions, settings
from tests.support.workers import WorkerPool, leave_nothing
from workflows.models import Organization


@pytest.fixture(scope="session")
def task_organization(live_db: None) -> Organization:
    made, _ = Organization.objects.get_or_create(slug=settings.ORGANIZATION, defaults={"name": "Tasks"})
    return made


@pytest.fixture
def tasks(task_organization: Organization) -> Iterator[Organization]:
    """Django's tasks are Headrace's. Nothing is left for the workers of other tests."""
    with override_settings(TASKS=settings.TASKS):
        yield task_organization
    leave_nothing(task_organization)


@pytest.fixture(scope="module")
def task_workers(standing_pool: WorkerPool, worker_environment: dict[str, str]) -> Iterator[WorkerPool]:
    """One I/O worker and one compute worker that know the backends; no other worker is about."""
    standing_pool.stop()
    functions.log_path().unlink(missing_ok=True)
    pool = WorkerPool({**worker_environment, "DJANGO_SETTINGS_MODULE": "tests.support.django_tasks.settings"})
    pool.start("io")
    pool.start("compute")
    pool.await_ready(3)
    yield pool
    pool.stop()
