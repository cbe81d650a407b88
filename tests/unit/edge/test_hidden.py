"""Values that come back as they were shown: the original's is taken, and the mask is never stored."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.edge import hidden
from workflows.edge.redaction import MASK, Rules
from workflows.errors import InvalidInput

LEAVES = st.none() | st.booleans() | st.integers() | st.text(alphabet="ab*", max_size=6)
NAMES = st.sampled_from(["a", "b", "pin", "card", "number"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
RULES = Rules(["pin", "card.number"])


@given(VALUES)
def test_what_comes_back_unchanged_is_the_original(value: Any) -> None:
    assert hidden.put_in(RULES.masked(value), value, what="input") == value


@given(VALUES, VALUES)
def test_no_mask_is_left_where_something_was_hidden(value: Any, other: Any) -> None:
    """Of a form whose other parts were changed to anything."""
    shown = RULES.masked({"kept": value, "changed": 1})
    assert hidden.put_in({**shown, "changed": 2}, {"kept": value, "changed": 1}, what="input") == {
        "kept": value,
        "changed": 2,
    }


CARDS = [{"id": 1, "pin": "one"}, {"id": 2, "pin": "two"}]
ALIKE = [{"pin": "one"}, {"pin": "two"}, {"pin": "one"}]


@pytest.mark.parametrize(
    ("given", "original", "wanted"),
    [
        ({"pin": MASK, "a": 2}, {"pin": "731", "a": 1}, {"pin": "731", "a": 2}),
        ({"pin": MASK}, {"pin": {"deep": [1, 2]}}, {"pin": {"deep": [1, 2]}}),
        ({"note": f"card {MASK} was declined"}, {"note": "card 4111 was declined"}, {"note": "card 4111 was declined"}),
        ([{"id": 2, "pin": MASK}], CARDS, [CARDS[1]]),
        ([{"id": 2, "pin": MASK}, {"id": 1, "pin": MASK}], CARDS, [CARDS[1], CARDS[0]]),
        ([{"id": 1, "pin": MASK}, {"id": 3, "pin": MASK}], CARDS, [CARDS[0], {"id": 3, "pin": "two"}]),
        ([{"id": 1, "pin": MASK}, {"id": 9}], CARDS, [CARDS[0], {"id": 9}]),
        ([*[{"pin": MASK}] * 3], ALIKE, ALIKE),
        ({"title": "***bold***"}, {"title": "plain"}, {"title": "***bold***"}),
        ({"pin": "new"}, {"pin": "731"}, {"pin": "new"}),
    ],
)
def test_the_original_is_taken_where_one_can_tell(given: Any, original: Any, wanted: Any) -> None:
    assert hidden.put_in(given, original, what="input") == wanted


@pytest.mark.parametrize(
    ("given", "original", "place"),
    [
        ({"other": MASK}, {"pin": "731"}, "input.other"),
        ({"pin": MASK}, {"pin": None}, "input.pin"),
        ({"card": {"pin": MASK}}, {"card": "none"}, "input.card.pin"),
        (MASK, hidden.NOTHING, "input"),
        ([{"pin": MASK}, {"pin": MASK}], ALIKE, "input.0.pin"),
        ([{"pin": MASK}, {"pin": MASK}, {"pin": "new"}], ALIKE, "input.0.pin"),
        ({"note": f"card {MASK} was stolen"}, {"note": "card 4111 was declined"}, "input.note"),
    ],
)
def test_a_mask_is_refused_where_one_cannot_tell(given: Any, original: Any, place: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{place}: "):
        hidden.put_in(given, original, ["4111"], what="input")


def test_a_long_text_of_masks_is_looked_at_once() -> None:
    with pytest.raises(InvalidInput):
        hidden.put_in(
            {"a": MASK + "x" + f"a{MASK}" * 50_000 + "b"}, {"a": "a" * 100_000 + "4111"}, ["4111"], what="input"
        )
