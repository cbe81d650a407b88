"""The page of alerts: who sees and switches what, and the button that tries a channel."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_httpserver import HTTPServer

from dlq.models import Alert, AlertChannel, AlertNotification, AlertRule
from tests.integration.dashboard.people import member, operator_of_all
from tests.support.admin_site import said, successes
from workflows.models import Organization


@pytest.fixture
def operator(org: Organization) -> Client:
    return operator_of_all(org)


def channel(url: str, org: Organization | None) -> AlertChannel:
    made = AlertChannel(name=f"c-{uuid.uuid4().hex[:8]}", org_id=org.id if org else None)
    made.url = url
    made.save()
    return made


def rule(org: Organization | None) -> AlertRule:
    name = f"r-{uuid.uuid4().hex[:8]}"
    return AlertRule.objects.create(name=name, metric="throughput", threshold=1e9, org_id=org.id if org else None)


def test_a_channel_is_tried(org: Organization, editor: Client, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/alerts").respond_with_data("")
    made = channel(httpserver.url_for("/alerts").replace("http://", "json://"), org)
    page = editor.get("/alerts/").content.decode()
    assert made.name in page
    assert "json://" not in page
    assert made.name in successes(editor.post(f"/alerts/channels/{made.id}/test/", follow=True))[0]
    ((request, _),) = httpserver.log
    assert "tries whether alerts arrive here" in request.get_data(as_text=True)


def test_a_channel_that_does_not_answer_is_said(org: Organization, editor: Client, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/alerts").respond_with_data("", status=500)
    made = channel(httpserver.url_for("/alerts").replace("http://", "json://"), org)
    (answer,) = said(editor.post(f"/alerts/channels/{made.id}/test/", follow=True))
    assert "was not delivered" in answer[1]


def test_rules_and_channels_are_switched(org: Organization, editor: Client) -> None:
    made, ours = channel("json://localhost:1/", org), rule(org)
    for path, row in ((f"/alerts/channels/{made.id}", made), (f"/alerts/rules/{ours.name}", ours)):
        for verb in ("off", "on"):
            assert successes(editor.post(f"{path}/{verb}/", follow=True))
            row.refresh_from_db()
            assert row.enabled is (verb == "on")
        assert editor.post(f"{path}/delete/").status_code == 404


def test_what_is_of_others_or_of_all_is_out_of_reach(
    org: Organization, other: Organization, editor: Client, operator: Client
) -> None:
    theirs, of_all = channel("json://localhost:1/", other), channel("json://localhost:1/", None)
    rules = rule(other), rule(None)
    page = editor.get("/alerts/").content.decode()
    assert theirs.name not in page
    assert of_all.name not in page
    assert rules[0].name not in page
    for row in (theirs, of_all):
        for verb in ("test", "off"):
            assert editor.post(f"/alerts/channels/{row.id}/{verb}/").status_code == 404
    for each in rules:
        assert editor.post(f"/alerts/rules/{each.name}/off/").status_code == 404
    assert editor.post("/alerts/channels/environment/test/").status_code == 404
    assert of_all.name in operator.get("/alerts/").content.decode()
    assert successes(operator.post(f"/alerts/channels/{of_all.id}/off/", follow=True))
    assert operator.post(f"/alerts/channels/{theirs.id}/off/").status_code == 404
    for row in (*rules, theirs, of_all):
        row.delete()


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_those_who_may_only_look_see_alerts_and_no_channels(org: Organization, role: str) -> None:
    made, ours = channel("json://localhost:1/", org), rule(org)
    client = member(org, role)
    page = client.get("/alerts/").content.decode()
    assert ours.name in page
    assert made.name not in page
    assert "Switch" not in page.partition("<main")[2]
    for path in (f"/alerts/channels/{made.id}/test/", f"/alerts/rules/{ours.name}/off/"):
        assert client.post(path).status_code == 403


def test_what_fires_what_fired_and_what_was_not_delivered_is_listed(org: Organization, editor: Client) -> None:
    now = timezone.now()
    facts: dict[str, Any] = {"org_id": org.id, "severity": "warning", "message": "<b>", "fired_at": now, "seen_at": now}
    firing = Alert.objects.create(rule=rule(org), title="fires now", **facts)
    Alert.objects.create(rule=rule(org), title="is over", recovered_at=now, **facts)
    AlertNotification.objects.create(alert=firing, channel="chat", kind="fired", due_at=now, error="no route")
    page = editor.get("/alerts/")
    assert [each.title for each in page.context["firing"]] == ["fires now"]
    assert [each.title for each in page.context["past"]] == ["is over"]
    assert "no route" in page.content.decode()
    assert "&lt;b&gt;" in page.content.decode()
