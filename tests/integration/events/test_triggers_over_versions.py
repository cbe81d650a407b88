"""Publishing keeps what belongs to a trigger: whether it is on, its address and secret, its place in its schedule."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from tests.integration.events.test_webhooks import github, send
from tests.support.workers import publish
from workflows.definitions.validate import DefinitionProblems
from workflows.engine.events import matching, receive
from workflows.engine.events.receive import NewEvent
from workflows.models import Event, Organization, Run, Secret, Trigger
from workflows.services import schedules
from workflows.services.flows import trigger_rows
from workflows.services.webhooks import addresses

SLEEP = {"id": "a", "type": "delay", "config": {"for": "1h"}}
RENAMED = {**SLEEP, "id": "renamed"}
NIGHTLY = {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}
SENDERS = 5
HOOKS = [{"webhook": "github", "secret": "REPO_ONE"}, {"webhook": "github", "secret": "REPO_TWO"}]


@pytest.fixture(autouse=True)
def secrets(org: Organization) -> None:
    for name in ("REPO_ONE", "REPO_TWO"):
        row = Secret(organization=org, name=name)
        row.value = f"the key {name}"
        row.save()


def triggers(org: Organization) -> list[Trigger]:
    return list(Trigger.objects.filter(organization=org).order_by("position"))


def switch_off(org: Organization, **which: Any) -> None:
    assert Trigger.objects.filter(organization=org, **which).update(enabled=False) == 1


def delivery(org: Organization, row: Trigger, number: int = 1) -> int:
    """Sends one to the address of a webhook, signed with its secret. Returns the status."""
    body = json.dumps({"number": number}).encode()
    headers = github(f"the key {row.config['secret']}", body, delivery=f"{row.token}-{number}")
    status: int = send(f"/hooks/{row.token}", headers, body).status_code
    return status


def test_what_is_switched_off_stays_off(org: Organization) -> None:
    """Case 05."""
    publish(org, [SLEEP], on=[NIGHTLY, {"event": "b05/go"}])
    for each in triggers(org):
        switch_off(org, id=each.id)
    publish(org, [RENAMED], on=[NIGHTLY, {"event": "b05/go"}])
    assert [each.enabled for each in triggers(org)] == [False, False]
    assert [task.enabled for task in PeriodicTask.objects.filter(args__contains=str(triggers(org)[0].id))] == [False]
    publish(
        org,
        [SLEEP],
        on=[{"event": "b05/go", "if": "event.data.x == 1"}, {"event": "b05/new"}, {**NIGHTLY, "cron": "0 4 * * *"}],
    )
    assert [(each.event_name, each.enabled) for each in triggers(org)] == [
        ("b05/go", False),
        ("b05/new", True),
        ("", False),
    ]


def test_two_webhooks_of_one_event_name_keep_their_addresses_and_secrets(org: Organization) -> None:
    """Case 06."""
    publish(org, [SLEEP], on=HOOKS)
    before = triggers(org)
    publish(org, [RENAMED], on=HOOKS)
    publish(org, [SLEEP], on=[*reversed(HOOKS)])
    after = {row.id: row for row in triggers(org)}
    for number, row in enumerate(before):
        now = after[row.id]
        assert (now.token, now.config["secret"], now.key) == (row.token, row.config["secret"], row.key)
        assert delivery(org, row, number) == 200
    other = github("the key REPO_TWO", b"{}")
    assert send(f"/hooks/{before[0].token}", other, b"{}").status_code == 401
    assert Run.objects.filter(org_id=org.id).count() == 2


def test_one_that_goes_takes_nothing_of_the_other(org: Organization) -> None:
    publish(org, [SLEEP], on=HOOKS)
    one, two = triggers(org)
    switch_off(org, id=one.id)
    publish(org, [SLEEP], on=HOOKS[1:])
    assert (delivery(org, two), delivery(org, one)) == (200, 404)
    publish(org, [SLEEP], on=HOOKS)  # it comes back within 30 days: the same address, and it is still off
    assert [(row.id, row.token, row.enabled) for row in triggers(org)] == [
        (one.id, one.token, False), (two.id, two.token, True),
    ]  # fmt: skip


def test_a_removed_address_is_forgotten_after_thirty_days(org: Organization) -> None:
    publish(org, [SLEEP], on=HOOKS[0])
    (one,) = triggers(org)
    publish(org, [SLEEP])
    assert triggers(org) == []
    long_ago = timezone.now() - trigger_rows.KEPT_FOR - dt.timedelta(minutes=1)
    Trigger.including_removed.filter(id=one.id).update(removed_at=long_ago)
    publish(org, [SLEEP], on=HOOKS[0])
    assert [row.token == one.token for row in triggers(org)] == [False]
    assert Trigger.including_removed.filter(organization=org).count() == 1


def test_an_id_says_which_one_it_is_whatever_else_changes(org: Organization) -> None:
    publish(org, [SLEEP], on=[{**HOOKS[0], "id": "first"}, {**HOOKS[1], "id": "second"}])
    one, two = triggers(org)
    publish(org, [SLEEP], on=[{**HOOKS[0], "id": "second", "name": "repo/pushed"}, {**HOOKS[0], "id": "first"}])
    assert [(row.id, row.token, row.event_name, row.key) for row in triggers(org)] == [
        (two.id, two.token, "repo/pushed", "second"), (one.id, one.token, "webhook.github", "first"),
    ]  # fmt: skip


def test_publishing_stops_with_the_line_to_add(org: Organization) -> None:
    filtered = [{"event": "order/go", "if": "event.data.a"}, {"event": "order/go", "if": "event.data.b"}]
    publish(org, [SLEEP], on=filtered)
    switch_off(org, position=0)
    with pytest.raises(DefinitionProblems, match="`id: event-order-go` .*switched off.*`id: event-order-go-2`"):
        publish(org, [RENAMED], on=filtered)
    assert [row.enabled for row in triggers(org)] == [False, True]
    publish(org, [RENAMED], on=[{**filtered[1], "id": "event-order-go-2"}, {**filtered[0], "id": "event-order-go"}])
    assert [(row.condition, row.enabled) for row in triggers(org)] == [("event.data.b", True), ("event.data.a", False)]


def test_the_admin_says_the_line_to_add_in_its_form(org: Organization) -> None:
    publish(org, [SLEEP], on=[{"event": "x", "if": "event.data.a"}, {"event": "x", "if": "event.data.b"}])
    switch_off(org, position=0)
    flow = triggers(org)[0].flow
    get_user_model().objects.create_superuser(f"boss-{org.slug}", password="secret")
    client = Client()
    client.login(username=f"boss-{org.slug}", password="secret")
    text = "flow: flow\non: [{event: x}]\nsteps: [{id: a, type: noop}]\n"
    answer = client.post(f"/admin/headrace_workflows/flow/{flow.id}/change/", {"definition": text, **management()})
    assert (answer.status_code, b"id: event-x" in answer.content) == (200, True)


def management() -> dict[str, int]:
    return {f"{name}-{part}_FORMS": 0 for name in ("triggers", "versions") for part in ("TOTAL", "INITIAL")}


def test_a_schedule_goes_on_where_it_was_and_a_changed_one_begins_now(org: Organization) -> None:
    publish(org, [SLEEP], on=[NIGHTLY, {"event": "x"}])
    (row, _) = triggers(org)
    since = timezone.now() - dt.timedelta(days=3)
    Trigger.objects.filter(id=row.id).update(fires_from=since)
    publish(org, [RENAMED], on=[{"event": "x"}, NIGHTLY])
    assert (triggers(org)[1].id, triggers(org)[1].fires_from) == (row.id, since)
    publish(org, [SLEEP], on=[{**NIGHTLY, "cron": "5 3 * * *"}])
    (changed,) = triggers(org)
    assert changed.id == row.id
    assert changed.fires_from is not None
    assert changed.fires_from > since + dt.timedelta(days=2)


@pytest.mark.usefixtures("published")
def test_a_delivery_that_is_stored_while_its_webhook_is_removed_is_matched(org: Organization, monkeypatch: Any) -> None:
    publish(org, [SLEEP], on=HOOKS[0])
    (row,) = triggers(org)
    with monkeypatch.context() as patch:
        patch.setattr(matching, "match", lambda ids: None)
        assert delivery(org, row) == 200
    publish(org, [SLEEP], on=HOOKS[1])
    publish(org, [SLEEP])
    assert matching.match(list(Event.objects.filter(org_id=org.id).values_list("id", flat=True))) == 1


@pytest.mark.usefixtures("published")
def test_no_delivery_is_lost_while_versions_are_published(org: Organization) -> None:
    """1,000 deliveries to two addresses while versions are published in a loop: 1,000 runs."""
    versions = [
        ([SLEEP], [*HOOKS, {"event": "order/*"}, NIGHTLY]),
        ([RENAMED], [{**HOOKS[1], "if": "event.data != null"}, NIGHTLY, HOOKS[0], {"event": "order/new"}]),
    ]
    publish(org, versions[0][0], on=versions[0][1])
    rows = triggers(org)[:2]
    stop, rounds = threading.Event(), [0]

    def go_on_publishing() -> None:
        while not stop.is_set():
            rounds[0] += 1
            steps, on = versions[rounds[0] % 2]
            publish(org, steps, on=on)
        connections.close_all()

    def deliver(first: int) -> None:
        for number in range(first, 1_000, SENDERS):
            row = rows[number % 2]
            body = json.dumps({"number": number}).encode()
            addresses.receive_webhook(
                row.token, github(f"the key {row.config['secret']}", body, delivery=f"n-{number}"), body
            )
        connections.close_all()

    with ThreadPoolExecutor(1) as publisher:
        publishing = publisher.submit(go_on_publishing)
        with ThreadPoolExecutor(SENDERS) as senders:
            list(senders.map(deliver, range(SENDERS)))
        stop.set()
        publishing.result(60)
    deadline = time.monotonic() + 30
    while (
        left := list(Event.objects.filter(org_id=org.id, matched_at=None).values_list("id", flat=True))
    ) and time.monotonic() < deadline:
        matching.match(left)
    assert rounds[0] > 3
    assert Run.objects.filter(org_id=org.id).count() == 1_000
    assert [row.token for row in sorted(triggers(org), key=lambda row: row.token) if row.token] == sorted(
        row.token for row in rows
    )


def test_an_event_that_nobody_listens_to_says_so(org: Organization, api_key: str) -> None:
    publish(org, [SLEEP], on=[{"event": "order/paid", "if": "event.data.total > 5"}, {"event": "order/off"}],
            cancel_on=[{"event": "order/cancelled"}])  # fmt: skip
    switch_off(org, event_name="order/off")
    wanted = {"order/paid": None, "order/cancelled": None, "order/off": "no trigger listens to this name",
              "typo/paid": "no trigger listens to this name"}  # fmt: skip
    ids = receive.receive(org.id, [NewEvent(name=name, data={"total": 1}) for name in wanted])
    client = Client(headers={"authorization": f"Bearer {api_key}"})
    found = {}
    for id_ in ids:
        detail = client.get(f"/api/events/{id_}").json()
        found[detail["name"]] = detail["outcome"]
    assert found == wanted
    listed = client.get("/api/events?unheard=true").json()["events"]
    assert {each["name"] for each in listed} == {"order/off", "typo/paid"}


def test_scheduling_knows_no_removed_trigger(org: Organization) -> None:
    publish(org, [SLEEP], on=NIGHTLY)
    publish(org, [SLEEP])
    assert (schedules.schedules(org), schedules.refresh(org)) == ([], 0)
    past = timezone.now() - dt.timedelta(days=2)
    Trigger.including_removed.filter(organization=org).update(next_fire_at=past, fires_from=past)
    row = Trigger.including_removed.get(organization=org)
    assert schedules.fire(row.id) == 0
