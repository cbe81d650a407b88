"""Retries, errors, fallbacks, dead letters, alerts, Sentry and logs."""

from __future__ import annotations

from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.transport import Transport

from dlq.models import DeadLetter
from examples import server
from examples.python import failures, retries
from examples.python.outside import Outside
from tests.integration.examples import jobs
from workflows.models import Organization, Run

pytestmark = pytest.mark.usefixtures("workers")


def slack() -> list[dict[str, Any]]:
    return list(server.WORLD.tables.get("slack", {}).values())


def test_an_api_that_is_down_for_a_moment_is_no_failure(org: Organization, outside: Outside) -> None:
    detail = jobs.run(org, retries.resilient_job, {"path": "/data?fail=1"})
    assert detail.run.output == {"ok": True}, detail.run.error
    assert jobs.tries(detail.run.id, "api-call") == 2


def test_the_code_says_when_it_is_tried_again(org: Organization, outside: Outside) -> None:
    detail = jobs.run(org, retries.custom_retry_job, {"path": "/a?fail=2&fail_as=429", "retryAfter": "100ms"})
    assert detail.run.output == {"ok": True}, detail.run.error
    assert jobs.lines(detail.run.id) == ["Attempt 0 of 4"] * 3  # told waits cost no try


def test_the_code_says_that_it_is_not_tried_again(org: Organization, outside: Outside) -> None:
    detail = jobs.run(org, retries.custom_retry_job, {"path": "/b?fail=9&fail_as=422"})
    assert (detail.run.status, jobs.tries(detail.run.id, "process")) == ("failed", 1)
    assert "Invalid input" in detail.run.error["message"]


@pytest.mark.parametrize(
    ("path", "result", "times"),
    [("/c?fail=1&fail_as=429", {"ok": True}, 2), ("/d?fail=9&fail_as=500", {"error": "Non-retriable error"}, 1)],
)
def test_only_a_rate_limit_is_worth_another_try(
    org: Organization, outside: Outside, path: str, result: dict[str, Any], times: int
) -> None:
    detail = jobs.run(org, retries.risky_operation_job, {"path": path})
    assert (detail.run.output, jobs.tries(detail.run.id, "risky-operation")) == (result, times), detail.run.error


@pytest.mark.parametrize(
    ("data", "status", "category", "times", "alerts"),
    [
        ({"email": "a@b.c", "path": "/e?fail=1&fail_as=429&retry_after=1"}, "completed", None, 1, 0),
        ({"email": "a@b.c", "path": "/f?fail=9&fail_as=400"}, "failed", "invalid_input", 1, 0),
        ({"email": "a@b.c", "path": "/g?fail=9&fail_as=403"}, "failed", "auth", 1, 1),
        ({"path": "/h"}, "failed", "invalid_input", 0, 0),
    ],
)
def test_the_kind_of_an_error_says_what_becomes_of_it(
    org: Organization,
    outside: Outside,
    data: dict[str, Any],
    status: str,
    category: str | None,
    times: int,
    alerts: int,
) -> None:
    detail = jobs.run(org, retries.error_handling_example, data)
    assert detail.run.status == status, detail.run.error
    assert dict(jobs.journal(detail.run.id)).get("call-api") == (status if times else None)
    if times:
        assert jobs.tries(detail.run.id, "call-api") == times
    assert [message["text"] for message in slack()] == ["API authentication failed"] * alerts
    assert [letter.category for letter in DeadLetter.objects.filter(run_id=detail.run.id)] == [category][
        : category is not None
    ]


def test_the_second_provider_takes_over(org: Organization, outside: Outside) -> None:
    first = jobs.output(org, retries.graceful_example, {"to": "a@example.org"})
    assert first["provider"] == "primary"
    down = {"to": "b@example.org", "primary": "/v3/mail/send?fail=9"}
    detail = jobs.run(org, retries.graceful_example, down)
    assert detail.run.output["provider"] == "fallback", detail.run.error
    assert jobs.journal(detail.run.id) == [("try-primary", "failed"), ("try-fallback", "completed")]
    assert [mail["to"] for mail in server.WORLD.tables["mails"].values()] == ["a@example.org", "b@example.org"]


