"""`POST /e/{event_key}`: one event or many, as Inngest's clients send them; schemas; what is refused and what is kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import inngest
import pytest
from django.test import Client

from tests.integration.api.test_api import Api, assert_problem
from tests.support.workers import WorkerPool, await_that, publish
from workflows.engine.events import matching
from workflows.engine.state import database
from workflows.models import AccessKey, Event, Organization, Run
from workflows.services import events as ingest
from workflows.this_process.configuration import configuration

NODE = Path(__file__).resolve().parents[2] / "node"
NOOP = {"id": "a", "type": "noop", "config": {"output": "${ input.n }"}}


@pytest.fixture
def key(org: Organization) -> str:
    return AccessKey.issue(org, AccessKey.Kind.EVENT, "test")[1]


@pytest.fixture
def api(api_key: str) -> Api:
    return Api(api_key)


def post(key: str, payload: Any, raw: str | None = None, **more: Any) -> Any:
    client = Client(raise_request_exception=False)
    body = raw if raw is not None else json.dumps(payload)
    return client.post(f"/e/{key}", body, content_type="application/json", **more)


def runs(org: Organization) -> list[Run]:
    return list(Run.objects.filter(org_id=org.id).order_by("id"))


def test_one_event_starts_the_flows_that_listen(org: Organization, key: str, workers: WorkerPool) -> None:
    publish(org, [NOOP], on=[{"event": "shop/order.created", "if": "event.data.n > 1"}])
    now = int(time.time() * 1000)
    answer = post(
        key, {"name": "shop/order.created", "data": {"n": 7}, "user": {"id": "u1"}, "id": "e-1", "ts": now, "v": "1"}
    )
    assert answer.status_code == 200
    (event_id,) = answer.json()["ids"]
    assert answer.json()["status"] == 200
    run = await_that(lambda: Run.objects.filter(org_id=org.id, status="completed").first())
    assert (str(run.event_id), run.event_name, run.user_id, run.input) == (
        event_id,
        "shop/order.created",
        "u1",
        {"n": 7},
    )
    event = Event.objects.get(id=event_id)
    assert (event.external_id, int(event.ts.timestamp() * 1000)) == ("e-1", now)


def test_an_array_is_matched_in_one_pass(org: Organization, key: str) -> None:
    publish(org, [{"id": "a", "type": "delay", "config": {"for": "1h"}}], slug="one", on={"event": "shop/*"})
    publish(org, [{"id": "a", "type": "delay", "config": {"for": "1h"}}], slug="two", on={"event": "shop/paid"})
    database.counter().by_name.clear()
    events = [
        {"name": "shop/paid" if n % 2 else "shop/made", "data": {"n": n}, "user": {"id": f"u{n}"}} for n in range(300)
    ]
    answer = post(key, events).json()
    assert len(answer["ids"]) == len(set(answer["ids"])) == 300
    assert len(runs(org)) == 450
    assert database.counter().by_name["insert_runs"] == 2
    by_event = {(str(run.event_id), run.event_name, run.user_id, run.input["n"]) for run in runs(org)}
    assert by_event == {
        (id_, event["name"], event["user"]["id"], event["data"]["n"]) for id_, event in zip(answer["ids"], events, strict=True)
    }  # fmt: skip


def test_those_of_an_array_that_do_not_fit_a_flow_harm_no_other(org: Organization, key: str) -> None:
    picky = {"type": "object", "properties": {"n": {"type": "integer"}}}
    publish(org, [{"id": "a", "type": "delay", "config": {"for": "1h"}}], on={"event": "x"}, input_schema=picky)
    post(key, [{"name": "x", "data": {"n": value}} for value in (1, "two", 3)])
    assert [run.input["n"] for run in runs(org)] == [1, 3]
    assert not Event.objects.filter(org_id=org.id, matched_at=None).exists()


@pytest.mark.parametrize(
    ("payload", "path", "says"),
    [
        ([], "", "1 to 5,000"),
        ([{}] * 5_001, "", "1 to 5,000"),
        ("text", "", "valid dictionary"),
        ({"data": {}}, "name", "required"),
        ({"name": ""}, "name", "at least 1"),
        ({"name": "x" * 201}, "name", "at most 200"),
        ({"name": "headrace/run.completed"}, "name", "system's own"),
        ({"name": "x", "data": [1]}, "data", "dictionary"),
        ({"name": "x", "ts": "soon"}, "ts", "integer"),
        ({"name": "x", "ts": -1}, "ts", "greater"),
        ({"name": "x\0"}, "name", "NUL"),
        ({"name": "x", "id": "i" * 201}, "id", "at most 200"),
    ],
)
def test_what_is_no_event_is_refused_whole(org: Organization, key: str, payload: Any, path: str, says: str) -> None:
    good = {"name": "good"}
    sent = [good, *payload] if isinstance(payload, list) and payload else payload
    answer = post(key, sent)
    assert answer.status_code == 400, answer.content
    body = answer.json()
    assert (body["status"], body["ids"]) == (400, [])
    assert (body["errors"][0]["path"], says in body["errors"][0]["message"]) == (path, True)
    assert not Event.objects.filter(org_id=org.id).exists()


@pytest.mark.parametrize(
    ("raw", "status", "says"),
    [("{", 400, "no JSON"), ('{"name": "x", "data": {"a": "\\u0000"}}', 422, "NUL"), ('{"name": "x", "data": {"a": NaN}}', 422, "NaN"),
     ('{"name": "x", "data": {"a": "' + "b" * 600_000 + '"}}', 413, "limit")],
)  # fmt: skip
def test_what_can_t_be_stored_is_refused(org: Organization, key: str, raw: str, status: int, says: str) -> None:
    answer = post(key, None, raw=raw)
    assert (answer.status_code, answer.json()["status"], says in answer.json()["error"]) == (status, status, True)
    assert not Event.objects.filter(org_id=org.id).exists()


def test_the_key_decides(org: Organization, key: str, api_key: str, settings: Any) -> None:
    settings.HEADRACE = {"INNGEST_DEV": False}
    for wrong in ("nonsense", "NO_EVENT_KEY_SET", api_key):
        answer = post(wrong, {"name": "x"})
        assert (answer.status_code, answer.json()["error"]) == (401, "The event key is unknown or revoked.")
    AccessKey.objects.filter(organization=org, kind="event").update(revoked_at="2026-01-01T00:00:00Z")
    assert post(key, {"name": "x"}).status_code == 401
    assert Client().get(f"/e/{key}").status_code == 405


def test_in_development_any_key_will_do_on_this_machine(org: Organization, settings: Any, key: str) -> None:
    assert configuration().any_event_key_on_loopback
    first = Organization.objects.order_by("created_at").first()
    answer = post("NO_EVENT_KEY_SET", {"name": f"local/{uuid.uuid4()}"})
    assert Event.objects.get(id=answer.json()["ids"][0]).org_id == first.id
    assert post("NO_EVENT_KEY_SET", {"name": "x"}, REMOTE_ADDR="10.0.0.7").status_code == 401
    AccessKey.objects.filter(organization=org, kind="event").update(revoked_at="2026-01-01T00:00:00Z")
    assert post(key, {"name": "x"}).status_code == 401  # one that was revoked is not an unknown one


def test_an_event_that_does_not_fit_its_schema_is_refused_and_kept(org: Organization, key: str, api: Api) -> None:
    schema = {"type": "object", "required": ["total"], "properties": {"total": {"type": "number", "minimum": 0}}}
    assert (
        api.client.put(
            "/api/events/schemas/order/paid", {"schema": schema}, content_type="application/json"
        ).status_code
        == 200
    )
    publish(org, [NOOP], on={"event": "order/paid"})
    answer = post(key, [{"name": "order/paid", "data": {"total": 1}}, {"name": "order/paid", "data": {"total": -5}}])
    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {"index": 1, "path": "data.total", "message": "-5 is less than the minimum of 0"}
    ]
    (kept,) = api.get("/events", rejected=True).json()["events"]
    assert (kept["data"], kept["rejected"]) == ({"total": -5}, "data.total: -5 is less than the minimum of 0")
    matching.match_left_over()
    assert runs(org) == []
    assert post(key, {"name": "order/paid", "data": {"total": 1}}).status_code == 200
    assert len(runs(org)) == 1
    bad = api.client.put("/api/events/schemas/x", {"schema": {"type": "nonsense"}}, content_type="application/json")
    assert_problem(bad, 422, "invalid_input", "schema.type")
    assert api.get("/events/schemas").json()[0]["name"] == "order/paid"
    assert api.client.delete("/api/events/schemas/order/paid").json() == {"removed": True}
    assert post(key, {"name": "order/paid", "data": {"total": -5}}).status_code == 200


def test_the_events_of_one_request_are_checked_within_a_time(
    org: Organization, key: str, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event has a bound of its own; 2,000 of them at that bound took a web thread for more than a minute."""
    monkeypatch.setattr(ingest, "MAX_CHECKING_S", -1.0)
    api.client.put("/api/events/schemas/a", {"schema": {"type": "object"}}, content_type="application/json")
    answer = post(key, [{"name": "a"}, {"name": "a"}])
    assert (answer.status_code, answer.json()["ids"]) == (422, [])
    assert "send fewer at once" in answer.json()["error"]
    assert not Event.objects.filter(org_id=org.id).exists()


