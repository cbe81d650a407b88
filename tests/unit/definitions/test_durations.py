import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.duration import MAX_MS, format_ms, parse_ms


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("500ms", 500),
        ("30s", 30_000),
        ("2h45m", 9_900_000),
        ("7d", 604_800_000),
        ("1.5s", 1_500),
        (250, 250),
        ("250", 250),
    ],
)
def test_durations_are_read_as_people_write_them(text: object, milliseconds: int) -> None:
    assert parse_ms(text) == milliseconds


@pytest.mark.parametrize("bad", ["", "5 minutes", "-1s", "s", "1h junk", -1, 0.5, True, None, [], "400d", float("nan")])
def test_what_is_no_duration_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="duration|out of range|NaN|integer"):
        parse_ms(bad)


@given(st.integers(0, MAX_MS))
def test_a_written_duration_reads_back(milliseconds: int) -> None:
    assert parse_ms(format_ms(milliseconds)) == milliseconds
