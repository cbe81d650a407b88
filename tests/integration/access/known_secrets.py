"""What this process knows of secrets, forgotten before and after each test of a file that imports `afresh`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from workflows import this_process
from workflows.engine.state.secret_sources import AwsSecrets, SecretValues


def forget() -> None:
    """Have this process ask the sources of secrets again."""
    this_process.forget(SecretValues)
    this_process.forget(AwsSecrets)


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    forget()
    yield
    forget()
