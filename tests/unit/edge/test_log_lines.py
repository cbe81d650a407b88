"""Lines of the log are those of structlog's own renderer."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from config.logging import LogfmtRenderer

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.dictionaries(st.text(), st.integers())
)
THEIRS = structlog.processors.LogfmtRenderer()


@given(st.lists(st.dictionaries(st.sampled_from(["event", "org", "run_id", "a.b", "é"]), VALUES), max_size=4))
def test_every_line_is_theirs_whether_its_keys_are_new_or_known(events: list[dict[str, Any]]) -> None:
    ours = LogfmtRenderer()
    for event in events + events:
        assert ours(None, "", dict(event)) == THEIRS(None, "", dict(event))


@pytest.mark.parametrize(
    "text", ["", "a b", "a=b", 'say "x"', "a\\b", "a\\ b", "two\nlines", "two\nlines of \\ it", "\\n"]
)
def test_what_is_quoted_and_escaped(text: str) -> None:
    ours = LogfmtRenderer()
    for _ in range(2):
        assert ours(None, "", {"event": text}) == THEIRS(None, "", {"event": text})


def test_a_key_that_can_not_be_one_is_refused_each_time() -> None:
    ours = LogfmtRenderer()
    ours(None, "", {"event": "x"})
    for _ in range(2):
        with pytest.raises(ValueError, match="Invalid key"):
            ours(None, "", {"event": "x", "no key": 1})
