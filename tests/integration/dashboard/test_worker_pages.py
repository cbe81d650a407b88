"""The page of workers and queues: what it shows, and who stops what."""

from __future__ import annotations

import uuid

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from tests.integration.dashboard.people import member
from tests.support.admin_site import said, successes
from throttling.models import ThrottleOverride
from workflows.models import Organization, Worker
from workflows.steps.registry import IO_QUEUE


def stops(org: Organization) -> list[str]:
    return list(ThrottleOverride.objects.filter(org_id=org.id).values_list("scope", flat=True))


def test_workers_are_listed_with_what_they_do(org: Organization) -> None:
    now = timezone.now()
    name = f"w-{uuid.uuid4().hex[:8]}"
    row = Worker.objects.create(
        id=uuid.uuid4(), name=name, queues=[IO_QUEUE], slots=7, active=3, unclaimed=0, started_at=now, seen_at=now
    )
    client = member(org, "viewer")
    page = client.get("/workers/")
    assert name in page.content.decode()
    assert next(each for each in page.context["queues"] if each["name"] == IO_QUEUE)["workers"] >= 1
    part = client.get("/workers/", headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    assert name in part
    row.delete()


def test_an_operator_of_the_organization_pauses_drains_and_resumes_it(org: Organization) -> None:
    client = member(org, "operator")
    assert successes(client.post("/workers/organization/pause/", {"reason": "the bank"}, follow=True))
    assert stops(org) == ["pause"]
    page = client.get("/workers/").content.decode()
    assert "the bank" in page
    assert successes(client.post("/workers/organization/drain/", follow=True))
    assert stops(org) == ["drain"]
    assert successes(client.post("/workers/organization/resume/", follow=True))
    assert stops(org) == []
    assert "neither paused nor draining" in said(client.post("/workers/organization/resume/", follow=True))[0][1]


def test_a_viewer_stops_nothing_and_no_member_stops_a_queue(org: Organization) -> None:
    assert member(org, "viewer").post("/workers/organization/pause/").status_code == 403
    for role in ("operator", "admin"):
        assert member(org, role).post(f"/workers/queues/{IO_QUEUE}/pause/").status_code == 403
    assert not ThrottleOverride.objects.filter(scope="pause", name=IO_QUEUE).exists()
    assert stops(org) == []


@pytest.mark.parametrize("path", ["queues/none/pause/", "queues/io/drain/", "queues/io/none/", "organization/none/"])
def test_what_is_no_queue_and_no_verb_is_refused(org: Organization, path: str) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser(f"root-{uuid.uuid4().hex[:8]}"))
    assert client.post(f"/workers/{path}?org={org.slug}").status_code in {404, 422}
