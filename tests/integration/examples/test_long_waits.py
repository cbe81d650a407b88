"""The examples on the clock of the test kit: waits of seconds, days and back-offs, without waiting."""

from __future__ import annotations

import datetime as dt

import pytest

from examples import server
from examples.python import campaigns, composition, failures, limits, retries, schedules, signup, webhooks
from examples.python.outside import SECRET, Outside
from workflows.functions.flows import FunctionFlow
from workflows.functions.testing import FlowKit

USER = {"userId": "abc123", "email": "user@example.com"}


@pytest.fixture
def kit(flow_kit: FlowKit, services_address: str) -> FlowKit:
    """A kit whose flows reach the services, which know nothing yet."""
    server.WORLD.__init__()  # type: ignore[misc]
    flow_kit.secrets[SECRET] = services_address
    return flow_kit


@pytest.fixture
def outside(services_address: str) -> Outside:
    return Outside(services_address)


def test_hello_world_sleeps_three_times_three_seconds(kit: FlowKit, outside: Outside) -> None:
    began = kit.now
    run = kit.start(composition.hello_world)
    for name in ("fetching", "transcribing", "sending-to-ai"):
        assert run.journal[-1].name == name
        assert run.status == "waiting"
        run.advance("3s")
    assert run.output["name"] == "workflow-from-headrace"
    assert kit.now - began == dt.timedelta(seconds=9)
    assert len(outside.find("workflows")) == 1


@pytest.mark.parametrize("is_complete", [False, True])
def test_a_reminder_goes_out_a_day_after_the_signup(kit: FlowKit, outside: Outside, is_complete: bool) -> None:
    kit.listen(signup.on_user_signup, signup.send_profile_reminder)
    _, run = sorted(kit.send("user/signup", USER), key=lambda run: run.flow)
    assert run.flow == "send-profile-reminder"
    run.advance("23h59m")
    assert run.status == "waiting"
    outside.update("profiles", USER["userId"], isComplete=is_complete)
    assert run.advance("1m").output == {"reminded": not is_complete}
    templates = [mail["template"] for mail in outside.find("mails")]
    assert templates == ["welcome", "complete-profile-reminder"][: 1 if is_complete else 2]


def test_a_user_who_leaves_is_reminded_of_nothing(kit: FlowKit, outside: Outside) -> None:
    run = kit.start(signup.send_profile_reminder, USER)
    run.send("user/deleted", {"userId": "another"})
    assert run.status == "waiting"
    run.send("user/deleted", {"userId": USER["userId"]})
    assert run.status == "cancelled"
    kit.advance("25h")
    assert outside.find("mails") == []


def test_nobody_approves_within_a_day(kit: FlowKit, outside: Outside) -> None:
    outside.upsert("workflows", {"id": "w-1"})
    run = kit.start(composition.next_workflow, {"workflowId": "w-1"})
    run.send("workflow/approved", {"workflowId": "w-2"})
    assert run.advance("24h").output == {"workflowId": "w-1", "state": "expired", "approvedBy": None}
    assert outside.first("workflows", id="w-1")["state"] == "expired"


@pytest.mark.parametrize(
    ("flow", "data", "step", "tries", "at_least_s"),
    [
        (failures.critical_job, {"path": "/x?fail=99"}, "process", 6, 40),
        (retries.resilient_job, {"path": "/x?fail=99"}, "api-call", 6, 40),
        (retries.custom_retry_job, {"path": "/x?fail=99"}, "process", 4, 10),
        (webhooks.idempotent_payment, {"idempotencyKey": "k", "amount": -1, "orderId": "o"}, "process-payment", 4, 60),
        (schedules.sync_external_data, {}, "sync", 11, 3_600),
    ],
)
def test_who_gives_up_does_so_after_its_tries(
    kit: FlowKit, flow: FunctionFlow, data: dict[str, object], step: str, tries: int, at_least_s: float
) -> None:
    if "path" not in data:
        kit.stub(step, ConnectionError("it is down"))
    began = kit.now
    run = kit.start(flow, data).finish()
    assert (run.status, run.entry(step).attempts) == ("failed", tries)
    assert (kit.now - began).total_seconds() >= at_least_s


def test_a_rate_limit_is_waited_for_a_minute_and_costs_no_try(kit: FlowKit) -> None:
    run = kit.start(retries.custom_retry_job, {"path": "/x?fail=2&fail_as=429"})
    run.advance("59s")
    assert run.status == "waiting"
    run.advance("61s")
    assert run.output == {"ok": True}
    assert run.entry("process").attempts == 1


def test_a_run_sleeps_until_its_quota_is_there_again(kit: FlowKit) -> None:
    data = {"apiProvider": "p", "path": "/limited?remaining=0&reset_s=600"}
    run = kit.start(limits.rate_limited_api, data)
    assert run.advance("9m").status == "waiting"
    assert run.advance("2m").output["remaining"] == 0


def test_a_campaign_takes_a_second_between_its_hundreds(kit: FlowKit, outside: Outside) -> None:
    outside.upsert("campaigns", {"id": "c", "subject": "s", "content": "c", "listId": "l"})
    outside.upsert(
        "email_subscribers",
        *({"id": f"s-{n}", "email": f"{n}@example.org", "list_id": "l", "status": "active"} for n in range(250)),
    )
    began = kit.now
    run = kit.start(campaigns.send_email_campaign, {"campaignId": "c"}).finish()
    assert run.output == {"success": True, "sent": 250, "failed": 0}
    assert kit.now - began == dt.timedelta(seconds=2)
    assert run.progress == {"percent": 100.0, "message": "250 of 250"}
    assert len(outside.find("mails")) == 250
    assert kit.start(campaigns.send_email_campaign, {"campaignId": "none"}).output["success"] is False


def test_schedules_start_their_jobs(kit: FlowKit) -> None:
    kit.stub("delete", 3)
    kit.stub("clean-sessions", 1)
    kit.stub("clean-audit-logs", 2)
    kit.stub("count-dlq", 11)
    results = {
        schedules.cleanup_expired_sessions: {"deletedCount": 3},
        schedules.cleanup_expired_tokens: {"deletedCount": 3},
        schedules.daily_cleanup: {"sessionsDeleted": 1, "logsDeleted": 2},
        schedules.sync_github_metrics: {"repositories": server.PAGES},
        schedules.sync_external_data: {"synced": True},
        schedules.generate_sitemap: {"pages": server.PAGES},
        failures.monitor_dlq: {"dlqCount": 11, "alerted": True},
        schedules.every_five_minutes: {"at": kit.now.isoformat()},
    }
    assert {flow: kit.start(flow, {}).output for flow in results} == results
