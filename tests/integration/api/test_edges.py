"""Every address of the site against a table of hostile values: never a 500, never a status that is not documented.

The routes come from Django's URL patterns, their parameters and bodies from the OpenAPI document: a new route is
covered without a word here.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Collection, Iterator
from itertools import product
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.api import api as ninja_api
from dlq.models import DeadLetter, DeadLetterGroup
from tests.support.volume import share
from tests.support.workers import leave_nothing, publish
from workflows import services
from workflows.models import AccessKey, Event, Organization, Trigger
from workflows.steps import callback_urls

JSON = "application/json"
FORGED = [
    ["priority", "abc", str(uuid.UUID(int=5))],
    ["priority", None, str(uuid.UUID(int=5))],
    ["priority", 10**400, str(uuid.UUID(int=5))],
    ["priority", {"a": 1}, str(uuid.UUID(int=5))],
    ["priority", 1, 7],
    ["priority", True, "x"],
    ["duration", float("inf"), str(uuid.UUID(int=5))],
    ["duration", float("nan"), str(uuid.UUID(int=5))],
    ["duration", 1e300, str(uuid.UUID(int=5))],
    ["duration", "1", str(uuid.UUID(int=5)), "now"],
    ["created", 0, "not an id"],
    ["priority"],
    {},
    5,
]
# Percent-encoded, as they stand in an address.
TEXTS = [
    *("%00", "a%00b", "%ff%fe", "%ED%A0%80", "%C2%B2", "%D9%A3", "9" * 400, "-1", "0", "1e309", "NaN", "1_0", "%27%22"),
    *("%F0%9F%92%A9", "..%2F..", "%7B%7D", "%5B" * 3000, str(uuid.UUID(int=0)), "%E2%80%AE", "true", "%20", "%0d%0ax"),
    *("0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59", "_00", "99999999999999999999", "%C2%B2d", "P9Y"),
    quote(base64.urlsafe_b64encode(b"[" * 5000)),
    quote(base64.urlsafe_b64encode(b"\xff\x00")),
    *(quote(base64.urlsafe_b64encode(json.dumps(each).encode())) for each in FORGED),
]
DEEP = "[" * 5000 + "]" * 5000
VALUES = [
    *('"\\u0000"', '"\\ud800"', '{"\\u0000": 1}', '{"a": {"\\udfff": [1]}}', '["\\ud83d"]', DEEP, '{"a":' * 5000 + "1" + "}" * 5000),
    *("1e400", "NaN", "-Infinity", "9" * 400, "-" + "9" * 4000, "9" * 5000, "1e-320", "-0.0", "null", "true", '""', "[]", "{}"),
    *('"²"', '"٣"', '"9999-12-31T23:59:59-23:59"', '"0001-01-01T00:00:00+23:59"', '"' + "x" * 30_000 + '"', "[[]]", '"1e400"'),
]  # fmt: skip
BODIES = ["", "{", "[]", "null", '"x"', "\ufeff{}", "[" * 5000, '{"a":' * 5000, "9" * 5000, *VALUES]
RAW = [b"\xff\xfe", b'{"a": "\xff"}', b"\x00", b'{"a": "\xed\xa0\x80"}', "{}".encode("utf-16"), b'{"\xc0\x80": 1}']


def patterns(found: Any = None, before: str = "") -> Iterator[str]:
    """The routes of all URL patterns, with their converters: `api/runs/<uuid:run_id>`."""
    for each in get_resolver().url_patterns if found is None else found:
        route = before + str(each.pattern).replace("^", "").replace("$", "")
        if isinstance(each, URLResolver):
            yield from patterns(each.url_patterns, route)
        elif isinstance(each, URLPattern):
            yield route


def parts(route: str) -> Iterator[tuple[str, str]]:
    """A route in pieces: (text, "") and ("", name of the parameter)."""
    for piece in route.split("<"):
        name, closed, text = piece.rpartition(">")
        if closed:
            yield "", name.rpartition(":")[2]
        yield text, ""


def fill(route: str, known: dict[str, str], **instead: str) -> str:
    """The address of a route; what is not known by its name is a random id."""
    values = {**known, **instead}
    return "/" + "".join(text or (values.get(name) or str(uuid.uuid4()) if name else "") for text, name in parts(route))


def names_of(route: str) -> list[str]:
    return [name for _, name in parts(route) if name]


ROUTES = sorted({route for route in patterns() if "(?P" not in route and "docs" not in route})
PAGES = [route for route in ROUTES if not route.startswith("api/")]
DOCUMENT: dict[str, Any] = json.loads(json.dumps(ninja_api.get_openapi_schema()))
OPERATIONS = [
    (method, path, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]


def fields_of(operation: dict[str, Any]) -> list[str]:
    """The fields of an operation's JSON body."""
    schema = operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("schema", {})
    for each in [schema, *schema.get("anyOf", [])]:
        if "$ref" in each:
            found = DOCUMENT["components"]["schemas"][each["$ref"].rpartition("/")[2]]
            return list(found["properties"])
    return []


