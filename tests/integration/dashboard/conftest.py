"""Logins that tests of several pages have."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.integration.dashboard.people import member
from workflows.models import Organization


@pytest.fixture
def editor(org: Organization) -> Client:
    return member(org, "editor")
