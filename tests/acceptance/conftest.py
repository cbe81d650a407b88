"""An instance for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.instance import Instance, running


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running(tmp_path_factory.mktemp("up") / "var") as started:
        yield started
