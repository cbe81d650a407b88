"""`POST /hooks/{token}`: each scheme's signature made by its own rules, what is refused, and what comes of a delivery."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from django.test import Client
from standardwebhooks import Webhook

from tests.support.workers import publish
from workflows.definitions.validate import DefinitionProblems, parse
from workflows.models import Event, Organization, Run, Secret, Trigger

SLEEP = {"id": "a", "type": "delay", "config": {"for": "1h"}}
KEY = "whsec_" + base64.b64encode(b"a key of the tests").decode()
BODY = json.dumps({"id": "evt_1", "type": "payment_intent.succeeded", "data": {"amount": 12}}).encode()


@pytest.fixture
def secret(org: Organization) -> str:
    row = Secret(organization=org, name="HOOK")
    row.value = KEY
    row.save()
    return KEY


def hook(org: Organization, scheme: str, **more: Any) -> str:
    """The address of a published flow's webhook."""
    signed = {} if scheme == "none" else {"secret": "HOOK"}
    publish(org, [SLEEP], slug="hooked", on={"webhook": scheme, **signed, **more})
    return f"/hooks/{Trigger.objects.get(organization=org, kind='webhook').token}"


def send(address: str, headers: dict[str, str], body: bytes = BODY, kind: str = "application/json") -> Any:
    return Client(raise_request_exception=False).post(address, body, content_type=kind, headers=headers)


def digest(key: str, signed: bytes) -> bytes:
    return hmac.new(key.encode(), signed, hashlib.sha256).digest()


def stripe(key: str = KEY, body: bytes = BODY, at: float | None = None) -> dict[str, str]:
    stamp = str(int(at if at is not None else time.time()))
    return {"stripe-signature": f"t={stamp},v1=00ff,v1={digest(key, stamp.encode() + b'.' + body).hex()},v0=x"}


def github(key: str = KEY, body: bytes = BODY, delivery: str = "d-1") -> dict[str, str]:
    signature = "sha256=" + digest(key, body).hex()
    return {"x-hub-signature-256": signature, "x-github-delivery": delivery, "x-github-event": "push"}


def standard(key: str = KEY, body: bytes = BODY, at: float | None = None) -> dict[str, str]:
    moment = dt.datetime.fromtimestamp(at if at is not None else time.time(), dt.UTC)
    signature = Webhook(key).sign("msg_1", moment, body.decode())
    return {"webhook-id": "msg_1", "webhook-timestamp": str(int(moment.timestamp())), "webhook-signature": signature}


def plain(key: str = KEY, body: bytes = BODY) -> dict[str, str]:
    return {"x-sign": base64.b64encode(digest(key, body)).decode(), "x-id": "p-1"}


HMAC = {"signature_header": "X-Sign", "id_header": "X-Id"}
SIGNED: list[tuple[str, Any, dict[str, Any]]] = [
    ("stripe", stripe, {}), ("github", github, {}), ("standard", standard, {}), ("hmac", plain, HMAC),
]  # fmt: skip


@pytest.mark.parametrize(("scheme", "sign", "more"), SIGNED)
def test_a_signed_delivery_starts_the_flow_once(
    org: Organization, secret: str, scheme: str, sign: Any, more: dict[str, Any]
) -> None:
    address = hook(org, scheme, **more)
    for _ in range(3):  # senders repeat themselves
        answer = send(address, sign())
        assert (answer.status_code, answer.json()) == (200, {"received": True})
    run = Run.objects.get(org_id=org.id)
    assert (run.trigger, run.event_name) == ("webhook", f"webhook.{scheme}")
    expected = {
        "stripe": ("evt_1", "payment_intent.succeeded", {"amount": 12}),
        "github": ("d-1", "push", json.loads(BODY)),
        "standard": ("msg_1", "payment_intent.succeeded", {"amount": 12}),
        "hmac": ("p-1", "payment_intent.succeeded", json.loads(BODY)),
    }[scheme]
    assert (run.input["eventId"], run.input["eventType"], run.input["data"]) == expected
    assert dt.datetime.fromisoformat(run.input["receivedAt"]).tzinfo is not None


@pytest.mark.parametrize(("scheme", "sign", "more"), SIGNED)
def test_what_is_not_signed_as_it_should_be_is_refused(
    org: Organization, secret: str, scheme: str, sign: Any, more: dict[str, Any]
) -> None:
    address = hook(org, scheme, **more)
    other = "whsec_" + base64.b64encode(b"another key").decode()
    broken = dict.fromkeys(sign(), "nonsense")
    for headers, body in (({}, BODY), (sign(other), BODY), (sign(), BODY + b" "), (broken, BODY)):
        answer = send(address, headers, body)
        assert (answer.status_code, answer.json()["code"]) == (401, "signature_refused"), headers
    assert not Event.objects.filter(org_id=org.id).exists()


