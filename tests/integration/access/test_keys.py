"""Keys: scopes, expiry, rotation and use, at every place where a key is checked."""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
import uuid
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.support.admin_site import act, staff
from tests.support.openapi import OPERATIONS
from tests.support.workers import await_that
from workflows import this_process
from workflows.api.edge import operations
from workflows.definitions.validate import parse
from workflows.edge import access
from workflows.engine.sql import intake as intake_sql
from workflows.errors import Forbidden, InvalidInput, KeyExpired, KeyNotInForce
from workflows.models import AccessKey, AuditEntry, Organization
from workflows.selectors.access import keys as key_selectors
from workflows.services import access_keys, apply_definition, intake
from workflows.services.access.key_uses import KeyUses
from workflows.streams.holders import Holder, revoked

FLOW = parse({"flow": "keyed", "steps": [{"id": "a", "type": "noop"}]})


class Api:
    def __init__(self, key: str) -> None:
        self.headers = {"authorization": f"Bearer {key}"}

    def get(self, path: str, **query: str) -> Any:
        return Client().get(f"/api{path}", query, headers=self.headers)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body) if body is not None else ""
        return Client().generic(method, f"/api{path}", data, "application/json", headers=self.headers)

    def post(self, path: str, body: Any = None) -> Any:
        return self.send("POST", path, body)


def issued(org: Organization, *scopes: str, **more: Any) -> tuple[AccessKey, Api]:
    row, key = access_keys.issue(org, "api", "test", scopes=scopes, **more)
    return row, Api(key)


def expire(row: AccessKey) -> None:
    AccessKey.objects.filter(id=row.id).update(expires_at=timezone.now() - dt.timedelta(seconds=1))


# --- scopes ---------------------------------------------------------------------------------------------------------


def test_every_operation_that_changes_something_names_its_right() -> None:
    documented = {(method.upper(), path.removeprefix("/api")) for method, path, _ in OPERATIONS}
    assert {each for each in documented if each[0] != "GET" and each not in operations.OPERATIONS} == set()
    assert {each for each in operations.OPERATIONS if each not in documented} == set()
    assert {each.right for each in operations.OPERATIONS.values()} <= access.RIGHTS.keys()


@pytest.mark.parametrize(("method", "path"), sorted(operations.OPERATIONS))
def test_a_key_without_the_scope_is_refused_with_its_name(org: Organization, method: str, path: str) -> None:
    wanted = operations.OPERATIONS[method, path].right
    enough = {access.RIGHTS[wanted], access.INCLUDED.get(access.RIGHTS[wanted])}
    _, api = issued(org, *(word for word, permission in access.RIGHTS.items() if permission not in enough))
    address = path.replace("{slug}", "x").replace("{name}", "io").replace("{group}", "g")
    for name in ("run_id", "operation_id", "step_run_id", "letter_id", "key_id"):
        address = address.replace(f"{{{name}}}", str(uuid.uuid4()))
    answer = api.send(method, address, {})
    assert (answer.status_code, answer.json()["code"], answer.json()["scope"]) == (403, "scope_missing", wanted)


def test_a_key_with_scopes_reads_and_does_what_they_say(org: Organization) -> None:
    apply_definition(org, FLOW)
    _, api = issued(org, "run_flows")
    assert api.get("/workflows").status_code == 200
    assert api.post("/workflows/keyed/run", {}).status_code == 202
    assert api.post("/workflows/keyed/pause", {}).status_code == 403
    assert issued(org)[1].post("/workflows/keyed/pause", {}).status_code == 200


def test_the_short_way_in_asks_for_scope_and_expiry_in_its_own_statements(org: Organization) -> None:
    apply_definition(org, FLOW)
    good, other, late = (issued(org, scope)[0] for scope in ("run_flows", "change_runs", "run_flows"))
    expire(late)
    digests = [row.digest for row in (good, other, late)]
    found = intake_sql.run_targets(digests=digests, slugs=["keyed"] * 3)
    assert [row.digest for row in found] == [good.digest]


# --- expiry ---------------------------------------------------------------------------------------------------------


