"""The pages of events, schedules and webhooks: rights, bad inputs, what is shown and what an action does."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.integration.dashboard.people import member
from tests.support.admin_site import successes
from tests.support.workers import WorkerPool, await_that, publish
from workflows.models import CronFire, Event, EventSchema, Flow, Organization, Run, Secret, Trigger, TriggerOutcome
from workflows.selectors.pages import events as selectors
from workflows.services import events as services

STEPS = [{"id": "a", "type": "noop"}]
FORM = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


def stored(org: Organization, name: str = "order/created", **more: Any) -> Event:
    now = timezone.now()
    return Event.objects.create(org_id=org.id, name=name, data={"n": 1}, ts=now, matched_at=now, **more)


def test_the_stream_says_what_each_event_made_or_why_none(org: Organization, workers: WorkerPool) -> None:
    publish(org, STEPS, slug="hears", on=[{"event": "order/created", "if": "event.data.n > 1"}])
    services.put_schema(org, "order/strict", FORM)
    made, false, unheard = services.send(
        org, [{"name": "order/created", "data": {"n": n}} for n in (2, 1)] + [{"name": "nobody/hears"}]
    )
    with pytest.raises(services.EventsRefused):
        services.send(org, {"name": "order/strict", "data": {"n": "x"}})
    await_that(lambda: not Event.objects.filter(org_id=org.id, matched_at=None).exists())
    client = member(org, "viewer")
    rows = {row.event.id: row for row in client.get("/events/").context["rows"]}
    assert (rows[made].runs, rows[made].state) == (1, "matched")
    assert (rows[false].runs, rows[unheard].state) == (0, "unheard")
    assert "its condition is false" in client.get(f"/events/{false}/").content.decode()
    assert "no trigger, wait or cancel_on listened" in client.get(f"/events/{unheard}/").content.decode()
    (refused,) = [row for row in rows.values() if row.state == "rejected"]
    assert "does not fit the schema" in client.get(f"/events/{refused.event.id}/").content.decode()
    run_id = Run.objects.get(event_id=made).id
    assert f"/runs/{run_id}/" in client.get(f"/events/{made}/").content.decode()
    assert [row.event.id for row in client.get("/events/?kind=unheard").context["rows"]] == [unheard]
    assert [row.event.id for row in client.get("/events/?kind=rejected").context["rows"]] == [refused.event.id]
    assert len(client.get("/events/?name=order/created").context["rows"]) == 2


def test_an_outcome_is_shown_with_its_reason(org: Organization) -> None:
    publish(org, STEPS, slug="limited", on=[{"event": "order/created"}])
    event, flow = stored(org), Flow.objects.get(organization=org, slug="limited")
    TriggerOutcome.objects.create(
        org_id=org.id, flow_id=flow.id, event_id=event.id, code="rate_limited", reason="5 in 1 h"
    )
    client = member(org, "viewer")
    assert b"5 in 1 h" in client.get(f"/events/{event.id}/").content
    assert b"1 rate_limited" in client.get("/events/").content


def test_an_event_is_sent_again_as_a_new_one(org: Organization) -> None:
    event = stored(org, user={"id": "anna"}, external_id="e-1")
    assert member(org, "viewer").post(f"/events/{event.id}/resend/").status_code == 403
    answer = member(org, "operator").post(f"/events/{event.id}/resend/", follow=True)
    assert "Sent again" in successes(answer)[0]
    new = Event.objects.exclude(id=event.id).get(org_id=org.id)
    assert (new.name, new.data, new.user, new.external_id) == (event.name, event.data, event.user, "")


def test_one_from_a_webhook_goes_to_its_flow_alone(org: Organization) -> None:
    publish(org, STEPS, slug="hooked", on=[{"webhook": "none", "name": "order/created"}])
    trigger = Trigger.objects.get(organization=org, kind="webhook")
    event = stored(org, trigger_id=trigger.id)
    new = services.resend(org, event.id)
    assert Event.objects.get(id=new).trigger_id == trigger.id


@pytest.mark.parametrize(("name", "says"), [("headrace/run.failed", "not sent again"), ("order/strict", "data")])
def test_what_can_not_be_sent_again_says_why(org: Organization, name: str, says: str) -> None:
    services.put_schema(org, "order/strict", {"type": "object", "required": ["other"]})
    event = stored(org, name)
    answer = member(org, "operator").post(f"/events/{event.id}/resend/", follow=True)
    assert successes(answer) == []
    assert says in answer.content.decode()


def test_another_organization_has_no_such_event(org: Organization, other: Organization) -> None:
    event = stored(org)
    stranger = member(other, "admin")
    for path in ("", "event.json"):
        assert stranger.get(f"/events/{event.id}/{path}").status_code == 404
    assert stranger.post(f"/events/{event.id}/resend/").status_code == 404
    assert stranger.get("/events/").context["rows"] == []
    assert stranger.get(f"/events/new/?after={uuid.UUID(int=0)}").context["count"] == 0


@pytest.mark.parametrize("query", ["kind=x", "cursor=💩", "cursor=1"])
def test_a_bad_filter_is_refused(org: Organization, query: str) -> None:
    assert member(org, "viewer").get(f"/events/?{query}").status_code == 422


def test_refused_events_are_searched_a_part_at_a_time(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "SEARCHED", 5)
    old = stored(org, rejected="data.n: no")
    for _ in range(12):
        stored(org)
    seen: list[Any] = []
    cursor, pages = "", 0
    client = member(org, "viewer")
    while True:
        answer = client.get(f"/events/?kind=rejected&cursor={cursor}")
        seen += [row.event.id for row in answer.context["rows"]]
        cursor, pages = answer.context["following"], pages + 1
        if not cursor:
            break
        assert b"Searched back to" in answer.content
    assert (seen, pages) == ([old.id], 3)


def test_new_events_are_counted_beside_the_list(org: Organization) -> None:
    first = stored(org)
    client = member(org, "viewer")
    assert b"Show" not in client.get(f"/events/new/?after={first.id}").content
    stored(org)
    assert b"Show 1 new event" in client.get(f"/events/new/?after={first.id}").content
    assert client.get("/events/new/?after=x").status_code == 422


def test_a_large_payload_is_cut_and_downloaded_whole(org: Organization) -> None:
    event = stored(org)
    Event.objects.filter(id=event.id).update(data={"text": "x" * 300_000})
    client = member(org, "viewer")
    assert len(client.get(f"/events/{event.id}/").content) < 280_000
    assert len(client.get(f"/events/{event.id}/event.json").json()["data"]["text"]) == 300_000


def put(client: Any, name: str, text: str, seen: str = "") -> Any:
    return client.post("/events/schemas/", {"name": name, "schema": text, "seen": seen}, follow=True)


def test_a_schema_is_stored_changed_and_deleted(org: Organization) -> None:
    client = member(org, "editor")
    assert "must have this form" in successes(put(client, "order/created", '{"type": "object"}'))[0]
    row = EventSchema.objects.get(organization=org)
    page = client.get("/events/schemas/?name=order/created").content.decode()
    assert "&quot;type&quot;: &quot;object&quot;" in page
    assert put(client, "order/created", '{"type": "array"}').status_code == 422  # it was seen as none
    row.refresh_from_db()
    assert row.schema == {"type": "object"}
    put(client, "order/created", '{"type": "object", "required": ["n"]}', seen=row.updated_at.isoformat())
    row.refresh_from_db()
    assert row.schema["required"] == ["n"]
    given = {"name": "order/created", "seen": row.updated_at.isoformat()}
    assert "any form again" in successes(client.post("/events/schemas/delete/", given, follow=True))[0]
    assert not EventSchema.objects.filter(organization=org).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"type": "strange"}', '{"$ref": "http://x/y"}', '{"a": NaN}',
                                  "[" * 5_000, '{"a": 1, "a": 2}'])  # fmt: skip
def test_what_is_no_schema_is_refused_and_the_text_is_kept(org: Organization, text: str) -> None:
    answer = put(member(org, "editor"), "order/created", text)
    assert answer.status_code == 422
    assert answer.context["text"] == text
    assert not EventSchema.objects.filter(organization=org).exists()


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_a_bad_name_of_a_schema_is_refused(org: Organization, name: str) -> None:
    assert put(member(org, "editor"), name, "{}").status_code == 422


def test_a_schema_takes_the_right_to_change_flows(org: Organization, other: Organization) -> None:
    services.put_schema(org, "order/created", FORM)
    reader = member(org, "operator")
    assert b"textarea" not in reader.get("/events/schemas/?name=order/created").content
    assert put(reader, "a", "{}").status_code == 422
    assert reader.post("/events/schemas/delete/", {"name": "order/created"}).status_code == 403
    assert member(other, "admin").get("/events/schemas/").context["schemas"] == []
    assert EventSchema.objects.filter(organization=org).count() == 1


def test_a_schedule_shows_its_last_and_next_fire_times(org: Organization, own_workers: WorkerPool) -> None:
    """No worker runs, which would fire it."""
    publish(org, STEPS, slug="nightly", on=[{"cron": "0 3 * * *", "timezone": "Europe/Berlin"}])
    flow = Flow.objects.get(organization=org, slug="nightly")
    at = timezone.now() - dt.timedelta(days=1)
    for number, outcome in enumerate(["started", "missed", "refused"]):
        CronFire.objects.create(
            org_id=org.id, flow=flow, schedule="0 3 * * * Europe/Berlin", fire_at=at - dt.timedelta(days=number),
            outcome=outcome,
        )  # fmt: skip
    (row,) = member(org, "viewer").get("/schedules/").context["rows"]
    assert (row["fires"].last.outcome, row["fires"].missed, len(row["next_fires"])) == ("started", 2, 2)
    assert not row["is_late"]
    Trigger.objects.filter(flow=flow).update(next_fire_at=at)
    assert b"late: it should have fired" in member(org, "viewer").get("/schedules/").content


def test_a_schedule_is_switched_from_the_list(org: Organization) -> None:
    publish(org, STEPS, slug="nightly", on=[{"cron": "0 3 * * *"}])
    trigger = Trigger.objects.get(organization=org)
    client = member(org, "editor")
    answer = client.post(f"/flows/nightly/triggers/{trigger.id}/off/", {"back": "schedules"}, follow=True)
    assert answer.redirect_chain[-1][0] == "/schedules/"
    (row,) = answer.context["rows"]
    assert (row["enabled"], successes(answer) != []) == (False, True)
    assert "Switch o" not in member(org, "operator").get("/schedules/").content.decode()


def test_a_webhook_shows_its_address_to_those_who_may_change_flows(org: Organization) -> None:
    publish(org, STEPS, slug="hooked", on=[{"webhook": "github", "secret": "GITHUB_SECRET"}])
    token = Trigger.objects.get(organization=org).token
    assert token not in member(org, "operator").get("/webhooks/").content.decode()
    page = member(org, "editor").get("/webhooks/").content.decode()
    assert f"/hooks/{token}" in page
    assert "is not stored, and no other source has it: deliveries are answered with 503" in page
    secret = Secret(organization=org, name="GITHUB_SECRET")
    secret.value = "x" * 20
    secret.save()
    assert "is not stored" not in member(org, "editor").get("/webhooks/").content.decode()


def test_another_organization_sees_no_schedule_and_no_webhook(org: Organization, other: Organization) -> None:
    publish(org, STEPS, slug="both", on=[{"cron": "0 3 * * *"}, {"webhook": "none", "name": "x.y"}])
    stranger = member(other, "admin")
    for path in ("/schedules/", "/webhooks/"):
        assert stranger.get(path).context["rows"] == []
        assert stranger.get(f"{path}?q=both").context["rows"] == []


def test_many_schedules_ask_as_many_statements_as_one(org: Organization) -> None:
    client, counts = member(org, "viewer"), []
    for number in range(1, 7):
        publish(org, STEPS, slug=f"n{number}", on=[{"cron": "0 3 * * *"}])
        with CaptureQueriesContext(connection) as queries:
            assert client.get("/schedules/").status_code == 200
        counts.append(len(queries))
    assert counts[1] == counts[-1], counts


def test_the_verbs_leave_a_schema_that_was_changed_since(org: Organization) -> None:
    first = services.put_schema(org, "a/b", {"type": "object"}, seen="")
    with pytest.raises(services.SchemaChanged, match="was changed meanwhile"):
        services.put_schema(org, "a/b", {}, seen="")
    second = services.put_schema(org, "a/b", {"type": "object", "required": ["n"]}, seen=first.updated_at.isoformat())
    with pytest.raises(services.SchemaChanged):
        services.delete_schema(org, "a/b", seen=first.updated_at.isoformat())
    assert services.delete_schema(org, "a/b", seen=second.updated_at.isoformat())
    with pytest.raises(services.SchemaChanged, match="was deleted meanwhile"):
        services.put_schema(org, "a/b", {}, seen=second.updated_at.isoformat())
    assert not services.delete_schema(org, "a/b")
