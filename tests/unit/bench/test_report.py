"""Rounds that are put together, and the tables that are made of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import report, results, rounds
from bench.experiments import BY_NAME, chosen
from bench.rounds import Measured

LONE = BY_NAME["lone"]


def measured(own: list[float]) -> Measured:
    return Measured(values={"headrace": {"own_ms": own}, "bullmq": {"own_ms": [10.0] * len(own)}})


def test_pieces_are_added_to_what_the_file_has(tmp_path) -> None:
    path = tmp_path / "bench.json"
    results.store(path, LONE, measured([1.0, 2.0]), append=False)
    results.store(path, LONE, measured([3.0]), append=True)
    results.store(path, replace(LONE, name="other"), measured([9.0]), append=True)
    everything = results.load(path)
    assert everything["experiments"]["lone"]["values"]["headrace"]["own_ms"] == [1.0, 2.0, 3.0]
    assert results.rounds_of(everything, "lone") == 3
    assert results.rounds_of(everything, "other") == 1
    results.store(path, LONE, measured([7.0]), append=False)
    assert results.rounds_of(results.load(path), "lone") == 1


def test_the_first_of_a_series_is_told_apart_from_the_median_of_the_rest() -> None:
    found = Measured()
    rounds.add(found, "headrace", [{"own_ms": 90.0}, {"own_ms": 9.0}, {"own_ms": 7.0}, {"own_ms": 8.0}])
    rounds.add(found, "headrace", [{"own_ms": 80.0}, {"own_ms": 5.0}])
    assert found.values["headrace"] == {"first own_ms": [90.0, 80.0], "own_ms": [8.0, 5.0]}


def test_a_table_has_the_ratio_below_the_figures() -> None:
    entry = {"values": measured([5.0, 5.0]).values}
    assert report.table_of(entry) == [
        ["", "Headrace", "BullMQ"],
        ["created to ended, by its rows, ms", "5.00 (5.00–5.00 ?)", "10.0 (10.0–10.0 ?)"],
        ["– ratio", "", "0.50 (0.50–0.50 ?)"],
    ]


def test_a_page_gets_its_tables_and_keeps_the_rest(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench: lone fan_out -->\nold\n<!-- /bench -->\nafter\n")
    entry = {"title": "A run", "values": measured([5.0]).values, "skipped": {}, "conditions": []}
    assert report.fill(page, {"experiments": {"lone": entry}}) == ["fan_out"]
    text = page.read_text()
    assert text.startswith("before\n<!-- bench: lone fan_out -->\n\n**A run** (1 rounds)\n\n|  | Headrace | BullMQ |\n")
    assert text.endswith("<!-- /bench -->\nafter\n")
    assert "old" not in text


def test_a_page_keeps_its_figures_where_nothing_was_measured(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- bench: lone -->\nold\n<!-- /bench -->\n")
    assert report.fill(page, {}) == ["lone"]
    assert "old" in page.read_text()


def test_a_group_of_experiments_is_chosen_by_how_its_names_begin() -> None:
    assert {each.name for each in chosen(("http_run",))} == {"http_run_1", "http_run_32"}
    assert [each.name for each in chosen(("lone",))] == ["lone"]
    with pytest.raises(ValueError, match="no experiment 'lonely'"):
        chosen(("lonely",))
