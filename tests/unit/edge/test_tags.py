"""The form of tags: what is one, and what is said of what is none."""

from __future__ import annotations

from typing import Any

import pytest

from workflows.edge import tags
from workflows.errors import InvalidInput


@pytest.mark.parametrize("tag", ["a", "A1", "plan:pro", "eu/west-1", "anna@example.org", "v1.2_3+4", "x" * 64])
def test_a_tag(tag: str) -> None:
    assert tags.is_tag(tag)
    assert tags.checked([tag]) == (tag,)


@pytest.mark.parametrize(
    "tag", ["", " ", "a b", "a,b", "-a", ":a", "é", "ａ", "x" * 65, "a\n", "a\0", "{a}", 'a"', 1, None, ["a"]]
)
def test_no_tag_is_refused_with_its_place_and_what_a_tag_is(tag: Any) -> None:
    with pytest.raises(InvalidInput, match=r"tags\[1\]: .* is no tag; a tag has 1 to 64 letters"):
        tags.checked(["fine", tag])


@pytest.mark.parametrize("given", ["nightly", b"nightly", 7, None])
def test_what_is_no_list_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match="give a list of texts"):
        tags.checked(given)


def test_a_tag_counts_once_and_twenty_are_enough() -> None:
    assert tags.checked(["b", "a", "b"]) == ("b", "a")
    assert len(tags.checked([f"t{n}" for n in range(20)] * 2)) == 20
    with pytest.raises(InvalidInput, match="at most 20 tags"):
        tags.checked([f"t{n}" for n in range(21)])


@pytest.mark.parametrize(("text", "found"), [("", ()), ("a", ("a",)), (" a , b,", ("a", "b")), ("a,a", ("a",))])
def test_a_filter_names_several(text: str, found: tuple[str, ...]) -> None:
    assert tags.wanted(text) == found


def test_a_long_value_is_cut_in_the_sentence() -> None:
    with pytest.raises(InvalidInput) as caught:
        tags.checked(["x" * 100_000])
    assert len(str(caught.value)) < 400


def test_an_array_quotes_its_texts_so_that_none_is_null() -> None:
    found = ("NULL", "a", "eu/west-1", "x:y")
    assert tags.as_array(found) == '{"NULL","a","eu/west-1","x:y"}'
    assert tags.as_array(()) == "{}"