def test_a_critical_job_that_fails_is_a_dead_letter_and_a_word_in_the_chat(org: Organization, outside: Outside) -> None:
    jobs.publish(org, failures.critical_job_failed)
    detail = jobs.run(org, failures.critical_job, {"invalid": True})
    assert detail.run.status == "failed"
    follower = jobs.await_run_of(org, failures.critical_job_failed)
    assert follower.run.status == "completed", follower.run.error
    (message,) = slack()
    assert (message["channel"], message["text"]) == ("alerts", "Job failed after all retries: headrace/manual")
    assert "invalid" in message["details"]["error"]
    assert outside.first("dead_letter_queue", id=str(detail.run.id))["status"] == "failed"
    assert DeadLetter.objects.filter(run_id=detail.run.id, step_key="process").count() == 1


def test_many_dead_letters_are_a_word_in_the_chat(org: Organization, outside: Outside) -> None:
    jobs.publish(org, failures.critical_job_failed)
    assert jobs.output(org, failures.monitor_dlq) == {"dlqCount": 0, "alerted": False}
    for _ in range(2):
        jobs.run(org, failures.critical_job, {"invalid": True})
        jobs.await_run_of(org, failures.critical_job_failed)
    assert jobs.output(org, failures.monitor_dlq, {"threshold": 2}) == {"dlqCount": 2, "alerted": False}
    assert jobs.output(org, failures.monitor_dlq, {"threshold": 1}) == {"dlqCount": 2, "alerted": True}
    assert slack()[-1]["text"] == ":warning: High DLQ volume: 2 failed jobs in the last hour"


def test_failures_are_reported(org: Organization, outside: Outside) -> None:
    assert jobs.output(org, failures.monitored_job, {}) == {"ok": True}
    failed = jobs.run(org, failures.monitored_job, {"invalid": True})
    assert failed.run.status == "failed"
    assert jobs.journal(failed.run.id) == [("process", "failed"), ("report", "completed")]
    jobs.publish(org, failures.reporting_example_failed)
    origin = jobs.run(org, failures.reporting_example, {"invalid": True})
    follower = jobs.await_run_of(org, failures.reporting_example_failed)
    assert jobs.journal(follower.run.id) == [("report", "completed"), ("store-error", "completed")], follower.run.error
    assert "invalid" in outside.first("job_errors", id=str(origin.run.id))["error_message"]
    assert Run.objects.filter(org_id=org.id, status="failed").count() == 2


def test_a_report_has_its_tags_in_sentry() -> None:
    sent: list[Any] = []

    class Kept(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            sent.append(envelope.get_event())

    client = sentry_sdk.Client(dsn="http://key@127.0.0.1:1/1", transport=Kept, default_integrations=False)
    with sentry_sdk.isolation_scope() as scope:
        scope.set_client(client)
        assert failures.report_to_sentry("monitored-job", "e-1", {"a": 1}, "it broke")
    (event,) = sent
    assert (event["message"], event["level"]) == ("it broke", "error")
    assert event["tags"] == {"jobType": "monitored-job", "eventId": "e-1"}
    assert event["extra"]["eventData"] == {"a": 1}


def test_each_line_is_logged_once(org: Organization, outside: Outside) -> None:
    detail = jobs.run(org, failures.logging_example, {"id": 7})
    assert detail.run.output == {"ok": True}, detail.run.error
    said = jobs.lines(detail.run.id)
    for line in ("Job started", "Processing step started", "Processing step completed", "Job completed"):
        assert sum(each.startswith(line) for each in said) == 1, said
    failed = jobs.run(org, failures.logging_example, {"invalid": True})
    assert any("Job failed" in line and "The data is invalid" in line for line in jobs.lines(failed.run.id))