def test_an_expired_key_is_told_so_everywhere(org: Organization) -> None:
    row, api = issued(org, expires_at=timezone.now() + dt.timedelta(days=1))
    holder = Holder(kind="key", id=str(row.id), org_id=org.id)
    assert api.get("/workflows").status_code == 200
    assert revoked([holder]) == set()
    expire(row)
    for address in ("/workflows", "/stream", f"/runs/{uuid.uuid4()}/stream"):
        answer = api.get(address)
        assert (answer.status_code, answer.json()["code"]) == (401, "key_expired")
        assert answer["WWW-Authenticate"] == "Bearer"
    assert revoked([holder]) == {holder}


def test_an_expired_event_key_sends_nothing(org: Organization) -> None:
    row, key = access_keys.issue(org, "event", "shop", expires_at=timezone.now() + dt.timedelta(days=1))

    def send() -> Any:
        return Client().post(f"/e/{key}", json.dumps({"name": "a/b"}), content_type="application/json")

    assert send().status_code == 200
    expire(row)
    answer = send()
    assert (answer.status_code, answer.json()["ids"]) == (401, [])
    assert "expired" in answer.json()["error"]


# --- issuing, rotating, revoking ------------------------------------------------------------------------------------


def test_a_key_issues_no_more_than_it_has(org: Organization) -> None:
    until = timezone.now() + dt.timedelta(days=3)
    row, api = issued(org, "change_keys", "change_runs", expires_at=until)
    assert api.post("/keys", {"name": "a", "scopes": ["change_flows"]}).status_code == 403
    assert api.post("/keys", {"name": "a"}).status_code == 403  # it would have all scopes
    assert api.post("/keys", {"name": "a", "kind": "event"}).status_code == 403
    assert api.post("/keys", {"name": "a", "scopes": ["change_runs"], "operator": True}).status_code == 403
    assert api.post("/keys", {"name": "a", "scopes": ["change_runs"]}).status_code == 403  # it would outlive it
    good = {"name": "a", "scopes": ["change_runs"], "expiresAt": (until - dt.timedelta(days=1)).isoformat()}
    answer = api.post("/keys", good)
    assert (answer.status_code, answer.json()["scopes"]) == (201, ["change_runs"])
    assert Api(answer.json()["key"]).get("/workflows").status_code == 200
    stronger, _ = issued(org)
    assert api.post(f"/keys/{stronger.id}/rotate").status_code == 403
    assert row.organization_id == org.id


def test_a_rotated_key_works_until_the_overlap_ends(org: Organization) -> None:
    row, api = issued(org, "change_keys", expires_at=timezone.now() + dt.timedelta(days=30))
    answer = api.post(f"/keys/{row.id}/rotate", {"overlap": "1h"})
    assert answer.status_code == 201
    made = answer.json()
    assert (made["scopes"], made["replaces"], made["name"]) == (["change_keys"], str(row.id), "test")
    assert api.get("/keys").status_code == Api(made["key"]).get("/keys").status_code == 200
    row.refresh_from_db()
    assert row.expires_at is not None
    assert timezone.now() < row.expires_at <= timezone.now() + dt.timedelta(hours=1)
    assert api.post(f"/keys/{row.id}/rotate").json()["code"] == "key_not_in_force"  # its successor is to be rotated
    expire(row)
    assert (api.get("/keys").status_code, Api(made["key"]).get("/keys").status_code) == (401, 200)


def test_a_revoked_key_is_refused_at_once_and_twice_is_said(org: Organization) -> None:
    row, api = issued(org)
    _, by = issued(org, "change_keys")
    assert by.post(f"/keys/{row.id}/revoke").status_code == 200
    assert api.get("/workflows").status_code == 401
    assert by.post(f"/keys/{row.id}/revoke").status_code == 409
    assert by.post(f"/keys/{uuid.uuid4()}/revoke").json()["code"] == "key_not_found"
    listed = {each["id"] for each in by.get("/keys").json()}
    assert str(row.id) not in listed
    assert str(row.id) in {each["id"] for each in by.get("/keys", ended="true").json()}
    assert "key" not in by.get("/keys").json()[0]


