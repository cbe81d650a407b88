"""The counts that simulation, load test and the tests of flow control judge by."""

from __future__ import annotations

import pytest

from workflows.simulation.forecast import fullest_window, most_at_once, staircase


@pytest.mark.parametrize(
    ("starts", "period", "most"),
    [
        ([], 10, 0),
        ([3], 10, 1),
        ([0, 10], 10, 1),
        ([0, 9, 10], 10, 2),
        ([5, 0, 5, 14, 15], 10, 3),
        ([0.0, 0.99], 1.0, 2),
    ],
)
def test_the_fullest_half_open_window(starts: list[float], period: float, most: int) -> None:
    assert fullest_window(starts, period) == most


@pytest.mark.parametrize(
    ("spans", "most"), [([], 0), ([(0, 1)], 1), ([(0, 1), (1, 2)], 1), ([(0, 2), (1, 3), (1, 2), (3, 4)], 3)]
)
def test_the_most_at_an_instant(spans: list[tuple[float, float]], most: int) -> None:
    assert most_at_once(spans) == most


def test_a_staircase_counts_from_the_first_start() -> None:
    assert staircase([5.0, 5.5, 6.0, 8.2], 1.0) == {0: 2, 1: 1, 3: 1}
