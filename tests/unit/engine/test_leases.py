"""Permits that are given back together."""

from __future__ import annotations

from workflows.engine.pipeline.ahead import together


def test_permits_of_one_lease_that_come_apart_are_all_given_back() -> None:
    assert together({"one": ["a"]}, {}, {"one": ["b"], "two": ["c"]}) == {"one": ["a", "b"], "two": ["c"]}


def test_what_is_put_together_stays_as_it_was() -> None:
    first = {"one": ["a"]}
    together(first, {"one": ["b"]})
    assert first == {"one": ["a"]}
