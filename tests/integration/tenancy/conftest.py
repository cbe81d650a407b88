"""The other organization, whose things nobody of ours sees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.tenancy.two import Tenant
from tests.support.workers import leave_nothing


@pytest.fixture(scope="module")
def theirs(live_db: None) -> Iterator[Tenant]:
    made = Tenant()
    yield made
    leave_nothing(made.org)
