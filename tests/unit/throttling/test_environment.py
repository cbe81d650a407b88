"""Numbers in the environment: one parser for the settings, the policies, the workers and the dead letters."""

from __future__ import annotations

import pytest

from throttling.environment import read_global_policy, step_lease_s, whole_number
from throttling.errors import EnvironmentValueError


@pytest.mark.parametrize(("raw", "value"), [("", 7), ("  ", 7), (" 3 ", 3), ("1", 1), ("9", 9)])
def test_a_whole_number_is_read_or_the_default_counts(raw: str, value: int) -> None:
    assert whole_number({"N": raw}, "N", 7, low=1, high=9) == value
    assert whole_number({}, "N", None, low=1, high=9) is None


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("many", "is not a whole number; set it to 1…9"),
        ("1.5", "is not a whole number"),
        ("0", "is out of range; set it to 1…9"),
        ("-1", "is out of range"),
        ("10", "is out of range"),
        ("9" * 5_000, "is not a whole number"),
    ],
)
def test_what_can_not_be_used_is_named_with_what_can(raw: str, reason: str) -> None:
    with pytest.raises(EnvironmentValueError, match=f"N='{raw}' {reason}"):
        whole_number({"N": raw}, "N", 7, low=1, high=9)


@pytest.mark.parametrize(
    ("name", "raw", "highest"),
    [("CONCURRENCY", "1000001", "1000000"), ("RATE_LIMIT_PERIOD_MS", "2678400001", "2678400000"),
     ("RETRY_ATTEMPTS", "101", "100")],
)  # fmt: skip
def test_a_policy_has_bounds_under_both_names(name: str, raw: str, highest: str) -> None:
    for prefix in ("HEADRACE_GLOBAL_", "INNGEST_GLOBAL_"):
        with pytest.raises(
            EnvironmentValueError, match=f"{prefix}{name}='{raw}' is out of range; set it to 1…{highest}"
        ):
            read_global_policy({prefix + name: raw})


@pytest.mark.parametrize(("raw", "lease_s"), [("", 10.0), ("2.5", 2.5), ("1", 2.0), ("0", 2.0), ("7200", 7200.0)])
def test_a_steps_lease_is_at_least_two_seconds(raw: str, lease_s: float) -> None:
    assert step_lease_s({"HEADRACE_LEASE_S": raw}) == lease_s
