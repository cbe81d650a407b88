"""Redaction: a marked value that goes through a run is shown by no answer, page, stream, alert or export."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from config.asgi import application  # noqa: F401  (the whole site is loaded)
from dlq.alerting import evaluation
from dlq.models import Alert, DeadLetter
from tests.integration.access.test_keys import Api, issued
from tests.integration.api.test_access import login
from tests.support.admin_site import staff
from tests.support.openapi import OPERATIONS
from tests.support.pages.patterns import methods_of, pages
from tests.support.workers import await_end, await_that, publish
from workflows import services, this_process
from workflows.api.door.plain import Hosts
from workflows.api.door.reading import PlainRead
from workflows.edge import redaction
from workflows.edge.redaction import AnyRules, KnownRules
from workflows.models import AccessKey, AuditEntry, Event, Organization, Run, StepRun
from workflows.services import bulk
from workflows.services.access import redacting
from workflows.services.own import examples
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
SHOWS_NOTHING = {
    "logout": "it ends the session",
    "approval": "this run has none",
    "step_items": "this run has no container",
    "design": "examples of our own, in development only",
    "runs_behind": "it leads on to the list of runs",
    "letters:operation": "this operation is one on runs; it has numbers only",
    "limit": "a limit has no payload",
    "change_limit": "a limit has no payload",
}
"""Pages that take a GET and that this run does not open."""


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
    _, api = issued(org, operator=True, as_operator=True)
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
    client, shown = login(is_superuser=True), 0
    values = values_of(org, ended)
    examples.remember(org, user_of(client), kind="flow", name=ended.flow.slug, text=json.dumps(ended.input))
    event = Event.objects.get(id=values["event_id"])
    sent = json.dumps([{"name": event.name, "data": event.data}])
    examples.remember(org, user_of(client), kind="event", name="", text=sent)
    queries = ["part=problem&part=output&line=all&action=replay", f"like={ended.id}&flow={ended.flow.slug}",
               f"ids={event.id}&after={event.id}&with={ended.id}&q={CARD}", f"flow={ended.flow.slug}&tab=runs"]  # fmt: skip
    tried: set[str] = set()
    for each in pages():
        if "GET" not in methods_of(each.pattern.callback) or each.name == "logout":
            continue
        names = each.pattern.pattern.converters.keys()
        for what in ("input", "output", "run") if "what" in names else ("",):
            wanted = {name: values.get(name, what) for name in names}
            address = reverse(each.view_name, kwargs={**wanted, **(each.pattern.default_args or {})})
            answers = [client.get(f"{address}?org={org.slug}&{query}") for query in queries]
            assert {answer.status_code for answer in answers} <= {200, 302, 404, 422}, address
            texts = [text_of(answer) for answer in answers if answer.status_code == 200]
            tried.update({each.name} if texts else ())
            for query, text in zip(queries, texts, strict=False):
                assert_hidden(text.replace(f"q={CARD}", "").replace(f'value="{CARD}"', ""), f"{address}?{query}")
                shown += SHOWN in text
    left = {each.name for each in pages() if "GET" in methods_of(each.pattern.callback)} - tried
    assert left <= SHOWS_NOTHING.keys(), "no query of this test opens them"
    assert shown >= 12


def text_of(answer: Any) -> str:
    return b"".join(answer.streaming_content).decode() if answer.streaming else answer.content.decode()


def user_of(client: Client) -> int:
    return int(client.session["_auth_user_id"])


def values_of(org: Organization, run: Run) -> dict[str, Any]:
    """What stands for the parameters of the pages' addresses."""
    letter = DeadLetter.objects.get(run_id=run.id)
    operation = bulk.start(org, "cancel_runs", {"status": "waiting"}, by="me")
    assert run.event_id is not None
    return {
        "run_id": run.id, "key": "echo", "mode": "start", "slug": run.flow.slug, "event_id": run.event_id,
        "letter_id": letter.id, "group_id": letter.group_id, "operation_id": operation.id, "kind": "json",
        "action": "replay", "step_run_id": StepRun.objects.filter(run_id=run.id)[0].id,
    }  # fmt: skip


# --- what is sent back ----------------------------------------------------------------------------------------------


def textarea(answer: Any, name: str) -> str:
    found = re.search(rf'<textarea[^>]* name="{name}"[^>]*>(.*?)</textarea>', answer.content.decode(), re.DOTALL)
    assert found is not None
    return html.unescape(found[1])


def edited(text: str) -> str:
    """The JSON of a form with another word in it; what is hidden stays as it was shown."""
    assert CARD not in text
    assert PIN not in text
    value = text.replace(SHOWN, "another-value")
    assert value.count(f'"{redaction.MASK}"') >= 2
    return value


def assert_kept(value: Any) -> None:
    assert (value["card"], value["plain"]) == ({"number": CARD, "pin": PIN}, "another-value")


def test_a_run_that_is_repeated_with_changes_keeps_what_was_hidden(org: Organization, ended: Run) -> None:
    client = login(is_superuser=True)
    address = f"/runs/{ended.id}/repeat/?org={org.slug}"
    form = {
        "mode": "start",
        "version": "current",
        "seen": "failed",
        "input": edited(textarea(client.get(address), "input")),
    }
    preview = client.post(address, {**form, "go": "preview"})
    assert_hidden(preview.content.decode(), "the preview")
    digest = re.search(r'name="previewed" value="(\w+)"', preview.content.decode())
    assert digest is not None
    assert client.post(address, {**form, "go": "make", "previewed": digest[1]}).status_code == 302
    assert_kept(Run.objects.get(origin_id=ended.id).input)
    moved = json.dumps({"card": {}, "elsewhere": redaction.MASK})
    refused = client.post(address, {**form, "input": moved, "go": "preview", "force": "yes"})
    assert refused.status_code == 422
    assert "input.elsewhere" in refused.content.decode()
    assert not AuditEntry.objects.filter(org_id=org.id, details__icontains=CARD).exists()


