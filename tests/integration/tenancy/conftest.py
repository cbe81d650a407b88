"""The other organization, whose things nobody of ours sees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.tenancy.doors import NOOP
from tests.integration.tenancy.two import Tenant
from tests.support.workers import leave_nothing, publish
from throttling.models import ThrottleOverride
from workflows.models import Organization


@pytest.fixture(scope="module")
def theirs(live_db: None) -> Iterator[Tenant]:
    made = Tenant()
    yield made
    leave_nothing(made.org)


@pytest.fixture
def tenant(org: Organization) -> Iterator[Organization]:
    """One with a flow that starts at once, and for webhooks."""
    publish(org, NOOP, slug="counted", on=[{"webhook": "none", "name": "quota/hook"}])
    yield org
    ThrottleOverride.objects.filter(org_id=org.id).delete()
    leave_nothing(org)
