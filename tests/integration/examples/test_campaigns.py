"""Newsletters: the job, its endpoint, its polling, and the way from code that sends at once."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from django.test import RequestFactory

from examples import server
from examples.python import campaigns
from examples.python.outside import Outside
from tests.integration.examples import jobs
from workflows.models import Event, Organization

pytestmark = pytest.mark.usefixtures("workers")


@pytest.fixture
def campaign(outside: Outside) -> str:
    outside.upsert("campaigns", {"id": "c-1", "subject": "News", "content": "<p>…</p>", "listId": "l-1"})
    outside.upsert(
        "email_subscribers",
        *({"id": f"s-{n}", "email": f"s{n}@example.org", "list_id": "l-1", "status": "active"} for n in range(3)),
        {"id": "s-gone", "email": "gone@example.org", "list_id": "l-1", "status": "unsubscribed"},
    )
    return "c-1"


def mails() -> list[str]:
    return sorted(row["to"] for row in server.WORLD.tables.get("mails", {}).values())


def test_a_campaign_goes_to_each_once_and_who_fails_stops_nobody(
    org: Organization, outside: Outside, campaign: str
) -> None:
    ids = [f"s-{n}" for n in range(3)] + ["nobody"]
    for _ in range(2):  # sent again, nobody gets it again
        found = jobs.output(org, campaigns.send_email_campaign, {"campaignId": campaign, "subscriberIds": ids})
        assert found == {"success": True, "sent": 3, "failed": 1}
    assert mails() == ["s0@example.org", "s1@example.org", "s2@example.org"]
    stored = outside.first("campaigns", id=campaign)
    assert (stored["status"], stored["sentCount"], stored["failedCount"]) == ("completed", 3, 1)


def test_a_campaign_is_sent_by_the_hundred_with_a_pause_between(
    org: Organization, outside: Outside, campaign: str
) -> None:
    outside.upsert(
        "email_subscribers", *({"id": f"m-{n}", "email": f"m{n}@example.org", "list_id": "l-2"} for n in range(101))
    )
    detail = jobs.run(
        org, campaigns.send_email_campaign,
        {"campaignId": campaign, "subscriberIds": [f"m-{n}" for n in range(101)]},
    )  # fmt: skip
    assert detail.run.output["sent"] == 101, detail.run.error
    assert [key for key, _ in jobs.journal(detail.run.id)] == [
        "fetch-campaign", "send-emails", "between-batches", "send-emails:1", "update-campaign-status",
    ]  # fmt: skip
    assert len(mails()) == 101


def test_the_endpoint_answers_404_or_202_and_its_job_can_be_polled(
    org: Organization, outside: Outside, campaign: str, monkeypatch: pytest.MonkeyPatch, api_key: str, address: str
) -> None:
    monkeypatch.setenv("HEADRACE_CODE_ORGANIZATION", org.slug)
    jobs.publish(org, campaigns.send_email_campaign)
    post = RequestFactory().post("/api/campaigns/send")
    assert campaigns.send_campaign(post, "none").status_code == 404
    answer = campaigns.send_campaign(post, campaign)
    job = json.loads(answer.content)
    assert (answer.status_code, job["message"]) == (202, "Campaign queued for sending")
    with httpx.Client(base_url=address, headers={"authorization": f"Bearer {api_key}"}) as client:
        states = [status["state"] for status in campaigns.poll_job_status(client, job["jobId"], every_s=0.05)]
    assert states[-1] == "completed"
    assert set(states[:-1]) <= {"waiting", "active", "delayed"}
    assert mails() == ["s0@example.org", "s1@example.org", "s2@example.org"]


def test_polling_gives_up(org: Organization, api_key: str, address: str) -> None:
    class Never(httpx.Client):
        def get(self, url: Any, **more: Any) -> httpx.Response:
            return httpx.Response(200, json={"state": "active"}, request=httpx.Request("GET", str(url)))

    polled = campaigns.poll_job_status(Never(base_url=address), "j-1", every_s=0, patience_s=0)
    assert next(polled)["state"] == "active"
    with pytest.raises(TimeoutError, match="j-1 is still active"):
        list(polled)


def test_a_flag_or_a_share_of_the_users_goes_the_new_way(org: Organization, outside: Outside, campaign: str) -> None:
    assert campaigns.send_newsletter(org, campaign, flags=()) == {"status": "sent", "sent": 3}
    assert not Event.objects.filter(org_id=org.id, name="email/send.campaign").exists()
    assert campaigns.send_newsletter(org, campaign, flags={campaigns.FLAG})["status"] == "queued"
    assert campaigns.send_newsletter_of("ada", org, campaign, percent=0)["status"] == "sent"
    assert campaigns.send_newsletter_of("ada", org, campaign, percent=100)["status"] == "queued"
    assert Event.objects.filter(org_id=org.id, name="email/send.campaign").count() == 2
    with pytest.raises(LookupError, match="no campaign"):
        campaigns.send_newsletter(org, "none", flags=())


def test_a_rollout_holds_its_share_and_keeps_who_is_in() -> None:
    users = [f"user-{n}" for n in range(2_000)]
    tenth = {user for user in users if campaigns.is_in_rollout("f", user, 10)}
    half = {user for user in users if campaigns.is_in_rollout("f", user, 50)}
    assert tenth < half
    assert 150 < len(tenth) < 250
    assert 900 < len(half) < 1_100
    assert tenth == {user for user in users if campaigns.is_in_rollout("f", user, 10)}
    assert tenth != {user for user in users if campaigns.is_in_rollout("g", user, 10)}
