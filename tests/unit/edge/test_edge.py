"""The rules for texts of addresses and headers."""

from __future__ import annotations

import base64
import datetime as dt
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.duration import parse_ms
from workflows.edge.values import decode_cursor, encode_cursor, identifier, moment, refuse_unstorable, whole_number
from workflows.errors import InvalidInput

KINDS = {"microseconds": int, "id": uuid.UUID, "as_of": dt.datetime}


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("007", 7), ("9" * 18, 10**18 - 1), ("9" * 19, None), ("²", None), ("٣", None), ("", None),
                         ("-1", None), ("1_0", None), (" 1", None), ("+1", None), ("1.0", None)]
)  # fmt: skip
def test_whole_numbers_are_plain_digits(text: str, number: int | None) -> None:
    assert whole_number(text) == number


@given(st.integers(-(10**17), 10**17), st.uuids(), st.integers(0, 36_500))
def test_a_cursor_comes_back_as_it_was(number: int, id_: uuid.UUID, days: int) -> None:
    place = {
        "microseconds": number,
        "id": id_,
        "as_of": dt.datetime(2000, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=days),
    }
    assert decode_cursor(encode_cursor("duration", place), "duration", KINDS) == place


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=6))
def test_a_forged_cursor_is_refused(value: Any) -> None:
    forged = base64.urlsafe_b64encode(json.dumps(value).encode()).decode()
    with pytest.raises(InvalidInput, match="start without a cursor"):
        decode_cursor(forged, "priority", KINDS)


@given(st.text())
def test_any_text_as_a_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="start without a cursor"):
        decode_cursor(text, "created", {"id": uuid.UUID})


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "yesterday", "²", ""])
def test_a_time_that_no_zone_can_say_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="since"):
        moment(text, "since")


@pytest.mark.parametrize("text", ["\0", "\ud800", "²", "", "0" * 31, "x" * 32])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        identifier(text, "cursor")


def test_texts_are_refused_by_name() -> None:
    refuse_unstorable(workflow="fine", limit=5)
    with pytest.raises(InvalidInput, match="event: the text holds a NUL character"):
        refuse_unstorable(workflow="fine", event="\0")


@pytest.mark.parametrize("value", [10**400, -(10**400), "9" * 400, "²", "٣", float("inf"), float("nan"), 1e300, "1²s"])
def test_a_duration_that_is_none_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_ms(value)