def test_an_input_that_comes_back_by_the_api_keeps_what_was_hidden(org: Organization, ended: Run) -> None:
    _, api = issued(org)
    given = api.get(f"/runs/{ended.id}").json()["input"]
    answer = api.post(f"/runs/{ended.id}/fork", {"fromSteps": ["echo"], "input": {**given, "plain": "another-value"}})
    assert answer.status_code == 202, answer.content
    assert_kept(Run.objects.get(id=answer.json()["runId"]).input)
    wrong = api.post(f"/runs/{ended.id}/fork", {"fromSteps": ["echo"], "input": {"number": "***"}})
    assert wrong.status_code == 422
    assert "input.number" in wrong.json()["detail"]


def test_a_letter_that_is_replayed_with_changes_keeps_what_was_hidden(org: Organization, ended: Run) -> None:
    client = login(is_superuser=True)
    letter = DeadLetter.objects.get(run_id=ended.id)
    shown = edited(textarea(client.get(f"/letters/{letter.id}/?org={org.slug}"), "data"))
    form = {"data": shown, "mode": "start", "seen": "failed"}
    address = f"/letters/{letter.id}/repair/?org={org.slug}"
    preview = client.post(address, {**form, "preview": "yes"})
    assert_hidden(preview.content.decode(), "the preview")
    assert not Run.objects.filter(origin_id=ended.id).exists()
    assert client.post(address, form).status_code == 302
    assert_kept(Run.objects.get(origin_id=ended.id).input)


def test_the_test_page_begins_with_a_run_or_an_earlier_try_and_keeps_what_was_hidden(
    org: Organization, ended: Run
) -> None:
    client, slug = login(is_superuser=True), ended.flow.slug
    page = client.get(f"/test/?org={org.slug}&flow={slug}&like={ended.id}")
    form = {"flow": slug, "like": str(ended.id), "input": edited(textarea(page, "input"))}
    assert client.post(f"/test/?org={org.slug}", form).status_code == 302
    first = Run.objects.filter(org_id=org.id).order_by("-id")[0]
    assert_kept(first.input)
    again = client.get(f"/test/?org={org.slug}&flow={slug}")
    assert_hidden(again.content.decode(), "an earlier try")
    example = re.search(r'name="example" value="([\w-]+)"', again.content.decode())
    assert example is not None
    form = {"flow": slug, "example": example[1], "input": textarea(again, "input")}
    assert client.post(f"/test/?org={org.slug}", form).status_code == 302
    second = Run.objects.filter(org_id=org.id).order_by("-id")[0]
    assert second.id != first.id
    assert_kept(second.input)
    made_up = client.post(f"/test/?org={org.slug}", {"flow": slug, "input": '{"card": {"number": "***"}}'})
    assert made_up.status_code == 422
    assert "input.card.number" in made_up.content.decode()


def test_events_that_are_sent_again_keep_what_was_hidden(org: Organization, ended: Run) -> None:
    client = login(is_superuser=True)
    assert client.post(f"/events/{ended.event_id}/resend/?org={org.slug}").status_code == 302
    data = {"card": {"number": CARD, "pin": PIN}, "plain": SHOWN}
    sent = Event.objects.filter(org_id=org.id, name="shop/paid").exclude(id=values_of(org, ended)["event_id"]).get()
    assert sent.data == data
    first = json.dumps([{"name": "shop/tried", "data": data}])
    assert client.post(f"/test/events/?org={org.slug}", {"events": first}).status_code == 302
    page = client.get(f"/test/events/?org={org.slug}")
    assert_hidden(page.content.decode(), "an earlier try")
    example = re.search(r'name="example" value="([\w-]+)"', page.content.decode())
    assert example is not None
    form = {"example": example[1], "events": edited(textarea(page, "events"))}
    assert client.post(f"/test/events/?org={org.slug}", form).status_code == 302
    found = Event.objects.filter(org_id=org.id, name="shop/tried").order_by("-id")
    assert_kept(found[0].data)
    assert {each.verb for each in AuditEntry.objects.filter(org_id=org.id)} == {"event.send", "event.resend"}
    said = json.dumps([each.details for each in AuditEntry.objects.filter(org_id=org.id)])
    assert_hidden(said, "the audit log")
    assert SHOWN not in said


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


def test_an_alert_that_was_stored_before_the_rules_were_known_does_not_show_it(org: Organization, ended: Run) -> None:
    now = timezone.now()
    Alert.objects.create(
        org_id=org.id, severity="critical", title="A run failed", message=f"It said {CARD}.", execution=ended.id,
        fired_at=now, seen_at=now,
    )  # fmt: skip
    _, api = issued(org)
    shown = api.get("/alerts").content.decode()
    assert str(ended.id) in shown
    assert_hidden(shown, "the list of alerts")
    assert_hidden(login(of=org).get("/alerts/").content.decode(), "the page of alerts")


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
