"""How long a step lately took is known for all calls of its name."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from workflows import this_process
from workflows.engine.pipeline import batch_size
from workflows.steps.registry import REGISTRY

VERSION = uuid.uuid4()


@pytest.fixture(autouse=True)
def nothing_is_known() -> Iterator[None]:
    with this_process.replaced(batch_size.MeanDurations, batch_size.MeanDurations()):
        yield


def test_calls_of_one_name_are_known_together() -> None:
    batch_size.observe_blocking(VERSION, "charge", "python", 0.01)
    batch_size.observe_blocking(VERSION, "charge:7", "python", 0.11)
    assert batch_size.mean_s(VERSION, "charge:3") == pytest.approx(0.02)
    assert batch_size.mean_s(VERSION, "charge again") is None
    assert batch_size.mean_s(uuid.uuid4(), "charge") is None


def test_awaited_steps_say_nothing_of_their_type() -> None:
    """A type's steps that block are divided by what they take; a coroutine that waits for a minute takes no thread."""
    batch_size.observe_awaited(VERSION, "nap", 60.0)
    assert batch_size.mean_s(VERSION, "nap:1") == 60.0
    python = REGISTRY["python"]
    assert batch_size.fit(python) == batch_size.MAX_BLOCKING, "of these nobody knows"
    batch_size.observe_blocking(VERSION, "quick", "python", 0.000_01)
    assert batch_size.fit(python) == python.max_batch
