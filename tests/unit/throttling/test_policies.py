import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttling.defaults import BY_TYPE, CRITICAL_BY_TYPE, GLOBAL, PRESETS
from throttling.environment import read_global_policy
from throttling.errors import ThrottlingError
from throttling.policy import step_policy
from throttling.retry import BackoffKind, Jitter, RetryPolicy
from workflows.engine.pipeline.retry_decision import decide
from workflows.errors import Category
from workflows.steps.outcome import Failed, Retry, StepError


@pytest.mark.parametrize(
    ("step_type", "critical", "shipped"),
    [
        ("http_request", False, (5, "10/10000ms", 3, "exponential", 3000)),
        ("oauth_api_call", True, (2, "10/10000ms", 5, "exponential", 3000)),
        ("sandbox_sync", True, (3, "20/30000ms", 2, "fixed", 5000)),
        ("code_execution", False, (3, "20/30000ms", 2, "fixed", 5000)),
        ("data_transform", False, (15, "50/30000ms", 2, "fixed", 1000)),
        ("conditional", False, (15, "50/30000ms", 2, "fixed", 1000)),
        ("publish_event", False, (20, "200/60000ms", 2, "fixed", 500)),
        ("noop", False, (10, "100/60000ms", 3, "exponential", 2000)),
    ],
)
def test_the_shipped_table(step_type: str, critical: bool, shipped: tuple[object, ...]) -> None:
    policy = step_policy(step_type, critical=critical)
    retry = policy.retry
    assert (policy.concurrency, str(policy.rate), retry.max_attempts, retry.backoff, retry.delay_ms) == shipped
    assert set(CRITICAL_BY_TYPE) < set(BY_TYPE)


@pytest.mark.parametrize(
    ("name", "attempts", "kind"),
    [("email", 6, "exponential"), ("payment", 4, "fixed"), ("report", 3, "none"), ("webhook", 6, "exponential"),
     ("data_sync", 11, "long_exponential"), ("image", 3, "fixed"), ("demo", 6, "exponential")],
)  # fmt: skip
def test_the_named_presets(name: str, attempts: int, kind: str) -> None:
    assert (PRESETS[name].max_attempts, PRESETS[name].backoff) == (attempts, kind)


def test_the_demo_preset_waits_about_1_2_4_8_16_seconds() -> None:
    policy = PRESETS["demo"]
    for attempt, seconds in enumerate((1, 2, 4, 8, 16), start=1):
        for _ in range(50):
            assert 0.8 * seconds <= policy.delay_after(attempt) / 1000 <= 1.2 * seconds


@given(st.integers(1, 100), st.sampled_from(Jitter), st.sampled_from(BackoffKind), st.integers(0, 10**7))
def test_a_delay_is_never_negative_and_never_above_its_cap(
    attempt: int, jitter: Jitter, kind: BackoffKind, delay: int
) -> None:
    policy = RetryPolicy(max_attempts=100, backoff=kind, delay_ms=delay, max_delay_ms=10**7, jitter=jitter)
    assert 0 <= policy.delay_after(attempt, chance=random.Random(attempt)) <= 10**7


@pytest.mark.parametrize("bad", [{"max_attempts": 0}, {"max_attempts": 101}, {"delay_ms": -1}, {"factor": 0.5}])
def test_impossible_policies_are_refused(bad: dict[str, float]) -> None:
    given_values = {"max_attempts": 3, "backoff": BackoffKind.FIXED, "delay_ms": 1, **bad}
    with pytest.raises(ThrottlingError):
        RetryPolicy(**given_values)  # type: ignore[arg-type]


def test_the_environment_overrides_the_global_policy_under_both_names() -> None:
    policy = read_global_policy({"HEADRACE_GLOBAL_CONCURRENCY": "7", "INNGEST_GLOBAL_RETRY_ATTEMPTS": "9"})
    assert (policy.concurrency, policy.retry.max_attempts, policy.rate) == (7, 9, GLOBAL.rate)
    with pytest.raises(ThrottlingError, match="HEADRACE_GLOBAL_RATE_LIMIT_EXECUTIONS='0'"):
        read_global_policy({"HEADRACE_GLOBAL_RATE_LIMIT_EXECUTIONS": "0"})


POLICY = RetryPolicy(max_attempts=3, backoff=BackoffKind.FIXED, delay_ms=1_000, jitter=Jitter.NONE)


@pytest.mark.parametrize(
    ("category", "attempt", "server_retry_waits", "retry_after_s", "delay_s"),
    [
        (Category.TRANSIENT, 1, 0, None, 1.0),
        (Category.TRANSIENT, 3, 0, None, None),
        (Category.RATE_LIMITED, 3, 0, 7.0, 7.0),
        (Category.RATE_LIMITED, 3, 10, 7.0, None),
        (Category.RATE_LIMITED, 1, 10, 7.0, 7.0),
        (Category.RATE_LIMITED, 1, 0, 1e9, 3_600.0),
        (Category.RATE_LIMITED, 1, 0, -5.0, 0.0),
        (Category.RESOURCE, 1, 0, None, 1.0),
        (Category.RESOURCE, 2, 0, None, None),
        (Category.INVALID_INPUT, 1, 0, None, None),
        (Category.BUSINESS, 1, 0, None, None),
        (Category.AUTH, 1, 0, None, None),
        (Category.CONFIGURATION, 1, 0, None, None),
        (Category.INVALID_OUTPUT, 1, 0, None, None),
    ],
)
def test_the_category_decides_what_follows(
    category: Category, attempt: int, server_retry_waits: int, retry_after_s: float | None, delay_s: float | None
) -> None:
    error = StepError(category=category, name="E", message="m")
    outcome = decide(
        error, policy=POLICY, attempt=attempt, server_retry_waits=server_retry_waits, retry_after_s=retry_after_s
    )
    if delay_s is None:
        assert outcome == Failed(error=error)
    else:
        assert isinstance(outcome, Retry)
        assert outcome.delay_s == delay_s
        assert outcome.by_server == (retry_after_s is not None and server_retry_waits < 10)
