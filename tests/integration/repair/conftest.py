"""A failure with the keys to every door."""

from __future__ import annotations

import uuid

import pytest
from django.contrib.auth.models import User

from dlq.models import DeadLetter
from tests.integration.api.test_api import Api
from tests.integration.repair.test_repair_once import NOOP, Failure
from tests.support.by_hand import fail, start
from workflows.models import Organization


@pytest.fixture
def failure(org: Organization, api_key: str) -> Failure:
    run_id = start(org, [NOOP])
    fail(run_id)
    user = User.objects.create_superuser(f"root-{uuid.uuid4().hex[:8]}")
    letter = DeadLetter.objects.get(run_id=run_id)
    return Failure(org=org, api=Api(api_key), user=user, run_id=run_id, letter_id=letter.id)
