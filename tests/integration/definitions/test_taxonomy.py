"""Each row of the error taxonomy, on real workers and against a real HTTP server: calls, delays, category, dead letter."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from email.utils import format_datetime
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from dlq.models import DeadLetter
from tests.support.workers import await_that, by_key, publish, run_to_end
from workflows import services
from workflows.models import Attempt, Organization, StepRun
from workflows.selectors.runs import StepDetail

pytestmark = pytest.mark.usefixtures("workers")
LATE_S = 1.5
"""How much later than asked a try may come on a busy machine."""


class Server:
    """Notes when it was called, and answers as told."""

    def __init__(self, httpserver: HTTPServer, *answers: Response) -> None:
        self.moments: list[float] = []
        self._answers = list(answers)
        self.url = httpserver.url_for("/x")
        httpserver.expect_request("/x").respond_with_handler(self._answer)

    def _answer(self, _: Request) -> Response:
        self.moments.append(time.monotonic())
        place = min(len(self.moments), len(self._answers)) - 1
        given = self._answers[place]
        return Response(given.get_data(), given.status_code, dict(given.headers))

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in itertools.pairwise(self.moments)]


def run(org: Organization, config: dict[str, Any], kind: str = "http_request", **more: Any) -> StepDetail:
    return by_key(run_to_end(org, [{"id": "a", "type": kind, "config": config, **more}]))["a"]


def letters(org: Organization) -> list[tuple[str, int]]:
    return list(DeadLetter.objects.filter(org_id=org.id).values_list("category", "attempts"))


RETRY = {"attempts": 3, "delay": "200ms", "backoff": "exponential"}


@pytest.mark.parametrize(
    ("status", "category", "calls"),
    [
        (500, "transient", 3), (502, "transient", 3), (503, "transient", 3), (504, "transient", 3), (408, "transient", 3),
        (425, "transient", 3), (429, "rate_limited", 3), (400, "invalid_input", 1), (404, "invalid_input", 1),
        (422, "invalid_input", 1), (409, "business", 1), (401, "auth", 1), (403, "auth", 1), (407, "auth", 1),
        (501, "configuration", 1),
    ],
)  # fmt: skip
def test_a_status_code(org: Organization, httpserver: HTTPServer, status: int, category: str, calls: int) -> None:
    server = Server(httpserver, Response("why", status))
    step = run(org, {"url": server.url}, retry=RETRY)
    assert (step.step_run.status, len(server.moments), len(step.attempts)) == ("failed", calls, calls)
    assert step.attempts[-1].error["category"] == category
    assert letters(org) == [(category, calls)]
    for gap, asked in zip(server.gaps, (0.2, 0.4), strict=False):
        assert asked * 0.8 <= gap <= asked * 1.2 + LATE_S


def test_a_failure_that_passes_leaves_no_dead_letter(org: Organization, httpserver: HTTPServer) -> None:
    server = Server(httpserver, Response("no", 500), Response("no", 500), Response("yes"))
    step = run(org, {"url": server.url}, retry=RETRY)
    assert (step.step_run.status, step.step_run.attempt, letters(org)) == ("completed", 3, [])


def test_the_schedule_of_the_legacy_format(org: Organization, httpserver: HTTPServer) -> None:
    """About 1 and 2 s for the first two retries of the preset `demo` (the others follow by the same formula)."""
    server = Server(httpserver, Response("no", 500), Response("no", 500), Response("yes"))
    run(org, {"url": server.url}, retry={"preset": "demo"})
    first, second = server.gaps
    assert 0.8 <= first <= 1.2 + LATE_S
    assert 1.6 <= second <= 2.4 + LATE_S


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_told_wait_costs_no_attempt(org: Organization, httpserver: HTTPServer, status: int, form: str) -> None:
    told = (
        "1" if form == "seconds" else format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2.5), usegmt=True)
    )
    server = Server(httpserver, Response("wait", status, {"retry-after": told}), Response("ok"))
    step = run(org, {"url": server.url}, retry={"attempts": 1})
    assert (step.step_run.status, step.step_run.attempt, step.step_run.server_retry_waits) == ("completed", 1, 1)
    assert server.gaps[0] >= (1.0 if form == "seconds" else 0.4)
    assert letters(org) == []


def test_the_eleventh_told_wait_costs_an_attempt(org: Organization, httpserver: HTTPServer) -> None:
    server = Server(httpserver, Response("wait", 429, {"retry-after": "0"}))
    step = run(org, {"url": server.url}, retry={"attempts": 2, "delay": "10ms", "backoff": "fixed"})
    assert (len(server.moments), step.step_run.server_retry_waits, step.step_run.attempt) == (12, 10, 2)
    assert letters(org) == [("rate_limited", 2)]


def test_a_told_wait_is_an_hour_at_most(org: Organization, httpserver: HTTPServer) -> None:
    server = Server(httpserver, Response("wait", 429, {"retry-after": "999999"}))
    config = {"url": server.url}
    slug = publish(org, [{"id": "a", "type": "http_request", "config": config, "throttling": {"concurrency": 1}}])
    (run_id,) = services.trigger(org, slug).run_ids
    row = await_that(lambda: StepRun.objects.filter(run_id=run_id, status="waiting").first())
    left_s = (row.wake_at - dt.datetime.now(dt.UTC)).total_seconds()
    assert 3_500 < left_s <= 3_600
    assert row.attempt == 1
    services.cancel_run(org, run_id)


def test_a_connection_error_is_transient(org: Organization) -> None:
    step = run(org, {"url": "http://127.0.0.1:1/"}, retry={"attempts": 2, "delay": "10ms"})
    assert ([a.error["category"] for a in step.attempts], letters(org)) == (["transient"] * 2, [("transient", 2)])


def test_a_timeout_of_a_call_is_transient(org: Organization, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_handler(lambda _: time.sleep(0.5) or Response("late"))
    config = {"url": httpserver.url_for("/x"), "timeout": "100ms"}
    step = run(org, config, retry={"attempts": 2, "delay": "600ms"})
    assert ([a.error["category"] for a in step.attempts], letters(org)) == (["transient"] * 2, [("transient", 2)])


def test_a_missing_secret_is_configuration_and_calls_nobody(org: Organization, httpserver: HTTPServer) -> None:
    server = Server(httpserver, Response("ok"))
    step = run(org, {"url": server.url, "headers": {"x": "${ secrets.NOT_THERE }"}}, retry=RETRY)
    assert (step.attempts[-1].error["category"], len(server.moments)) == ("configuration", 0)
    assert letters(org) == [("configuration", 1)]


def test_the_timeout_of_a_step_is_resource_and_tried_twice(org: Organization, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_handler(lambda _: time.sleep(0.6) or Response("late"))
    step = run(
        org, {"url": httpserver.url_for("/x")}, timeout="200ms", retry={**RETRY, "attempts": 5, "delay": "700ms"}
    )
    assert ([a.error["category"] for a in step.attempts], letters(org)) == (["resource"] * 2, [("resource", 2)])


def test_memory_of_a_sandbox_is_resource(org: Organization) -> None:
    config = {"code": "return ['x' * 1000000 for _ in range(1000)]", "memory_mb": 16}
    step = run(org, config, kind="sandbox_sync", retry={"attempts": 4, "delay": "10ms", "backoff": "fixed"})
    assert ([a.error["category"] for a in step.attempts], letters(org)) == (["resource"] * 2, [("resource", 2)])


@pytest.mark.parametrize(
    ("how", "category", "tries"),
    [("final", "business", 1), ("seed-final", "business", 1), ("answered", "auth", 1), ("memory", "resource", 2),
     ("unknown", "transient", 3)],
)  # fmt: skip
def test_what_a_handler_raises(org: Organization, how: str, category: str, tries: int) -> None:
    step = run(org, {"how": how}, kind="raises", retry={"attempts": 3, "delay": "10ms", "backoff": "fixed"})
    assert [a.error["category"] for a in step.attempts] == [category] * tries
    assert letters(org) == [(category, tries)]
    if how == "seed-final":
        assert "ValueError: cause" in step.attempts[0].error["traceback"]


@pytest.mark.parametrize("how", ["once:later", "once:seed-later", "once:hinted"])
def test_a_handler_says_when_to_try_again(org: Organization, how: str) -> None:
    slug = publish(org, [{"id": "a", "type": "raises", "config": {"how": how, "seconds": 1}, "retry": {"attempts": 5}}])
    (run_id,) = services.trigger(org, slug).run_ids
    row = await_that(lambda: StepRun.objects.filter(run_id=run_id, status="waiting").first())
    first = Attempt.objects.get(step_run_id=row.id)
    assert 0.5 < (row.wake_at - first.ended_at).total_seconds() <= 1.05
    assert (row.server_retry_waits, row.attempt, first.error["category"]) == (1, 1, "rate_limited")
    services.cancel_run(org, run_id)


def test_a_category_may_have_a_policy_of_its_own(org: Organization, httpserver: HTTPServer) -> None:
    """401 is tried again where the definition says so; everything else goes by the step's policy."""
    own = {"attempts": 1, "categories": {"auth": {"attempts": 3, "delay": "10ms", "backoff": "fixed"}}}
    denied = Server(httpserver, Response("no", 401), Response("no", 401), Response("ok"))
    assert run(org, {"url": denied.url}, retry=own).step_run.status == "completed"
    assert len(denied.moments) == 3