@pytest.mark.parametrize(("scheme", "sign"), [("stripe", stripe), ("standard", standard)])
@pytest.mark.parametrize("off_s", [-400, 400])
def test_an_old_delivery_is_a_replay(org: Organization, secret: str, scheme: str, sign: Any, off_s: int) -> None:
    address = hook(org, scheme)
    assert send(address, sign(at=time.time() + off_s)).status_code == 401


def test_a_stripe_tolerance_of_one_s_own(org: Organization, secret: str) -> None:
    address = hook(org, "stripe", tolerance="10m")
    assert send(address, stripe(at=time.time() - 400)).status_code == 200


def test_a_transform_makes_the_data_and_a_filter_chooses(org: Organization, secret: str) -> None:
    address = hook(
        org,
        "github",
        name="repo/pushed",
        transform="{'branch': body.ref, 'kind': headers['x-github-event'], 'keys': size(headers) > 0}",
        **{"if": "event.data.branch == 'main'"},
    )
    for number, ref in enumerate(("main", "other")):
        body = json.dumps({"ref": ref}).encode()
        assert send(address, github(body=body, delivery=f"d-{number}"), body).status_code == 200
    run = Run.objects.get(org_id=org.id)
    assert (run.event_name, run.input) == ("repo/pushed", {"branch": "main", "kind": "push", "keys": True})
    bad = send(address, github(body=b"{}", delivery="d-3"), b"{}")
    assert (bad.status_code, "transform" in bad.json()["detail"]) == (422, True)


def test_other_flows_may_listen_to_its_event(org: Organization, secret: str) -> None:
    address = hook(org, "stripe")
    publish(org, [SLEEP], slug="listener", on={"event": "webhook.stripe"})
    send(address, stripe())
    assert set(Run.objects.filter(org_id=org.id).values_list("flow__slug", flat=True)) == {"hooked", "listener"}


def test_forms_and_other_bodies(org: Organization) -> None:
    address = hook(org, "none")
    form = "application/x-www-form-urlencoded"
    for number, (body, kind, data) in enumerate((
        (b"a=1&b=x+y", form, {"a": "1", "b": "x y"}), (b"payload=%7B%22n%22%3A1%7D", form, {"n": 1}), (b"", "text/plain", {}),
        (b"[1]", "application/json", [1]),
    )):  # fmt: skip
        assert send(address, {}, body, kind).status_code == 200
        runs = Run.objects.filter(org_id=org.id).order_by("id")
        assert (runs.count(), runs.last().input["data"]) == (number + 1, data)
    for body in (b"{", b"\xff\xfe", b'"\\u0000"'):
        assert send(address, {}, body).status_code == 422
    assert send(address, {}, b'"' + b"x" * 600_000 + b'"').status_code == 413


def test_the_address_stays_from_version_to_version_and_ends_with_its_trigger(org: Organization, secret: str) -> None:
    address = hook(org, "stripe")
    publish(org, [SLEEP, {**SLEEP, "id": "b"}], slug="hooked", on={"webhook": "stripe", "secret": "HOOK"})
    assert send(address, stripe()).status_code == 200
    Trigger.objects.filter(organization=org).update(enabled=False)
    assert send(address, stripe()).status_code == 404
    publish(org, [SLEEP], slug="hooked")
    assert send(address, stripe()).status_code == 404
    assert send("/hooks/nothing", {}).json()["code"] == "webhook_not_found"
    assert Client().get(address).status_code == 405


def test_a_secret_that_is_not_stored_is_said(org: Organization) -> None:
    answer = send(hook(org, "stripe"), stripe())
    assert (answer.status_code, "'HOOK' is not stored" in answer.json()["detail"]) == (503, True)


@pytest.mark.parametrize(
    ("trigger", "says"),
    [
        ({"webhook": "stripe"}, "names its secret"),
        ({"webhook": "none", "secret": "A"}, "names its secret"),
        ({"webhook": "telegraph", "secret": "A"}, "stripe"),
        ({"webhook": "stripe", "secret": "A", "event": "x"}, "one of event, cron and webhook"),
        ({"event": "x", "transform": "{}"}, "belongs to a webhook"),
        ({"webhook": "github", "secret": "A", "signature_header": "X"}, "belong to webhook: hmac"),
        ({"webhook": "github", "secret": "A", "tolerance": "5m"}, "tolerance belongs"),
        ({"webhook": "github", "secret": "A", "id_header": "X"}, "id_header belongs"),
        ({"webhook": "none", "transform": "event.x"}, "event"),
    ],
)
def test_a_webhook_that_makes_no_sense_is_refused(trigger: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionProblems, match=says):
        parse({"flow": "f", "on": trigger, "steps": [SLEEP]})
