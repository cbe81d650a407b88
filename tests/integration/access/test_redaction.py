"""Redaction: a marked value that goes through a run is shown by no answer, page, stream, alert or export."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from config.asgi import application  # noqa: F401  (the whole site is loaded)
from dlq.alerting import evaluation
from dlq.models import Alert, DeadLetter
from tests.integration.access.test_keys import Api, issued
from tests.integration.api.test_access import login
from tests.support.admin_site import staff
from tests.support.openapi import OPERATIONS
from tests.support.workers import await_end, await_that, publish
from workflows import services, this_process
from workflows.api.door.plain import Hosts
from workflows.api.door.reading import PlainRead
from workflows.dashboard.urls import urlpatterns
from workflows.edge import redaction
from workflows.edge.redaction import AnyRules, KnownRules
from workflows.models import AccessKey, Event, Organization, Run, StepRun
from workflows.services.access import redacting
from workflows.streams.changes import OrganizationStream, RunStream

CARD = "4111-1111-2222-9876"
PIN = "731"
SHOWN = "harmless-value"
STEPS = [
    {"id": "echo", "type": "data_transform", "config": {"expression": "{'again': input.card, 'plain': input.plain}"}},
    {
        "id": "fails",
        "type": "data_transform",
        "config": {"expression": "int(input.card.number)"},
        "retry": {"attempts": 1},
    },
]
WITHOUT_RUNS = {"flows", "stop_flow", "cancel", "replay", "logout", "approval"}
"""Pages that show no run, or take a form."""


@pytest.fixture
def ended(org: Organization, workers: Any) -> Iterator[Run]:
    """A run that was given a card, gave it on, and failed at it."""
    redacting.set_rules(org, ["card.number", "*.pin"])
    this_process.forget(AnyRules)
    slug = publish(org, STEPS, on={"event": "shop/paid"}, alert_on_failure=True)
    key = AccessKey.issue(org, "event", "shop")[1]
    data = {"card": {"number": CARD, "pin": PIN}, "plain": SHOWN}
    answer = Client().post(f"/e/{key}", json.dumps({"name": "shop/paid", "data": data}), content_type="text/plain")
    assert answer.status_code == 200
    run_id = await_that(lambda: Run.objects.filter(org_id=org.id).first(), what="the run").id
    await_end(org, run_id)
    await_that(lambda: DeadLetter.objects.filter(org_id=org.id).first(), what="the dead letter")
    assert slug
    yield Run.objects.get(id=run_id)
    redacting.set_rules(org, [])
    this_process.forget(AnyRules)


def assert_hidden(text: str, where: str) -> None:
    assert CARD not in text, f"{where} shows the card"
    assert (
        not re.search(rf"\b{PIN}\b", text.replace("&quot;", '"').replace(r"\u0022", '"')) or f'"{PIN}"' not in text
    ), where


def test_no_answer_of_the_api_shows_it(org: Organization, ended: Run) -> None:
    _, api = issued(org, operator=True)
    letter = DeadLetter.objects.get(org_id=org.id)
    step = StepRun.objects.filter(run_id=ended.id).first()
    event = Event.objects.filter(org_id=org.id, name="shop/paid").get()
    values = {
        "run_id": ended.id, "reference": ended.id, "letter_id": letter.id, "group": letter.group_id,
        "step_run_id": step.id if step else "", "event_id": event.id, "slug": ended.flow.slug, "name": "shop/paid",
    }  # fmt: skip
    shown = 0
    for method, path, operation in OPERATIONS:
        if method != "get":
            continue
        address = re.sub(r"\{(\w+)\}", lambda match: str(values.get(match[1], ended.id)), path).removeprefix("/api")
        required = {each["name"]: str(step.id if step else "") for each in operation.get("parameters", [])
                    if each["in"] == "query" and each.get("required")}  # fmt: skip
        answer = api.get(address, **required)
        assert_hidden(answer.content.decode(), f"GET {path}")
        shown += SHOWN in answer.content.decode()
    assert shown >= 3, "the walk has met payloads"
    detail = api.get(f"/runs/{ended.id}").json()
    assert detail["input"]["card"] == {"number": "***", "pin": "***"}
    assert detail["input"]["plain"] == SHOWN
    assert detail["error"]["message"].count("***") >= 1
    replayed = api.post(f"/dlq/{letter.id}/replay", {})
    assert_hidden(replayed.content.decode(), "a replay")


def test_the_short_way_to_a_run_shows_it_neither(org: Organization, ended: Run) -> None:
    key = AccessKey.issue(org, "api", "short")[1]
    messages = PlainRead(key=key, run_id=ended.id, headers=()).answer()
    assert messages is not None
    body = messages[1]["body"].decode()
    assert_hidden(body, "the door")
    assert SHOWN in body
    assert Hosts() == set()


def test_no_page_shows_it(org: Organization, ended: Run) -> None:
    client, shown = login(superuser=True), 0
    values: dict[str, Any] = {"run_id": ended.id, "key": "echo", "mode": "start", "slug": ended.flow.slug}
    tried = set()
    for pattern in urlpatterns:
        if pattern.name in WITHOUT_RUNS:
            continue
        names = pattern.pattern.converters.keys()
        for what in ("input", "output") if "what" in names else ("",):
            wanted = {name: values.get(name, what) for name in names}
            address = reverse(f"headrace:{pattern.name}", kwargs={**wanted, **(pattern.default_args or {})})
            answer = client.get(f"{address}?org={org.slug}&part=problem&part=output&line=all")
            assert answer.status_code == 200, address
            tried.add(pattern.name)
            assert_hidden(answer.content.decode(), address)
            shown += SHOWN in answer.content.decode()
    assert {"runs", "run", "run_parts", "step_body", "step_download", "run_download"} <= tried
    assert shown >= 3


def test_no_page_of_the_admin_shows_it(org: Organization, ended: Run) -> None:
    boss = staff(superuser=True)
    letter = DeadLetter.objects.get(org_id=org.id)
    event = Event.objects.get(org_id=org.id, name="shop/paid")
    step = StepRun.objects.filter(run_id=ended.id, key="fails").get()
    for address in (
        f"headrace_workflows/run/{ended.id}/change/",
        f"headrace_workflows/steprun/{step.id}/change/",
        f"headrace_workflows/event/{event.id}/change/",
        f"headrace_dlq/deadletter/{letter.id}/change/",
        "headrace_dlq/deadletter/",
        "headrace_workflows/run/",
    ):
        answer = boss.get(f"/admin/{address}")
        assert answer.status_code == 200, address
        assert_hidden(answer.content.decode(), address)


def test_streams_alerts_and_commands_do_not_show_it(org: Organization, ended: Run) -> None:
    messages = RunStream.open(org, ended.id).poll()
    assert any(each.name == "run-status" for each in messages)
    assert_hidden("".join(each.encode().decode() for each in messages), "the run's stream")
    stream = OrganizationStream.open(org, "1")
    assert_hidden("".join(each.encode().decode() for each in stream.poll()), "the organization's stream")
    evaluation.alert_of_failures()
    for alert in Alert.objects.filter(org_id=org.id):
        assert_hidden(alert.message, "an alert")
    for line in (["runs", "show", str(ended.id)], ["dlq", "list"]):
        out = io.StringIO()
        call_command(*line, f"--org={org.slug}", "--json", stdout=out)
        assert_hidden(out.getvalue(), " ".join(line))


def test_the_engine_sees_the_real_values(org: Organization, ended: Run) -> None:
    step = StepRun.objects.get(run_id=ended.id, key="echo")
    assert step.output["again"] == {"number": CARD, "pin": PIN}
    assert ended.input["card"]["number"] == CARD
    again = services.trigger(org, ended.flow.slug, ended.input).run_ids[0]
    await_end(org, again)
    assert StepRun.objects.get(run_id=again, key="echo").output["again"]["number"] == CARD


def test_rules_are_set_by_those_who_may_and_hold_at_once(org: Organization) -> None:
    _, api = issued(org, "change_organization")
    assert api.send("PUT", "/redaction", {"rules": ["password", "password", "data.card.number"]}).json() == {
        "rules": ["password", "data.card.number"]
    }
    assert api.get("/redaction").json()["rules"] == ["password", "data.card.number"]
    assert redaction.rules_of(org.id).masked({"password": "x"}) == {"password": "***"}
    for rules in (["a b"], ["*"], [""], ["a..b"], ["x" * 201], [".".join("a" * 11)], ["a[0]"], ["a\0"]):
        assert api.send("PUT", "/redaction", {"rules": rules}).status_code == 422, rules
    assert api.send("PUT", "/redaction", {"rules": [f"f{number}" for number in range(101)]}).status_code == 422
    assert Api(AccessKey.issue(org, "api", "all")[1]).get("/redaction").status_code == 200
    out = io.StringIO()
    call_command("organization", "redaction", f"--org={org.slug}", "--clear", stdout=out)
    assert "no rules" in out.getvalue()
    assert this_process.own(KnownRules).of(org.id).masked({"password": "x"}) == {"password": "x"}