def test_a_flow_s_policy_holds_for_its_steps(org: Organization, httpserver: HTTPServer) -> None:
    server = Server(httpserver, Response("no", 500))
    steps = [
        {"id": "a", "type": "http_request", "config": {"url": server.url}, "critical": False},
        {"id": "b", "type": "http_request", "config": {"url": server.url}, "critical": False, "retry": {"attempts": 1}},
    ]
    detail = run_to_end(org, steps, retry={"attempts": 2, "delay": "10ms", "backoff": "fixed"})
    assert {key: len(step.attempts) for key, step in by_key(detail).items()} == {"a": 2, "b": 1}


def test_what_an_attempt_keeps_is_bounded_and_masked(org: Organization) -> None:
    from workflows.models import Secret

    secret = Secret(organization=org, name="TOKEN")
    secret.value = "s3cret" * 4
    secret.save()
    # The secret stands where the message is cut.
    config = {
        "code": "print('visible'); raise ValueError('x' * 3990 + input['t'] + 'y' * 9000)",
        "input": {"t": "s3cret" * 4},
    }
    step = run(org, config, kind="code_execution", retry={"attempts": 1})
    error = step.attempts[0].error
    assert (len(error["message"]), len(error["traceback"]) <= 16_000) == (4_000, True)
    assert step.attempts[0].logs == [{"at": step.attempts[0].logs[0]["at"], "level": "print", "message": "visible"}]

    noisy = run(org, {"how": "unknown", "logs": 500, "say": "x" * 10}, kind="raises", retry={"attempts": 1})
    logs = noisy.attempts[0].logs
    assert len(logs) == 201
    assert logs[0]["message"] == "line number=0 said='xxxxxxxxxx'"
    assert logs[-1]["message"] == "… and 300 more lines"


