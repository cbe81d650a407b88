"""No address of the site shows or changes anything of another organization: every URL pattern is proven, or is named
below with the reason why it has nothing of an organization. A new pattern that is neither fails here."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern

from dlq.alerting import channels
from headrace.api import api as ninja_api
from tests.integration.tenancy.addresses import (
    AFTER,
    BODIES,
    DELETES,
    LIST_QUERIES,
    NAMES_NOTHING,
    NAMES_THEIRS,
    NOT_404,
    NOT_OF_NOW,
    NUMBERS,
    OF_NOBODY,
    QUERIES,
    SAYS_NOTHING,
    SPEAKS_OF_ITSELF,
)
from tests.integration.tenancy.two import Tenant, address, parameters, patterns, send, text_of
from tests.support.admin_site import staff
from tests.support.pages.patterns import methods_of as methods_of_page
from tests.support.workers import leave_nothing
from throttling.models import ThrottleOverride
from workflows.api.streams import routes as stream_routes
from workflows.models import AccessKey, Event, Membership, Organization, Run
from workflows.services import bulk
from workflows.streams.changes import OrganizationStream
from workflows.streams.holders import Holder, revoked

ROUTES = dict(patterns())
SITE = {route: each for route, each in ROUTES.items() if not route.startswith("admin/") and route not in OF_NOBODY}


def methods_of(route: str, pattern: URLPattern) -> list[str]:
    """The methods that an address takes."""
    if route in {"api/stream", "api/runs/<run_id>/stream"}:
        return ["get"]
    if not route.startswith("api/"):
        return sorted(each.lower() for each in methods_of_page(pattern.callback) - {"HEAD"})
    document = ninja_api.get_openapi_schema()
    path = "/" + route.replace("<", "{").replace(">", "}")
    return list(document["paths"][path])


CASES = [(route, method) for route, pattern in SITE.items() for method in methods_of(route, pattern)]
OBJECTS = [case for case in CASES if set(parameters(case[0])) - NAMES_NOTHING or case[0] in QUERIES]
LISTS = [case for case in CASES if case not in OBJECTS and case[1] == "get" and case[0] != "api/stream"]
CHANGES = [case for case in CASES if case not in OBJECTS and case[1] != "get"]


@pytest.fixture(scope="module")
def neighbour(live_db: None) -> Iterator[Tenant]:
    """Ours, for what changes nothing."""
    made = Tenant()
    yield made
    leave_nothing(made.org)


@pytest.fixture
def ours(live_db: None) -> Iterator[Tenant]:
    made = Tenant()
    yield made
    leave_nothing(made.org)


def client_of(tenant: Tenant, route: str) -> Any:
    return tenant.by_key if route.startswith("api/") else tenant.in_browser


def request(caller: Tenant, of: Tenant, route: str, method: str) -> Any:
    """Ask for an object of one organization as a member of another, or of the same one."""
    path = address(route, of.values(route))
    query = QUERIES.get(route, "").format(**of.known) or (DELETES.get(route, "") if method == "delete" else "")
    body = BODIES.get(route) if method != "get" else None
    if isinstance(body, list):
        body = [(name, of.org.slug if name == "organization" else value) for name, value in body]
        body = [(name, of.member if value == "THEIRS" else filled(of, value)) for name, value in body]
    return send(client_of(caller, route), method, f"{path}?{query}" if query else path, body)


def filled(of: Tenant, value: str) -> str:
    """The value of a field of a form: `letter_id:failed` is that of the organization's letter."""
    name, colon, rest = value.partition(":")
    return f"{of.known[name]}{colon}{rest}" if name in of.known else value


def test_every_pattern_is_proven_or_named() -> None:
    """What is named is there, and what is there is named or has parameters that the tests can fill."""
    assert set(OF_NOBODY) - set(ROUTES) == set(), "named, and no pattern any more"
    assert {route for route, _ in CHANGES} == SPEAKS_OF_ITSELF, "an address that changes something needs a proof"
    shown = {route for route, _ in LISTS}
    assert shown >= NUMBERS
    for model, page in admin.site._registry.items():
        base = f"admin/{model._meta.app_label}/{model._meta.model_name}/"
        for route in (base, *(f"{base}{end}" for end in ("add/", "<object_id>/change/", "<object_id>/delete/"))):
            assert route in ROUTES, (route, page)
    of_models = re.compile(r"admin/\w+/\w+/(add/|<object_id>/(change/|delete/|history/)?)?")
    rest = {
        route
        for route in ROUTES
        if route.startswith("admin/") and not of_models.fullmatch(route) and route not in OF_NOBODY
    }
    own = {"admin/", "admin/autocomplete/", "admin/r/<content_type_id>/<object_id>/"}
    assert {route for route in rest if "app_label" not in route} == own, "a page of the admin needs a proof"


