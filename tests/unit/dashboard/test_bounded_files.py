"""A list as a file is read page by page, and ends."""

from __future__ import annotations

import itertools
import time

import pytest

from workflows.dashboard import files


def read(cursor: str) -> tuple[list[int], str]:
    """Three rows a page, for ever."""
    first = int(cursor or "0")
    return [first, first + 1, first + 2], str(first + 3)


def test_it_has_the_pages_in_their_order_up_to_a_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST", 7)
    assert list(files.bounded(read(""), read)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_it_ends_with_the_last_page() -> None:
    assert list(files.bounded(([1], ""), read)) == [[1]]
    assert list(files.bounded(([], ""), read)) == [[]]


def test_it_begins_no_page_once_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(0.0, 6.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    assert list(files.bounded(read(""), read)) == [[0, 1, 2], [3, 4, 5]]