def test_a_secret_is_masked_before_a_message_is_cut() -> None:
    from workflows.engine.pipeline.retry_decision import MAX_MESSAGE_CHARACTERS, describe

    error = describe(ValueError("x" * (MAX_MESSAGE_CHARACTERS - 4) + "top-secret"), ["top-secret"])
    assert "top" not in error.message
    assert error.message.endswith("x***")


def test_waiting_for_a_retry_holds_no_permit_and_no_worker(org: Organization, httpserver: HTTPServer) -> None:
    """With one place at a time, a step that waits for its retry lets the next one through."""
    server = Server(httpserver, Response("no", 500), Response("ok"))
    slow = {"attempts": 2, "delay": "3s", "backoff": "fixed"}
    slug = publish(
        org,
        [
            {
                "id": "a",
                "type": "http_request",
                "config": {"url": server.url},
                "retry": slow,
                "throttling": {"concurrency": 1},
            }
        ],
    )
    first, second = services.trigger_many(org, slug, [{}, {}]).run_ids
    await_that(lambda: StepRun.objects.filter(run_id__in=[first, second], status="completed").exists(), 2.5)
    waiting = StepRun.objects.get(run_id__in=[first, second], status="waiting")
    assert (waiting.waiting_for, waiting.lease_token) == ("retry", None)
    services.cancel_run(org, waiting.run_id)