@pytest.mark.parametrize(("route", "method"), OBJECTS, ids=[f"{method} {route}" for route, method in OBJECTS])
def test_an_object_of_another_organization_is_not_found(route: str, method: str, theirs: Tenant, ours: Tenant) -> None:
    assert set(parameters(route)) <= set(theirs.known), "say in Tenant.known what stands for it"
    before = theirs.fingerprint()
    answer = request(ours, theirs, route, method)
    if (method, route) in NOT_404:
        absent = {name: str(uuid.uuid4()) for name in theirs.known} | ({"name": "ABSENT"} if "secrets" in route else {})
        path = address(route, absent)
        assert answer.status_code == send(client_of(ours, route), method, path, BODIES.get(route)).status_code
    else:
        assert answer.status_code == 404, (answer.status_code, text_of(answer)[:300])
    given = {address(route, theirs.values(route)), *theirs.values(route).values()}
    given |= {mark for mark in theirs.marks if mark in theirs.flow_slug}  # the part of it that all names have
    shown = text_of(answer)
    assert not [mark for mark in theirs.marks - given if mark in shown]
    assert theirs.fingerprint() == before
    own = request(ours, ours, route, method)
    assert own.status_code not in {404, 405, 422}, f"it is not found for its own either: {text_of(own)[:300]}"
    own.close()


@pytest.mark.parametrize(("route", "method"), LISTS, ids=[f"{method} {route}" for route, method in LISTS])
def test_a_list_has_nothing_of_another_organization(route: str, method: str, theirs: Tenant, neighbour: Tenant) -> None:
    path, more = address(route, neighbour.values(route)), LIST_QUERIES.get(route, "")
    asked = more.format(**theirs.known)
    for query in (asked, f"org={theirs.org.slug}&{asked}", f"flow={theirs.flow_slug}&{asked}"):
        answer = client_of(neighbour, route).get(f"{path}?{query}")
        shown = text_of(answer)
        given = {mark for mark in theirs.marks if mark in query}
        assert not [mark for mark in theirs.marks - given if mark in shown], query
    if route in NOT_OF_NOW:
        return
    own = client_of(theirs, route).get(f"{path}?{asked}")
    shown = text_of(own)
    assert own.status_code == 200, shown[:300]
    if route not in NUMBERS | SAYS_NOTHING.keys():
        assert [mark for mark in theirs.marks if mark in shown], "it shows nothing of its own organization either"


@pytest.mark.parametrize(("route", "method"), CHANGES, ids=[f"{method} {route}" for route, method in CHANGES])
def test_what_changes_the_own_organization_changes_no_other(
    route: str, method: str, theirs: Tenant, ours: Tenant
) -> None:
    if (method, route) in AFTER:
        assert request(ours, ours, *reversed(AFTER[method, route])).status_code == 200
    before, own = theirs.fingerprint(), ours.fingerprint()
    answer = request(ours, theirs, route, method)
    assert answer.status_code < 400 or route in NAMES_THEIRS, text_of(answer)[:300]
    while bulk.pump():
        pass
    assert theirs.fingerprint() == before
    if route == "switch/":
        assert answer.status_code == 404
    if "bulk" in route or route.startswith("api/dlq"):
        assert ours.fingerprint() != own, "it did nothing at all"


@pytest.mark.parametrize("route", sorted(NUMBERS))
def test_counts_are_of_ones_own(route: str, theirs: Tenant, other: Organization) -> None:
    key = AccessKey.issue(other, "api", "empty")[1]
    answer = Client(headers={"authorization": f"Bearer {key}"}).get(f"/{route}").json()
    assert not [number for number in numbers_in(answer) if number], answer
    own = theirs.by_key.get(f"/{route}").json()
    assert route == "api/limits/report" or [number for number in numbers_in(own) if number], "nor does it count its own"


