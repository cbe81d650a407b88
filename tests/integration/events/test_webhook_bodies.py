"""What the body of a webhook may be: forms with repeated fields, charsets, media types; and when it is a repeat."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from tests.integration.events.test_webhooks import hook
from tests.support.workers import publish
from workflows.definitions.validate import DefinitionProblems, parse
from workflows.engine.events import matching
from workflows.engine.run_controls import idempotency
from workflows.models import Event, IdempotencyKey, Organization, Run, Secret

FORM = "application/x-www-form-urlencoded"
SLEEP = {"id": "a", "type": "delay", "config": {"for": "1h"}}


def send(address: str, headers: dict[str, str], body: bytes, kind: str = "application/json") -> Any:
    """These bytes as they are. (Django's `post` encodes them anew, by the charset.)"""
    client = Client(raise_request_exception=False)
    return client.generic("POST", address, body, content_type=kind, headers=headers)


def data(org: Organization) -> Any:
    return Event.objects.filter(org_id=org.id).latest("id").data["data"]


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"item=1&item=2&item=3", FORM, {"item": ["1", "2", "3"]}),  # case 14
        (b"a=1&b=&b=x&a=2", FORM, {"a": ["1", "2"], "b": ["", "x"]}),
        (b"a=1", "Application/X-WWW-Form-Urlencoded", {"a": "1"}),  # case 14
        (b"name=Jos%E9", f"{FORM}; charset=ISO-8859-1", {"name": "José"}),
        (b"name=Jos\xe9", f"{FORM};charset=latin-1", {"name": "José"}),
        (b"name=Jos%C3%A9", FORM, {"name": "José"}),
        (b"payload=1&payload=2", FORM, {"payload": ["1", "2"]}),
        (b"\xef\xbb\xbf{}", "application/json", {}),  # case 14
        (b'{"n": "Jos\xe9"}', "application/json; charset=latin-1", {"n": "José"}),
        ('{"n": "José"}'.encode("utf-16"), 'application/json; charset="utf-16"', {"n": "José"}),
        (b'{"n": 1}', "Application/JSON", {"n": 1}),
        (b'{"n": 1}', "application/vnd.GitHub+json", {"n": 1}),
        (b'{"n": 1}', "text/plain", {"n": 1}),
        (b'{"n": 1}', "", {"n": 1}),
        (b'\xef\xbb\xbf{"n": 1}', "application/cloudevents+json; charset=UTF-8", {"n": 1}),
    ],
)  # fmt: skip
def test_a_body_is_read_by_its_type_and_charset(org: Organization, body: bytes, kind: str, expected: Any) -> None:
    answer = send(hook(org, "none"), {}, body, kind)
    assert (answer.status_code, answer.content) == (200, b'{"received": true}')
    assert data(org) == expected


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"name=Jos%E9", FORM, "not in utf-8"),  # case 14
        (b"name=Jos\xe9", FORM, "not in utf-8"),
        (b'{"n": "\xe9"}', "application/json", "not in utf-8"),
        (b'{"n": "\xe9"}', "application/json; charset=us-ascii", "not in ascii, as its content type says"),
        (b"{}", "application/json; charset=klingon", "'klingon'"),
        (b"{}", "application/json; charset=base64", "'base64'"),
        (b"{}", "application/json; charset=unicode_escape", "'unicode_escape'"),
        (b"{}", "application/json; charset=idna", "'idna'"),
        (b"<a/>", "application/xml", "'application/xml'"),
        (b"<a/>", "application/xml", "application/x-www-form-urlencoded"),
        (b"--x\r\n", "multipart/form-data; boundary=x", "send JSON"),
        (b"{", "application/problem+json", "no JSON"),
        (b"payload=hello", FORM, "payload"),
        (b"&".join([b"a=1"] * 10_001), FORM, "10,000 fields"),
    ],
)
def test_a_body_that_can_not_be_read_says_why(org: Organization, body: bytes, kind: str, says: str) -> None:
    answer = send(hook(org, "none"), {}, body, kind)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert says in answer.json()["detail"]
    assert not Event.objects.filter(org_id=org.id).exists()