def test_a_key_of_another_organization_is_not_there(org: Organization, other: Organization) -> None:
    theirs, _ = issued(other)
    _, api = issued(org)
    for verb in ("rotate", "revoke"):
        assert api.post(f"/keys/{theirs.id}/{verb}").status_code == 404
    theirs.refresh_from_db()
    assert theirs.revoked_at is None


@pytest.mark.parametrize(
    "wanted",
    [
        {"kind": "event", "scopes": ["run_flows"]},
        {"scopes": ["everything"]},
        {"name": ""},
        {"name": "x" * 101},
        {"kind": "event", "operator": True},
        {"expires_at": timezone.now() - dt.timedelta(days=1)},
        {"expires_at": timezone.now() + dt.timedelta(days=5_000)},
        {"kind": "other"},
    ],
)
def test_what_no_key_can_be_is_refused(org: Organization, wanted: dict[str, Any]) -> None:
    given = {"kind": "api", "name": "n", **wanted}
    with pytest.raises(InvalidInput):
        access_keys.issue(org, given.pop("kind"), given.pop("name"), **given)


def test_rules_of_rotation(org: Organization) -> None:
    row, _ = issued(org)
    for days in (-1, 91):
        with pytest.raises(InvalidInput):
            access_keys.rotate(org, row.id, overlap=dt.timedelta(days=days))
    expire(row)
    with pytest.raises(KeyNotInForce):
        access_keys.rotate(org, row.id)
    with pytest.raises(Forbidden):
        access_keys.issue(org, "api", "n", operator=True, by=issued(org)[0])
    assert access_keys.find("no key") is None
    AccessKey.objects.filter(id=row.id).update(digest=AccessKey.digest_of(org.slug))
    with pytest.raises(KeyExpired):
        access_keys.find_valid(org.slug, "api")


# --- use ------------------------------------------------------------------------------------------------------------


def test_a_use_is_noted_beside_the_request_and_once_a_minute(org: Organization) -> None:
    with this_process.replaced(KeyUses, KeyUses()):
        uses = this_process.own(KeyUses)
        uses._thread = object()  # nobody writes but this test
        row, api = issued(org)
        api.get("/workflows")
        row.refresh_from_db()
        assert row.last_used_at is None
        uses.write()
        row.refresh_from_db()
        first = row.last_used_at
        assert first is not None
        api.get("/workflows")
        assert uses._waiting == set()
        uses._noted.clear()  # another process
        api.get("/workflows")
        uses.write()
        row.refresh_from_db()
        assert row.last_used_at == first
        AccessKey.objects.filter(id=row.id).update(last_used_at=first - dt.timedelta(minutes=2))
        uses._noted.clear()
        api.get("/workflows")
        uses.write()
        row.refresh_from_db()
        assert row.last_used_at >= first


def test_the_short_way_in_notes_a_use_and_refuses_a_key_without_the_scope(org: Organization) -> None:
    apply_definition(org, FLOW)
    outcomes: dict[str, Any] = {}
    with this_process.replaced(KeyUses, KeyUses()):
        uses = this_process.own(KeyUses)
        uses._thread = object()
        keys = {
            scope: access_keys.issue(org, "api", scope, scopes=[scope])[1] for scope in ("run_flows", "change_runs")
        }
        keys["event"] = access_keys.issue(org, "event", "e")[1]
        for name in ("run_flows", "change_runs"):
            plain = [intake.PlainRun(input={})]
            assert intake.start_runs(keys[name], "keyed", plain, functools.partial(outcomes.__setitem__, name))
        assert intake.send_events(keys["event"], {"name": "a/b"}, functools.partial(outcomes.__setitem__, "event"))
        await_that(lambda: len(outcomes) == 3, what="the outcomes")
        assert (len(outcomes["run_flows"]), outcomes["change_runs"], len(outcomes["event"])) == (1, None, 1)
        assert uses._waiting == {AccessKey.digest_of(keys[name]) for name in ("run_flows", "event")}


