"""Newsletters: a job in batches, the endpoint that starts it, polling for its end, and the way there from code that
sends at once: by a flag, or for a share of the users."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any
from uuid import UUID

import httpx
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from pydantic import BaseModel

from examples.python.outside import SECRET, Outside, Row, chunks
from workflows import services
from workflows.functions import Event, ReceivedEvent, Step, flow
from workflows.functions.publish import organization as organization_name
from workflows.models import Organization

BATCH_SIZE = 100
FLAG = "async_newsletter"


class SendCampaign(BaseModel):
    """The data of `email/send.campaign`."""

    campaignId: str
    subscriberIds: list[str] | None = None


# --- the job ----------------------------------------------------------------------------------------------------------


@flow("send-email-campaign", on=Event("email/send.campaign", model=SendCampaign), concurrency=10, retry="email")
def send_email_campaign(event: ReceivedEvent, step: Step) -> Row:
    """Send a campaign to its subscribers, a hundred at a time with a second between; those who fail stop nobody."""
    outside, campaign_id = Outside.of(step), event.data.campaignId
    campaign = step.run("fetch-campaign", outside.first, "campaigns", id=campaign_id)
    if campaign is None:
        return {"success": False, "error": "Campaign not found"}
    subscribers = event.data.subscriberIds or step.run("fetch-subscribers", subscriber_ids, outside, campaign)
    batches = list(chunks(subscribers, BATCH_SIZE))
    results: list[Row] = []
    for number, batch in enumerate(batches):
        results += step.run("send-emails", send_emails, outside, campaign, batch)
        step.progress(100 * (number + 1) / len(batches), f"{len(results)} of {len(subscribers)}")
        if number < len(batches) - 1:
            step.sleep("between-batches", "1s")
    failed = [result for result in results if result["status"] == "failed"]
    sent = len(results) - len(failed)
    step.run(
        "update-campaign-status", outside.update, "campaigns", campaign_id,
        status="completed", sentCount=sent, failedCount=len(failed), completedAt=step.now().isoformat(),
    )  # fmt: skip
    return {"success": True, "sent": sent, "failed": len(failed)}


def subscriber_ids(outside: Outside, campaign: Row) -> list[str]:
    """The active subscribers of the campaign's list."""
    return [row["id"] for row in outside.find("email_subscribers", list_id=campaign["listId"], status="active")]


def send_emails(outside: Outside, campaign: Row, ids: Sequence[str]) -> list[Row]:
    """Send one mail each. Returns {subscriberId, status, error} for each; nobody gets the campaign twice."""
    return [_sent(outside, campaign, subscriber_id) for subscriber_id in ids]


def _sent(outside: Outside, campaign: Row, subscriber_id: str) -> Row:
    try:
        subscriber = outside.first("email_subscribers", id=subscriber_id)
        if subscriber is None:
            return {"subscriberId": subscriber_id, "status": "failed", "error": "There is no such subscriber"}
        key = f"{campaign['id']}:{subscriber_id}"
        outside.send_mail(subscriber["email"], "campaign", key, subject=campaign["subject"], html=campaign["content"])
    except httpx.HTTPError as error:
        return {"subscriberId": subscriber_id, "status": "failed", "error": type(error).__name__}
    return {"subscriberId": subscriber_id, "status": "sent"}


# --- the endpoint -----------------------------------------------------------------------------------------------------


@csrf_exempt
@require_POST
def send_campaign(request: HttpRequest, campaign_id: str) -> JsonResponse:
    """`POST /api/campaigns/<id>/send`: 202 with the job's id at once, or 404."""
    organization = Organization.objects.get(slug=organization_name())
    if outside_of(organization).first("campaigns", id=campaign_id) is None:
        return JsonResponse({"error": "Campaign not found"}, status=404)
    job_id = queue_campaign(organization, campaign_id)
    return JsonResponse({"message": "Campaign queued for sending", "jobId": str(job_id)}, status=202)


def queue_campaign(organization: Organization, campaign_id: str) -> UUID:
    """Send the event that starts the job. In a transaction, it is sent with the commit. Returns the job's id."""
    return services.send_events(organization, {"name": "email/send.campaign", "data": {"campaignId": campaign_id}})[0]


def outside_of(organization: Organization) -> Outside:
    """The services, outside of a flow."""
    return Outside(organization.secrets.get(name=SECRET).value)


# --- polling ----------------------------------------------------------------------------------------------------------


def poll_job_status(
    client: httpx.Client, job_id: str, *, every_s: float = 2.0, patience_s: float = 600.0
) -> Iterator[Row]:
    """The states of a job, `{jobId, state, progress, result, error}`, until it is completed or failed; what a page
    shows while it waits. Raises TimeoutError after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while True:
        status: Row = client.get(f"/api/jobs/{job_id}").raise_for_status().json()
        yield status
        if status["state"] in {"completed", "failed"}:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"The job {job_id} is still {status['state']} after {patience_s:g} s.")
        time.sleep(every_s)


# --- from sync to async -----------------------------------------------------------------------------------------------


def send_newsletter(organization: Organization, campaign_id: str, *, flags: Collection[str]) -> Row:
    """Queue the campaign where the flag is set; else send it at once, as before. Returns {status, …}."""
    if FLAG in flags:
        return {"status": "queued", "jobId": str(queue_campaign(organization, campaign_id))}
    return send_newsletter_at_once(organization, campaign_id)


def send_newsletter_at_once(organization: Organization, campaign_id: str) -> Row:
    """The old way: whoever asks waits for every mail. Raises LookupError for an unknown campaign."""
    outside = outside_of(organization)
    campaign = outside.first("campaigns", id=campaign_id)
    if campaign is None:
        raise LookupError(f"There is no campaign {campaign_id!r}.")
    results = send_emails(outside, campaign, subscriber_ids(outside, campaign))
    outside.update("campaigns", campaign_id, status="sent")
    return {"status": "sent", "sent": sum(result["status"] == "sent" for result in results)}


def is_in_rollout(feature: str, user_id: str, percent: float) -> bool:
    """Whether a user belongs to the first `percent` of all. A user who is in stays in while it grows: no dice."""
    digest = hashlib.sha256(f"{feature}:{user_id}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 * 100 < percent


def send_newsletter_of(user_id: str, organization: Organization, campaign_id: str, *, percent: float) -> Row:
    """Queue the campaign for so many percent of the users, the same users each time."""
    flags: Any = {FLAG} if is_in_rollout(FLAG, user_id, percent) else ()
    return send_newsletter(organization, campaign_id, flags=flags)