class Site:
    """An organization with one of everything, and three callers: with a key, without one, and an operator's browser."""

    def __init__(self, org: Organization) -> None:
        slug = publish(
            org,
            [{"id": "a", "type": "noop"}],
            slug="edge",
            on=[{"webhook": "none", "name": "edge/hook"}, {"event": "edge/event"}],
        )
        group = DeadLetterGroup.objects.create(
            id=uuid.uuid4(), org_id=org.id, fingerprint=uuid.uuid4().hex, step_type="noop", category="business",
            message="m", first_seen=timezone.now(),
        )  # fmt: skip
        started = services.trigger(org, slug, {"list": []}, delay="1h")
        run_id = started.run_ids[0]
        letter = DeadLetter.objects.create(
            org_id=org.id, group=group, flow_id=org.flows.get().id, run_id=run_id, first_run_id=run_id, place="a",
            step_key="a", step_type="noop",
            category="business", error_message="m", failed_at=timezone.now(), created_at=timezone.now(), event_data={},
        )  # fmt: skip
        event = Event.objects.create(
            org_id=org.id, name="edge/x", data={}, ts=timezone.now(), matched_at=timezone.now()
        )
        hook = Trigger.objects.get(flow__organization=org, kind="webhook")
        self.event_key = AccessKey.issue(org, "event", "edge")[1]
        key = AccessKey.issue(org, "api", "edge")[1]
        self.known = {
            "slug": slug, "run_id": str(run_id), "reference": str(run_id), "group": str(group.id), "name": "edge/x",
            "letter_id": str(letter.id), "event_id": str(event.id), "key": self.event_key, "mode": "start",
            "step_run_id": str(letter.run_id),
        }  # fmt: skip
        self.tokens = {"hooks": hook.token, "callbacks": callback_urls.token_of(run_id, "a")}
        user = User.objects.create_superuser(f"edge-{uuid.uuid4().hex[:8]}")  # hashing a password takes longest here
        self.browser = Client(raise_request_exception=False)
        self.browser.force_login(user)
        self.keyed = Client(headers={"authorization": f"Bearer {key}"}, raise_request_exception=False)
        self.stranger = Client(raise_request_exception=False)

    def address(self, route: str, **instead: str) -> str:
        token = self.tokens.get(route.partition("/")[0], "")
        return fill(route, {**self.known, "token": token}, **instead)


@pytest.fixture
def site(org: Organization) -> Site:
    return Site(org)


@pytest.fixture(scope="module")
def looked_at(live_db: None) -> Iterator[Site]:
    """A site that nothing is changed in: its pages are looked at, and what is sent is refused."""
    org = Organization.objects.create(slug=f"t-{uuid.uuid4().hex[:12]}", name="Test")
    yield Site(org)
    leave_nothing(org)


