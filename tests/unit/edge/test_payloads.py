import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.errors import InvalidInput, InvalidJson, InvalidOutput, PayloadTooLarge
from workflows.payload import MAX_DEPTH, MAX_VALUES, dump, fault, parse

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


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ("[" * 5000 + "]" * 5000, "[0][0][0]"),
        ('{"triggerData": {"a": [1, {"b": ' + "[" * 5000 + "]" * 5000 + "}]}}", "triggerData.a[1].b[0]"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "a.a.a"),
        ("[" * 300, "[0][0]"),
    ],
)
def test_a_body_that_is_nested_too_deeply_is_refused_with_its_path(body: str, path: str) -> None:
    with pytest.raises(InvalidInput, match="nested more than 200 levels deep") as raised:
        parse(body.encode())
    assert f"at {path}" in str(raised.value)


def test_a_body_with_too_many_values_is_refused_before_it_is_built() -> None:
    with pytest.raises(InvalidInput, match="more than 1,000,000 values"):
        parse(b"[" + b"1," * MAX_VALUES + b"1]")


def test_brackets_and_commas_in_texts_do_not_count() -> None:
    text = "[{," * 400_000 + '\\"['
    assert parse(json.dumps({"csv": text}).encode()) == {"csv": text}


@pytest.mark.parametrize(
    "body", [b'"' + b'\\"' * 2_000_000, b'"' * 2_000_000 + b"[" * 300, b"\\" * 2_000_000 + b"[" * 300]
)
def test_a_body_that_is_no_json_is_measured_in_linear_time(body: bytes) -> None:
    with pytest.raises((InvalidJson, InvalidInput)):
        parse(body + b"[" * 300)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a": "\xed\xa0\x80"}', b"9" * 5_000, b"{}\xef\xbb\xbf"])
def test_what_is_no_json_is_told(body: bytes) -> None:
    with pytest.raises(InvalidJson, match="The body is no JSON"):
        parse(body)


def test_a_byte_order_mark_before_it_is_passed_over() -> None:
    assert parse(b'\xef\xbb\xbf{"a": "\xef\xbb\xbf"}') == {"a": "\ufeff"}


@given(JSON)
def test_a_body_is_read_as_it_is(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value
    assert fault(value) == ""


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [1, {"b": "x\0"}]}, "a[1].b: a text in it holds a NUL character"),
        ({"a": {"k\ud800": 1}}, "a: a text in it holds a lone surrogate"),
        (["fine", "\udfff"], "[1]: a text in it holds a lone surrogate"),
        ("\0", "a text in it holds a NUL character"),
    ],
)
def test_a_text_that_can_not_be_stored_is_named_with_its_path(value: Any, says: str) -> None:
    assert fault(value) == says
    with pytest.raises(InvalidOutput) as raised:
        dump(value)
    assert says in str(raised.value)


def test_a_value_may_be_as_deep_as_before() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    assert parse(dump(value).encode()) == value
    with pytest.raises(InvalidOutput, match="nested more than 200 levels deep, at"):
        dump([value])
