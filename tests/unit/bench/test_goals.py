"""A bound holds where all of the interval is within it."""

from __future__ import annotations

import pytest

from bench.experiments import BY_NAME
from bench.goals import GOALS, Goal, Verdict


def results(ours: list[float], theirs: list[float]) -> dict[str, dict[str, dict[str, list[float]]]]:
    return {"lone": {"headrace": {"own_ms": ours}, "bullmq": {"own_ms": theirs}}}


RATIO = Goal(title="", experiment="lone", metric="own_ms", peer="bullmq", at_most=1.0)


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [([5.0] * 9, Verdict.HOLDS), ([15.0] * 9, Verdict.MISSED), ([5.0] * 5 + [15.0] * 4, Verdict.OPEN)],
)
def test_a_ratio_is_judged_by_its_interval(ours: list[float], verdict: Verdict) -> None:
    assert RATIO.verdict(RATIO.found(results(ours, [10.0] * 9))) is verdict


def test_pairs_are_compared_and_not_medians() -> None:
    """The machine was ten times slower for a while, for both: the ratio does not know of it."""
    found = RATIO.found(results([8.0, 80.0, 8.0, 80.0], [10.0, 100.0, 10.0, 100.0]))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.8, 0.8))


def test_a_lower_bound_is_one_of_the_metric_itself_where_there_is_no_peer() -> None:
    goal = Goal(title="", experiment="http", metric="per_s", at_least=1_500)
    assert goal.verdict(goal.found({"http": {"headrace": {"per_s": [1_600.0] * 9}}})) is Verdict.HOLDS
    assert goal.verdict(goal.found({"http": {"headrace": {"per_s": [1_400.0] * 9}}})) is Verdict.MISSED
    assert goal.bound == "≥ 1,500"


def test_what_was_not_measured_is_not_judged() -> None:
    assert RATIO.verdict(RATIO.found({})) is Verdict.UNKNOWN
    assert RATIO.verdict(RATIO.found({"lone": {"headrace": {"own_ms": [1.0]}}})) is Verdict.UNKNOWN


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.title)
def test_every_goal_is_of_an_experiment_that_exists(goal: Goal) -> None:
    experiment = BY_NAME[goal.experiment]
    assert {goal.contender, goal.peer or goal.contender} <= set(experiment.contenders)
    assert (goal.at_most is None) != (goal.at_least is None)
