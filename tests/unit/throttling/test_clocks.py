"""The gate's lease and reservation, as the environment sets them."""

from __future__ import annotations

import pytest

from config.env import read
from throttling import clocks
from throttling.errors import EnvironmentValueError

LEASE, RESERVATION = "HEADRACE_GATE_LEASE_S", "HEADRACE_GATE_RESERVATION_S"


def test_both_are_settable_and_have_defaults() -> None:
    shipped = read({})
    assert (shipped.gate_lease_s, shipped.gate_reservation_s) == (clocks.LEASE_S, clocks.RESERVATION_S)
    short = read({LEASE: "2", RESERVATION: " 2.5 ", "HEADRACE_LEASE_S": "2"})
    assert (short.gate_lease_s, short.gate_reservation_s) == (2.0, 2.5)
    assert read({"HEADRACE_LEASE_S": "20"}).gate_lease_s == clocks.LEASE_S, "the default goes with any step's lease"


@pytest.mark.parametrize("name", [LEASE, RESERVATION])
@pytest.mark.parametrize(
    ("value", "reason"),
    [("soon", "is no number of seconds; set it to 2…3600"), ("1.9", "is out of range; set it to 2…3600 seconds"),
     ("-1", "is out of range"), ("nan", "is out of range"), ("inf", "is out of range"), ("3601", "is out of range")],
)  # fmt: skip
def test_what_they_can_not_be_is_refused(name: str, value: str, reason: str) -> None:
    with pytest.raises(EnvironmentValueError, match=f"{name}='?{value}.*{reason}"):
        read({name: value})


@pytest.mark.parametrize(("step", "wanted"), [("", "10"), ("5", "5"), ("1", "2.5")])
def test_a_permit_outlives_the_lease_of_its_step(step: str, wanted: str) -> None:
    given = {LEASE: wanted, "HEADRACE_LEASE_S": step}
    assert read(given).gate_lease_s == float(wanted)
    if step != "1":
        with pytest.raises(EnvironmentValueError, match=f"is shorter than a step's lease .*set it to {wanted} or more"):
            read({**given, LEASE: f"{float(wanted) - 0.5:g}"})


@pytest.mark.parametrize(
    ("period_us", "slack_us", "bucket_us"),
    [(1_000, 20, 1), (1_000_000, 20_000, 1_000), (5_000_000, 100_000, 5_000), (3_600_000_000, 100_000, 3_600_000)],
)
def test_a_window_is_longer_by_its_slack_and_counts_by_thousandths(
    period_us: int, slack_us: int, bucket_us: int
) -> None:
    assert (clocks.slack_us(period_us), clocks.bucket_us(period_us)) == (slack_us, bucket_us)
