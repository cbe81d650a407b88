"""Values that come back as they were shown: the original's is taken, and the mask is never stored."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.edge.redaction import MASK, Rules
from workflows.errors import InvalidInput
from workflows.services.access import hidden

LEAVES = st.none() | st.booleans() | st.integers() | st.text(alphabet="ab*", max_size=6)
NAMES = st.sampled_from(["a", "b", "pin", "card", "number"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
RULES = Rules(["pin", "card.number"])
KNOWN = hidden.Known(["4111"])


def shown(original: Any) -> Any:
    """As `editable` shows it."""
    return original if original is hidden.NOTHING else KNOWN.hide(RULES.masked(original))


@given(VALUES)
def test_what_comes_back_unchanged_is_the_original(value: Any) -> None:
    assert hidden.put_in(shown(value), value, shown(value), what="input") == value


@given(VALUES, VALUES)
def test_no_mask_is_left_where_something_was_hidden(value: Any, other: Any) -> None:
    """Of a form whose other parts were changed to anything."""
    before = {"kept": value, "changed": 1}
    meant = hidden.put_in({**shown(before), "changed": 2}, before, shown(before), what="input")
    assert meant == {"kept": value, "changed": 2}


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
    assert hidden.put_in(given, original, shown(original), what="input") == wanted


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
        hidden.put_in(given, original, shown(original), what="input")


@pytest.mark.parametrize("given", ["4***", "***1", "4***1", "******", "***card", "4*** c***"])
@pytest.mark.parametrize("original", [{"pin": "4111"}, {"note": "card 4111"}, {"pin": "731"}])
def test_a_hidden_value_is_not_read_letter_by_letter(given: str, original: dict[str, Any]) -> None:
    """A right guess of its beginning is answered as a wrong one is."""
    name = next(iter(original))
    for text in (given, given.replace("4", "5")):
        with pytest.raises(InvalidInput):
            hidden.put_in({name: text}, original, shown(original), what="input")


@pytest.mark.parametrize("guess", [7, 9])
def test_a_right_guess_of_a_hidden_value_does_not_tell_which_item_is_meant(guess: int) -> None:
    originals = [{"id": 1, "pin": "one", "card": {"number": 7}}, {"id": 2, "pin": "two", "card": {"number": 8}}]
    given = [{"id": 1, "pin": MASK, "card": {"number": guess}}]
    with pytest.raises(InvalidInput):
        hidden.put_in(given, originals, shown(originals), what="input")


@pytest.mark.parametrize("given", [{"of ***": 2, "more": 1}, {"a": {"of ***": 1}}, {"***": 1}])
def test_a_mask_within_a_name_is_refused(given: Any) -> None:
    original = {"of 4111": 1, "more": 1}
    with pytest.raises(InvalidInput, match="in the name"):
        hidden.put_in(given, original, shown(original), what="input")


def test_an_object_with_a_hidden_name_that_comes_back_unchanged_is_the_original() -> None:
    original = {"inner": {"of 4111": 1}, "more": 1}
    given = {"inner": {"of ***": 1}, "more": 2}
    meant = hidden.put_in(given, original, shown(original), what="input")
    assert meant == {"inner": {"of 4111": 1}, "more": 2}


def test_an_item_is_not_taken_from_a_place_that_another_has_left() -> None:
    given = [{"id": 2, "pin": MASK}, {"id": 1, "pin": MASK, "new": True}]
    with pytest.raises(InvalidInput, match=r"^input\.1\.pin"):
        hidden.put_in(given, CARDS, shown(CARDS), what="input")


def test_long_texts_and_lists_of_masks_are_looked_at_once() -> None:
    original = {"a": "a" * 100_000 + "4111"}
    with pytest.raises(InvalidInput):
        hidden.put_in({"a": MASK + "x" + f"a{MASK}" * 50_000 + "b"}, original, shown(original), what="input")
    cards = [{"id": number, "pin": str(number)} for number in range(20_000)]
    assert hidden.put_in(shown(cards)[1:], cards, shown(cards), what="input") == cards[1:]
    alike = [{"pin": str(number)} for number in range(20_000)]
    with pytest.raises(InvalidInput, match=r"^input\.0\.pin"):
        hidden.put_in(shown(alike)[1:], alike, shown(alike), what="input")
