"""The search box, the filters of an address, and what is drawn from rows: no database."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.dashboard.files import cell
from workflows.dashboard.run.actions import has_changed
from workflows.dashboard.run.graph import depths
from workflows.dashboard.runs import query
from workflows.errors import InvalidInput
from workflows.selectors.searching.criteria import Criteria
from workflows.selectors.searching.histogram import BARS, _counted
from workflows.templatetags import headrace_ui

NOW = dt.datetime(2026, 11, 26, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("status:failed flow:checkout", {"status": "failed", "flow": "checkout"}),
        ("duration:>5s declined card", {"duration": ">5s", "text": "declined card"}),
        ("tag:a tags:b flow:x", {"tag": "a,b", "flow": "x"}),
        ('text:"two words" user:anna', {"text": "two words", "userId": "anna"}),
        ("http://example.org", {"text": "http://example.org"}),
        ("cel: input.total > 100 && run.status == 'failed'", {"cel": "input.total > 100 && run.status == 'failed'"}),
        ("it's", {"text": "it's"}),
        ("status:", {"text": "status:"}),
        ("", {}),
    ],
)
def test_the_search_box_understands_names_and_leaves_the_rest_as_text(text: str, found: dict[str, str]) -> None:
    assert query.typed(text) == found


@given(st.text(max_size=600))
def test_whatever_is_typed_is_read_or_refused_with_a_sentence(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        query.criteria(query.typed(text), now=NOW)


@pytest.mark.parametrize(
    ("priority", "low", "high"),
    [(">0", 1, None), (">=0", 0, None), ("<-60", None, -61), ("<=5", None, 5), ("120", 120, 120), ("=7", 7, 7)],
)
def test_bounds_are_inclusive(priority: str, low: int | None, high: int | None) -> None:
    found = query.criteria({"priority": priority}, now=NOW)
    assert (found.priority_from, found.priority_to) == (low, high)


@pytest.mark.parametrize("name", ["priority", "duration", "since", "until"])
@pytest.mark.parametrize("value", ["x", ">", "9" * 30, "²", ">>5s", "-", "1e9"])
def test_a_bound_that_is_none_says_what_to_write(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match="write|long"):
        query.criteria({name: value}, now=NOW)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("24h", NOW - dt.timedelta(hours=24)),
        ("1h30m", NOW - dt.timedelta(minutes=90)),
        ("2026-11-22T10:00", dt.datetime(2026, 11, 22, 10, tzinfo=dt.UTC)),
        ("2026-11-22T10:00:00+02:00", dt.datetime(2026, 11, 22, 8, tzinfo=dt.UTC)),
        ("2026-11-22T10:00:00 02:00", dt.datetime(2026, 11, 22, 8, tzinfo=dt.UTC)),
    ],
)
def test_a_time_is_a_moment_or_how_long_ago(text: str, at: dt.datetime) -> None:
    assert query.moment_of(text, "since", NOW) == at


def test_a_chip_leads_to_the_list_without_it() -> None:
    both = query.chips({"tag": "a,b"}, {})
    assert [(chip.value, chip.without) for chip in both] == [("a", "?tag=b"), ("b", "?tag=a")]
    assert query.chips({"tag": "a"}, {})[0].without == "?"
    first, second = query.chips({"status": "failed", "flow": "a b"}, {"sort": "priority"})
    assert (first.label, first.value, first.without) == ("status", "failed", "?flow=a+b&sort=priority")
    assert second.without == "?status=failed&sort=priority"


def test_a_search_is_one_only_where_rows_have_to_be_read() -> None:
    assert not query.criteria({"status": "failed", "since": "1h"}, now=NOW).is_walk
    for name, value in {"text": "x", "cel": "true", "priority": "0", "duration": ">1s"}.items():
        assert query.criteria({name: value}, now=NOW).is_walk


def test_a_run_that_is_another_one_than_was_seen_is_left() -> None:
    def run(status: str) -> Any:
        return SimpleNamespace(status=status, is_live=status in {"queued", "running"})

    for seen, status in [("", "failed"), ("failed", "failed"), ("running", "queued"), ("waiting", "running")]:
        assert has_changed(run(status), seen) == ""
    for seen, status in [("running", "completed"), ("waiting", "failed"), ("failed", "running")]:
        assert f"was {seen} on your page, and is {status} now" in has_changed(run(status), seen)


def test_a_step_stands_behind_all_that_it_needs_whatever_their_order() -> None:
    needs = {"last": ["left", "right"], "right": ["first"], "left": ["right"], "first": []}
    assert depths(needs) == {"first": 0, "right": 1, "left": 2, "last": 3}
    assert depths({"a": ["b"], "b": ["a"]}).keys() == {"a", "b"}, "a circle, which no flow has, ends"


def test_every_run_is_in_one_bar() -> None:
    now = int(NOW.timestamp())
    seconds = Counter((now - 37 * number, "failed" if number % 3 else "completed") for number in range(500))
    drawn = _counted(seconds, Criteria(), NOW, False)
    assert len(drawn.points["x"]) <= BARS + 1
    assert sum(sum(series["values"]) for series in drawn.points["series"]) == 500 == drawn.total
    assert drawn.counts == {"failed": 333, "completed": 167}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_no_cell_of_a_file_is_a_formula(text: str) -> None:
    assert cell(text).startswith("'")
    assert cell({"message": text}).startswith("'")
    assert cell(-5) == "-5"


def test_components_show_what_they_are_given_as_text() -> None:
    nasty = '"><script>alert(1)</script>'
    for shown in (
        headrace_ui.status(nasty),
        headrace_ui.ident(nasty, "/x/"),
        headrace_ui.json_view({"a": nasty}, "/d/"),
        headrace_ui.code_line(nasty),
        headrace_ui.diff_view({"a": nasty}, {"a": 1}),
        headrace_ui.progress(5, nasty),
        headrace_ui.chart({"x": [], "series": [{"label": nasty}]}, nasty),
    ):
        assert "<script" not in shown


def test_a_time_is_written_exactly_and_nothing_is_a_dash() -> None:
    at = dt.datetime(2026, 11, 26, 9, 1, 2, 3000, tzinfo=dt.UTC)
    assert 'datetime="2026-11-26T09:01:02.003Z">2026-11-26 09:01:02 UTC<' in headrace_ui.moment(at)
    assert headrace_ui.moment(at.isoformat()) == headrace_ui.moment(at)
    assert "–" in headrace_ui.moment(None)


def test_a_difference_says_what_went_and_what_came() -> None:
    shown = headrace_ui.diff_view({"a": 1, "b": 2}, {"a": 1, "b": 3})
    assert '<div class="removed">-  &quot;b&quot;: 2</div>' in shown
    assert '<div class="added">+  &quot;b&quot;: 3</div>' in shown
    assert "No difference" in headrace_ui.diff_view({"a": 1}, {"a": 1})