def test_counts_of_pages_are_of_ones_own(theirs: Tenant, other: Organization) -> None:
    asked = {"runs/counts/": "", "events/new/": LIST_QUERIES["events/new/"]}
    assert {route for route, why in SAYS_NOTHING.items() if "test_counts_of_pages" in why} == asked.keys()

    def counted(client: Client) -> list[int]:
        pages = [client.get(f"/{route}?{query}") for route, query in asked.items()]
        return [pages[0].context["drawn"].total, pages[1].context["count"]]

    assert counted(staff(of=other, role="admin")) == [0, 0]
    own = [model.objects.filter(org_id=theirs.org.id).count() for model in (Run, Event)]
    assert all(own)
    assert counted(theirs.in_browser) == own


@pytest.mark.parametrize("role", Membership.Role.values)
def test_what_is_the_installations_takes_an_operator_of_it(
    role: str, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(channels, "addresses", lambda channel: ["json://localhost:1/"])
    monkeypatch.setattr(channels, "say", lambda *given: sent.append(given))
    member, boss = staff(of=other, role=role), staff(superuser=True, of=other)
    queue, trial = "/workers/queues/headrace.io", "/alerts/channels/environment/test/"
    paused = ThrottleOverride.objects.filter(scope="pause", name="headrace.io")
    assert member.post(f"{queue}/pause/").status_code == 403
    assert not paused.exists()
    try:
        assert boss.post(f"{queue}/pause/").status_code == 302
        assert paused.exists()
        assert member.post(f"{queue}/resume/").status_code == 403
        assert paused.exists()
    finally:
        assert boss.post(f"{queue}/resume/").status_code == 302
    assert member.post(trial).status_code in {403, 404}
    assert sent == []
    assert boss.post(trial).status_code == 302
    assert len(sent) == 1


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


@pytest.mark.parametrize("caller", ["by_key", "in_browser"])
def test_a_stream_is_of_ones_own_organization(
    caller: str, theirs: Tenant, neighbour: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets: list[stream_routes.Ticket] = []
    monkeypatch.setattr(
        stream_routes, "_answer", lambda _, ticket: (tickets.append(ticket), HttpResponse(content_type="text/plain"))[1]
    )
    client: Client = getattr(neighbour, caller)
    assert client.get(f"/api/stream?org={theirs.org.slug}").status_code == 404
    assert client.get(f"/api/runs/{theirs.run_id}/stream").status_code == 404
    assert tickets == []
    assert client.get("/api/stream").status_code == 200
    assert client.get(f"/api/runs/{neighbour.run_id}/stream").status_code == 200
    assert {ticket.holder.org_id for ticket in tickets} == {neighbour.org.id}
    stream = tickets[0].source
    assert isinstance(stream, OrganizationStream)
    assert stream.org_id == neighbour.org.id


def test_a_member_that_is_removed_reads_no_more(live_db: None) -> None:
    made = Tenant()
    session = made.in_browser.session.session_key
    assert session is not None
    holder = Holder(kind="session", id=session, org_id=made.org.id)
    assert revoked([holder]) == set()
    Membership.objects.filter(organization=made.org).delete()
    assert revoked([holder]) == {holder}
    leave_nothing(made.org)


def test_a_key_leads_to_its_own_organization(theirs: Tenant, ours: Tenant) -> None:
    before, counts = theirs.fingerprint(), Event.objects.filter(org_id=ours.org.id).count()
    sent = Client().post(f"/e/{ours.event_key}", json.dumps({"name": theirs.event.name}), content_type="text/plain")
    assert sent.status_code == 200
    hook = Client().post(f"/hooks/{ours.known['token']}", "{}", content_type="application/json")
    assert hook.status_code == 200
    assert Event.objects.filter(org_id=ours.org.id).count() == counts + 2
    assert theirs.fingerprint() == before
    for path in ("/hooks/nobody", "/callbacks/nobody"):
        assert Client().post(path, "{}", content_type="application/json").status_code in {401, 404}, path


def test_a_queue_takes_an_operators_key(neighbour: Tenant) -> None:
    for verb in ("pause", "resume"):
        assert neighbour.by_key.post(f"/api/queues/headrace.io/{verb}", "{}", "application/json").status_code == 403