@pytest.mark.parametrize("path", ["/api/workflows/f/run", "/callbacks/unknown"])
def test_a_byte_order_mark_is_passed_over_everywhere(org: Organization, api_key: str, path: str) -> None:
    publish(org, [SLEEP], slug="f")
    client = Client(headers={"authorization": f"Bearer {api_key}"})
    answer = client.post(path, b"\xef\xbb\xbf{}", content_type="application/json")
    assert answer.status_code in {202, 404}, answer.content


@pytest.fixture
def secret(org: Organization) -> None:
    row = Secret(organization=org, name="HOOK")
    row.value = "key"
    row.save()


BODY = b'{"button": "pressed"}'


def test_a_delivery_without_an_id_is_no_repeat(org: Organization) -> None:
    """Case 41."""
    address = hook(org, "none")
    for _ in range(3):
        assert send(address, {}, BODY).status_code == 200
    runs = Run.objects.filter(org_id=org.id)
    assert runs.count() == 3
    ids = {run.input["eventId"] for run in runs}
    assert ids == {str(run.event_id) for run in runs}
    assert len(ids) == 3


def test_a_delivery_with_an_id_is_one(org: Organization) -> None:
    address = hook(org, "none", id_header="X-Id")
    for headers in ({"x-id": "1"}, {"x-id": "1"}, {}, {}, {"x-id": "2"}):
        assert send(address, headers, BODY).status_code == 200
    assert Run.objects.filter(org_id=org.id).count() == 4


def test_a_dedup_window_is_asked_for(org: Organization) -> None:
    address = hook(org, "none", dedup="10m")
    publish(org, [SLEEP], slug="listener", on={"event": "webhook.none"})
    for body in (BODY, BODY, BODY + b" ", b'{"button": "other"}'):
        assert send(address, {}, body).status_code == 200
    by_flow = [Run.objects.filter(org_id=org.id, flow__slug=slug).count() for slug in ("hooked", "listener")]
    assert by_flow == [3, 3]  # by the bytes of the body, for who else listens to the event too
    left = IdempotencyKey.objects.filter(org_id=org.id, key__contains=":body:")
    assert left.count() == 6
    for row in left:
        made = Run.objects.get(id=row.run_id).created_at
        assert 590 < (row.expires_at - made).total_seconds() < 610


def test_windows_of_one_group_do_not_mix(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red before: all keys of a group got the window of its first one."""
    address = hook(org, "none", id_header="X-Id", dedup="10m")
    with monkeypatch.context() as patch:
        patch.setattr(matching, "match", lambda ids: None)
        for headers in ({"x-id": "1"}, {}, {"x-id": "1"}, {}):
            assert send(address, headers, BODY).status_code == 200
    assert matching.match(list(Event.objects.filter(org_id=org.id).values_list("id", flat=True))) == 2
    made = {run.id: run.created_at for run in Run.objects.filter(org_id=org.id)}
    windows = {
        ":body:" in row.key: (row.expires_at - made[row.run_id]).total_seconds()
        for row in IdempotencyKey.objects.filter(org_id=org.id)
    }
    assert 590 < windows[True] < 610
    assert windows[False] > 86_000


def test_only_a_webhook_makes_itself_a_window() -> None:
    """A sender of events can't make itself a window: only deliveries of webhooks are read so."""
    made = idempotency.body_id("token", BODY, 600_000)
    assert idempotency.events(made, delivered=True)[1] == 600
    assert idempotency.events(made)[1] == idempotency.WINDOW_S
    assert idempotency.events("token:an-id", delivered=True)[1] == idempotency.WINDOW_S


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    "trigger", [{"webhook": "github", "secret": "HOOK", "dedup": "10m"}, {"event": "x", "dedup": "10m"},
                {"webhook": "none", "dedup": "25h"}, {"webhook": "none", "dedup": "1ms"}],
)  # fmt: skip
def test_a_dedup_that_makes_no_sense_is_refused(trigger: dict[str, Any]) -> None:
    with pytest.raises(DefinitionProblems, match="dedup"):
        parse(json.loads(json.dumps({"flow": "f", "on": trigger, "steps": [SLEEP]})))
