"""An organization whose payloads are encrypted, and a text that stands nowhere else."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from workflows.models import Organization
from workflows.services.access import payloads


@pytest.fixture
def sealed(org: Organization, workers: Any) -> Iterator[Organization]:
    """An organization that encrypts, as all processes know."""
    payloads.switch_to(org, on=True)
    payloads.wait_until_known()
    yield org
    payloads.switch_to(org, on=False)


@pytest.fixture
def mark() -> str:
    """A text that stands nowhere else."""
    return f"open-sesame-{uuid.uuid4().hex}"
