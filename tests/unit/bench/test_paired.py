"""Medians and intervals of what was measured in pairs."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.paired import estimate, ratios


def test_nine_values_give_the_second_from_each_end() -> None:
    """P(median outside) = 2 · (1 + 9) / 2⁹ = 3.9 %: the widest that is narrower would miss it in 18 %."""
    found = estimate([9, 1, 8, 2, 7, 3, 6, 4, 5])
    assert (found.low, found.median, found.high) == (2, 5, 8)
    assert found.confidence == pytest.approx(1 - 20 / 512)
    assert found.is_sure


def test_few_values_give_their_range_and_are_not_sure() -> None:
    found = estimate([3.0, 1.0, 2.0])
    assert (found.low, found.median, found.high) == (1.0, 2.0, 3.0)
    assert found.confidence == pytest.approx(0.75)
    assert not found.is_sure


def test_one_value_is_no_interval() -> None:
    found = estimate([4.0])
    assert (found.low, found.high, found.confidence) == (4.0, 4.0, 0.0)


def test_no_values_have_no_median() -> None:
    with pytest.raises(ValueError, match="nothing"):
        estimate([])


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=40))
def test_the_median_is_within_its_interval(values: list[float]) -> None:
    found = estimate(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)


def test_the_interval_contains_the_true_median_as_often_as_it_says() -> None:
    source = random.Random(7)
    hits = 0
    for _ in range(2_000):
        found = estimate([source.expovariate(1.0) for _ in range(9)])
        hits += found.low <= 0.6931 <= found.high
    assert 0.945 < hits / 2_000 < 0.975


def test_ratios_are_of_neighbours_and_pass_over_what_was_not_measured() -> None:
    assert ratios([2.0, 9.0, 4.0], [1.0, 3.0]) == [2.0, 3.0]
    assert ratios([2.0, 9.0], [0.0, 3.0]) == [3.0]


@pytest.mark.parametrize("count", range(6, 40))
def test_six_values_and_more_are_sure(count: int) -> None:
    assert estimate(list(range(count))).is_sure