class Faults:
    """What went wrong, all of it, so that one run of the test shows the whole list."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def see(self, answer: Any, what: str, documented: Any = None, allowed: Collection[int] = ()) -> None:
        if answer.streaming:
            answer.close()
        status = str(answer.status_code)
        if answer.status_code in allowed:
            return
        if answer.status_code >= 500 or (documented is not None and status not in documented):
            self.found.append(f"{status} {what[:160]}")
        elif documented is not None and answer.status_code >= 400 and "problem+json" not in answer["content-type"]:
            self.found.append(f"{status} without a problem document: {what[:160]}")

    def none(self) -> None:
        assert not self.found, f"{len(self.found)} faults:\n" + "\n".join(self.found[:60])


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=[f"{m} {p}" for m, p, _ in OPERATIONS])
def test_an_operation_answers_hostile_values_as_documented(
    method: str, path: str, operation: dict[str, Any], site: Site
) -> None:
    route = path.lstrip("/").replace("{", "<").replace("}", ">")
    plain, faults, documented = site.address(route), Faults(), operation["responses"]
    required = {
        each["name"]: "global" for each in operation.get("parameters", []) if each["in"] == "query" and each["required"]
    }

    def send(address: str, body: bytes | str = b"", *, client: Client = site.keyed, what: str = "") -> None:
        answer = client.generic(method.upper(), address, body, content_type=JSON)
        faults.see(answer, f"{method} {address} {what}", documented)

    def query(**values: str) -> str:
        return plain + "?" + "&".join(f"{name}={value}" for name, value in {**required, **values}.items())

    for name, text in share(product(names_of(route), TEXTS), of=f"{method} {route}"):
        if "/" not in text and "%2F" not in text:
            answer = site.keyed.generic(method.upper(), site.address(route, **{name: text}), content_type=JSON)
            faults.see(answer, f"{method} {route} {name}={text}", {**documented, "404": ""})
    parameters = [each["name"] for each in operation.get("parameters", []) if each["in"] == "query"]
    for name, text in share(product([*parameters, "unknown"], TEXTS), of=f"{method} {route}"):
        send(query(**{name: text}))
        if path == "/api/runs" and name == "cursor":
            send(query(sort="priority", cursor=text))
            send(query(sort="duration", cursor=text))
    for client in (site.keyed, site.stranger):
        send(query(unknown="%00"), client=client)
        if "requestBody" in operation:
            for body in share([*BODIES, *RAW], of=f"{method} {route}"):
                send(plain, body, client=client, what=str(body)[:60])
    for field, value in share(product(fields_of(operation), VALUES), of=f"{method} {route}"):
        send(plain, f'{{"{field}": {value}}}', what=f"{field}: {value[:40]}")
    faults.none()


QUERIES = (
    "q",
    "flow",
    "workflow",
    "event",
    "sort",
    "cursor",
    "since",
    "status",
    "name",
    "p",
    "o",
    "_to_field",
    "next",
    "id__exact",
)
PART_OF_PAGE = 12
"""There are hundreds of pages, and most look at their parameters by the same few functions."""
FEW = ("%00", "a%00b", "%ff%fe", "%C2%B2", "9" * 400, "_00", "99999999999999999999", "0001-01-01T00:00:00%2B23:59")


@pytest.mark.parametrize("route", PAGES)
def test_a_page_answers_hostile_values(route: str, looked_at: Site) -> None:
    site, faults, names = looked_at, Faults(), names_of(route)
    texts = FEW if route.startswith("admin/") else TEXTS
    allowed = {503} if route == "readyz" else set()  # it says that no worker is there
    for name, text in share(product(names, texts), of=route, part=PART_OF_PAGE):
        if "%2F" not in text:
            answer = site.browser.get(site.address(route, **{name: text}))
            faults.see(answer, f"{route} {name}={text}", allowed=allowed)
    for name, text in share(
        product(("x",) if names or route.endswith("/add/") else QUERIES, texts), of=route, part=PART_OF_PAGE
    ):
        answer = site.browser.get(f"{site.address(route)}?{name}={text}")
        faults.see(answer, f"{route}?{name}={text}", allowed=allowed)
    faults.none()


CHANGELISTS = [
    (f"/admin/{model._meta.app_label}/{model._meta.model_name}/", [str(each) for each in registered.list_filter])
    for model, registered in admin.site._registry.items()
]


@pytest.mark.parametrize(("address", "filters"), CHANGELISTS)
def test_the_filters_and_actions_of_an_admin_list_answer_hostile_values(
    address: str, filters: list[str], looked_at: Site
) -> None:
    site, faults = looked_at, Faults()
    lookups = [name + suffix for name in filters for suffix in ("", "__exact", "__id__exact", "__isnull")]
    for lookup, text in share(product(lookups, FEW), of=address):
        faults.see(site.browser.get(f"{address}?{lookup}={text}"), f"{address}?{lookup}={text}")
    actions = ("delete_selected", "cancel", "revoke", "x\0")
    for action, chosen in share(product(actions, ("\0", "²", "9" * 30, "x")), of=address):
        sent = {"action": action, "_selected_action": chosen, "index": "0"}
        faults.see(site.browser.post(address, sent), f"{address} {sent}")
    for action in share(actions, of=address):
        faults.see(site.browser.post(address, {"action": action, "_selected_action": "1", "index": "²"}), "index")
    faults.none()


@pytest.mark.parametrize("route", [route for route in ROUTES if route.startswith(("e/", "hooks/", "callbacks/"))])
@pytest.mark.parametrize("media", [JSON, "application/x-www-form-urlencoded", "text/plain"])
def test_what_is_sent_from_outside_is_refused_not_stumbled_over(route: str, media: str, site: Site) -> None:
    faults, address = Faults(), site.address(route)
    sent = [
        f'{{"name": "edge/x", "{field}": {value}}}'
        for field in ("name", "data", "user", "id", "ts", "v", "type")
        for value in VALUES
    ]
    sent += [f'{{"name": "edge/x", "data": {{"a": {value}}}}}' for value in VALUES]
    for body in share(
        (*BODIES, *sent, "a=%00", "a=%ff", "id=%00", "payload=%5B" * 1, "payload=" + "%5B" * 5000, *RAW),
        of=f"{route} {media}",
    ):
        faults.see(site.stranger.generic("POST", address, body, content_type=media), f"{address} {str(body)[:80]}")
    for name in ("X-GitHub-Delivery", "Webhook-Id", "Idempotency-Key", "Last-Event-ID", "X-GitHub-Event", "X-Any"):
        for value in ("\0", "²", "\xff", "x" * 5000):
            answer = site.stranger.post(address, {"name": "edge/x"}, content_type=JSON, headers={name: value})
            faults.see(answer, f"{address} {name}: {value[:10]!r}")
    faults.none()


@pytest.mark.parametrize("route", [r for r in ROUTES if r.startswith("api/") and r.endswith("stream")])
def test_a_stream_opens_or_refuses(route: str, site: Site) -> None:
    faults = Faults()
    for text in TEXTS:
        for name in names_of(route):
            faults.see(site.keyed.get(site.address(route, **{name: text})), f"{route} {name}={text}")
        for name in ("lastEventId", "org"):
            faults.see(site.keyed.get(f"{site.address(route)}?{name}={text}"), f"{route}?{name}={text}")
    for value in ("\0", "²", "9" * 30, "-1", "x"):
        faults.see(
            site.keyed.get(site.address(route), headers={"Last-Event-ID": value}), f"{route} Last-Event-ID {value}"
        )
    faults.none()


@pytest.mark.parametrize(
    "address", ["/api/", "/api/nothing", "/api/runs/not-an-id", "/api/workflows/a/b/c/d", "/api/run%00s"]
)
def test_an_unknown_address_of_the_api_is_a_problem_document(address: str, site: Site) -> None:
    for client in (site.keyed, site.stranger):
        for method in ("GET", "POST", "DELETE"):
            answer = client.generic(method, address)
            assert (answer.status_code, answer["content-type"]) == (404, "application/problem+json"), answer.content[
                :200
            ]
            assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize("address", ["/api/runs", "/api/workflows/edge/run", "/api/stream", "/hooks/x", "/callbacks/x"])
def test_a_wrong_method_is_a_problem_document(address: str, site: Site) -> None:
    answer = site.keyed.generic("PATCH", address)
    assert (answer.status_code, answer["content-type"]) == (405, "application/problem+json"), answer.content[:200]
    assert answer.get("Allow", "") or address == "/api/stream"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_values_at_any_operation(site: Site, data: st.DataObject) -> None:
    method, path, operation = data.draw(st.sampled_from(OPERATIONS))
    route = path.lstrip("/").replace("{", "<").replace("}", ">")
    text = st.text(max_size=30)
    value = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=8,
    )
    names = [each["name"] for each in operation.get("parameters", []) if each["in"] == "query"]
    drawn = {name: quote(data.draw(text), errors="replace") for name in names if data.draw(st.booleans())}
    body = {field: data.draw(value) for field in fields_of(operation) if data.draw(st.booleans())}
    address = site.address(route) + "?" + "&".join(f"{name}={each}" for name, each in drawn.items())
    faults = Faults()
    answer = site.keyed.generic(method.upper(), address, json.dumps(body), content_type=JSON)
    faults.see(answer, f"{method} {address} {body}", operation["responses"])
    faults.none()