def test_events_are_listed_with_their_runs(org: Organization, key: str, api: Api) -> None:
    publish(org, [{"id": "a", "type": "delay", "config": {"for": "1h"}}], on={"event": "a"})
    ids = post(key, [{"name": "a"}, {"name": "b"}, {"name": "a", "id": "mine"}]).json()["ids"]
    assert [event["id"] for event in api.get("/events").json()["events"]] == ids[::-1]
    assert len(api.get("/events", name="a").json()["events"]) == 2
    page = api.get("/events", limit=2).json()
    assert [event["id"] for event in api.get("/events", limit=2, cursor=page["nextCursor"]).json()["events"]] == ids[:1]
    detail = api.get(f"/events/{ids[2]}").json()
    assert (detail["externalId"], detail["runs"][0]["eventId"]) == ("mine", ids[2])
    assert_problem(api.get(f"/events/{uuid.uuid4()}"), 404, "event_not_found", "no such event")
    assert_problem(api.get("/events", limit=0), 422, "invalid_input", "limit")


# --- Inngest's own client, unchanged -------------------------------------------------------------------------------


def test_inngest_s_python_client_sends_one_and_many(org: Organization, key: str, address: str) -> None:
    publish(org, [{"id": "a", "type": "delay", "config": {"for": "1h"}}], on={"event": "app/*"})
    with httpx.Client() as http:
        client = inngest.Inngest(app_id="app", event_key=key, event_api_base_url=address, is_production=True)
        client._http_client._http_client_sync.close()  # its own is never closed, which our warnings are errors for
        client._http_client._http_client_sync = http
        one = client.send_sync(inngest.Event(name="app/one", data={"n": 1}, id="evt-1"))
        many = client.send_sync([inngest.Event(name="app/many", data={"n": n}) for n in range(20)])
        assert (len(one), len(many)) == (1, 20)
        client.send_sync(inngest.Event(name="app/one", data={"n": 1}, id="evt-1"))  # again: the id makes it one
        assert sorted(run.input["n"] for run in runs(org)) == [0, 1, *range(1, 20)]
        assert {str(event.id) for event in Event.objects.filter(org_id=org.id)} > {*one, *many}
        with pytest.raises(Exception, match="system's own"):
            client.send_sync(inngest.Event(name="headrace/forbidden", data={}))


@pytest.mark.skipif(shutil.which("npm") is None, reason="no Node.js here")
def test_inngest_s_typescript_client_sends_one_and_many(org: Organization, key: str, address: str) -> None:
    publish(org, [{"id": "a", "type": "delay", "config": {"for": "1h"}}], on={"event": "app/*"})
    place = Path(os.environ["HEADRACE_VAR_DIR"]) / "node"
    shutil.copytree(NODE, place, dirs_exist_ok=True)
    npm = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund"], cwd=place, capture_output=True, text=True, check=False
    )
    if npm.returncode and not os.environ.get("CI"):
        pytest.skip(f"npm can't install the client: {npm.stderr[-300:]}")
    assert npm.returncode == 0, npm.stderr
    done = subprocess.run(
        ["node", "send.mjs", address, key], cwd=place, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    sent = json.loads(done.stdout.splitlines()[-1])
    assert (len(sent["one"]), len(sent["many"]), "system's own" in sent["refused"]) == (1, 3, True)
    assert sorted(run.input["n"] for run in runs(org)) == [1, 1, 2, 3]
    assert Event.objects.get(id=sent["one"][0]).external_id == "evt-1"
