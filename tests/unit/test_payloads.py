import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.errors import InvalidOutput, PayloadTooLarge
from workflows.payload import dump

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner),
)  # fmt: skip


@given(JSON)
def test_json_is_kept_as_it_is(value: Any) -> None:
    assert json.loads(dump(value)) == value


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"a": float("nan")}, "NaN"), ([float("inf")], "NaN or an infinity"), ("a\0b", "NUL"), ({"k\0": 1}, "NUL"),
        ("\ud800", "lone surrogate"), ({1, 2}, "no JSON"), (object(), "no JSON"), (b"x", "no JSON"),
    ],
)  # fmt: skip
def test_what_postgres_refuses_is_refused_before(bad: Any, says: str) -> None:
    with pytest.raises(InvalidOutput, match=says):
        dump(bad)


def test_a_value_within_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidOutput):
        dump(value)


def test_the_limit_is_in_bytes_and_nothing_is_truncated() -> None:
    assert dump("ä" * 9, limit_bytes=20) == '"' + "ä" * 9 + '"'
    with pytest.raises(PayloadTooLarge, match="22 bytes, the limit is 20"):
        dump("ä" * 10, limit_bytes=20)
