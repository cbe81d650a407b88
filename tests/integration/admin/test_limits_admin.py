"""Overrides in the admin: the same verb as the API's, with history."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from throttling.models import ThrottleChange, ThrottleOverride
from workflows.models import Organization

ADD = "/admin/headrace_throttling/throttleoverride/add/"


@pytest.fixture
def admin(live_db: None) -> Client:
    name = f"boss-{uuid.uuid4().hex[:8]}"
    get_user_model().objects.create_superuser(name, password="secret")
    client = Client()
    client.login(username=name, password="secret")
    return client


def form(org: Organization, **more: Any) -> dict[str, Any]:
    return {"scope": "type", "type": "noop", "org_id": str(org.id), "rate_algorithm": "window", "rate_burst": 1, **more}


def test_an_override_is_made_moved_and_deleted(admin: Client, org: Organization) -> None:
    assert admin.post(ADD, form(org, concurrency=3)).status_code == 302
    row = ThrottleOverride.objects.get(org_id=org.id)
    assert row.changed_by.startswith("user boss-")
    change = f"/admin/headrace_throttling/throttleoverride/{row.pk}/change/"
    assert admin.post(change, form(org, concurrency=4, seen=row.changed_at.isoformat())).status_code == 302
    row = ThrottleOverride.objects.get(org_id=org.id)
    assert row.concurrency == 4
    assert (
        admin.post(change, form(org, type="delay", concurrency=4, seen=row.changed_at.isoformat())).status_code == 302
    )
    moved = ThrottleOverride.objects.get(org_id=org.id)
    assert moved.type == "delay"
    delete = f"/admin/headrace_throttling/throttleoverride/{moved.pk}/delete/"
    assert admin.post(delete, {"post": "yes"}).status_code == 302
    changes = list(ThrottleChange.objects.filter(org_id=org.id).order_by("id"))
    assert [(c.before or {}).get("concurrency") for c in changes] == [None, 3, 4, None, 4]
    assert [(c.after or {}).get("concurrency") for c in changes] == [3, 4, None, 4, None]
    history = admin.get(f"/admin/headrace_throttling/throttlechange/{changes[0].pk}/change/")
    assert (history.status_code, b"noop" in history.content) == (200, True)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"concurrency": 0}, "out of range"),
        ({"concurrency": -1}, "greater than or equal to 0"),
        ({"concurrency": "1.5"}, "Enter a whole number"),
        ({}, "changes something"),
        ({"type": "nope", "concurrency": 1}, "no step type"),
        ({"rate_limit": 5}, "both limit and period"),
        ({"scope": "flow", "type": "", "flow_id": str(uuid.UUID(int=1)), "concurrency": 1}, "There is no flow"),
    ],
)
def test_a_bad_override_is_refused_in_the_form(
    admin: Client, org: Organization, fields: dict[str, Any], reason: str
) -> None:
    answer = admin.post(ADD, form(org, **fields))
    assert (answer.status_code, reason in answer.content.decode()) == (200, True)
    assert not ThrottleOverride.objects.filter(org_id=org.id).exists()
