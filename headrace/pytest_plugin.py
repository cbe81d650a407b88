"""The pytest plugin of the test kit: the fixture `flow_kit`. It imports nothing of Django before a test asks for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from workflows.functions.testing.kit import FlowKit


@pytest.fixture
def flow_kit() -> FlowKit:
    """Runs flows in Python within the test: `run = flow_kit.start(onboarding, data)`, `run.advance("3d")`."""
    from django.apps import apps  # noqa: PLC0415
    from django.conf import settings  # noqa: PLC0415

    if not settings.configured and not os.environ.get("DJANGO_SETTINGS_MODULE"):
        raise pytest.UsageError(
            "The fixture flow_kit needs the settings of the project: set DJANGO_SETTINGS_MODULE (in pytest.ini, with "
            "pytest-django installed, or in the environment)."
        )
    if not apps.ready:
        import django  # noqa: PLC0415

        django.setup()
    from workflows.functions.testing.kit import FlowKit  # noqa: PLC0415

    return FlowKit()
