"""What the benches make in a database: no login or key stays behind, and copies are as old as they say."""

from __future__ import annotations

import time

import pytest
from django.contrib.auth import get_user_model

from bench.growth import pruning
from bench.volume import pages
from tests.support.workers import WorkerPool
from workflows.models import AccessKey, Attempt, Organization, Run, StepRun
from workflows.models.run import first_id


def test_measuring_pages_leaves_no_login_and_no_key_where_there_are_no_runs(org: Organization) -> None:
    logins, keys = get_user_model().objects.count(), AccessKey.objects.count()
    with pytest.raises(RuntimeError, match="has no seeded runs"):
        pages.measure(org, 1)
    assert (get_user_model().objects.count(), AccessKey.objects.count()) == (logins, keys)


def test_expired_runs_of_the_bench_are_old_by_their_ids_too(workers: WorkerPool) -> None:
    pruning.fill(None, runs=20)
    org = Organization.objects.get(slug="bench-expired")
    old = {"org_id": org.id, "id__lt": first_id(time.time() - (pruning.OLD_DAYS - 1) * 86_400)}
    assert Run.objects.filter(**old).count() == 20
    assert Attempt.objects.filter(**old).count() == StepRun.objects.filter(**old).count() == 100
    for model in (Run, StepRun, Attempt):
        model.objects.filter(org_id=org.id)._raw_delete(using="default")  # type: ignore[attr-defined]