def test_keys_that_want_a_look_are_named(org: Organization) -> None:
    now = timezone.now()
    soon, _ = issued(org, expires_at=now + dt.timedelta(days=13))
    later, _ = issued(org, expires_at=now + dt.timedelta(days=15))
    rotated, _ = issued(org, expires_at=now + dt.timedelta(days=13))
    access_keys.rotate(org, rotated.id)
    idle, _ = issued(org)
    AccessKey.objects.filter(id=idle.id).update(created_at=now - dt.timedelta(days=91))
    named = {each.key: each.reason for each in key_selectors.troubles(now) if each.organization == org.slug}
    assert {str(soon), str(idle)} <= named.keys()
    assert "90 days" in named[str(idle)]
    assert not {str(later), str(rotated)} & named.keys()


# --- operators' keys, and successors ----------------------------------------------------------------------------------


def test_only_an_operator_of_the_installation_makes_an_operators_key_in_the_admin(org: Organization) -> None:
    form = {"organization": str(org.id), "kind": "api", "name": "mine", "operator": "on", "scopes": []}
    admin = staff(of=org, role="admin")
    assert "shows it again" in admin.post("/admin/headrace_workflows/accesskey/add/", form).content.decode()
    assert not AccessKey.objects.get(organization=org, name="mine").operator
    theirs, _ = AccessKey.issue(org, "api", "of the operator", operator=True)
    act(admin, "/admin/headrace_workflows/accesskey/", "rotate", theirs.id)
    assert not theirs.successors.exists()
    answer = staff(superuser=True).post("/admin/headrace_workflows/accesskey/add/", {**form, "name": "everywhere"})
    assert answer.status_code == 200
    assert AccessKey.objects.get(organization=org, name="everywhere").operator


def test_the_admin_shows_a_new_key_in_its_answer_and_keeps_it_nowhere(org: Organization) -> None:
    form = {"organization": str(org.id), "kind": "api", "name": "mine", "scopes": []}
    admin, address = staff(of=org, role="admin"), "/admin/headrace_workflows/accesskey/"
    made = admin.post(f"{address}add/", form)
    row = AccessKey.objects.get(organization=org, name="mine")
    rotated = act(admin, address, "rotate", row.id)
    for answer, kept in ((made, row), (rotated, row.successors.get())):
        (key,) = re.findall(r'<code class="new-key">([^<]+)</code>', answer.content.decode())
        assert AccessKey.digest_of(key) == kept.digest
        assert "no-store" in answer["Cache-Control"]
        assert key not in str(answer.cookies) + str(dict(admin.session))
        assert key not in admin.get(address).content.decode()


def test_no_verb_gives_an_operators_key_to_another(org: Organization) -> None:
    with pytest.raises(Forbidden):
        access_keys.issue(org, "api", "n", operator=True)
    operators, _ = access_keys.issue(org, "api", "n", operator=True, as_operator=True)
    with pytest.raises(Forbidden):
        access_keys.rotate(org, operators.id)
    assert access_keys.rotate(org, operators.id, as_operator=True)[0].operator


def test_the_successor_of_a_lost_successor_lives_as_long_as_the_first_was_to(org: Organization) -> None:
    row, _ = issued(org)
    AccessKey.objects.filter(id=row.id).update(created_at=timezone.now() - dt.timedelta(days=7))
    lost, _ = access_keys.rotate(org, row.id)
    access_keys.revoke(org, lost.id)
    again, _ = access_keys.rotate(org, row.id)
    assert again.expires_at is None


def test_a_key_of_the_environment_is_not_rotated_here(org: Organization) -> None:
    row, _ = AccessKey.issue(org, "api", "INNGEST_API_KEY", operator=True)
    with pytest.raises(KeyNotInForce, match="environment"):
        access_keys.rotate(org, row.id, as_operator=True)


def test_a_change_is_written_down_whatever_its_body_says(org: Organization) -> None:
    apply_definition(org, FLOW)
    _, api = issued(org)
    assert api.post("/workflows/keyed/archive", {"dryRun": True}).status_code == 200
    assert AuditEntry.objects.filter(org_id=org.id, verb="flow.archive", object_id="keyed").exists()
