"""The page of keys: what it lists, and that a new key is shown once, to nobody twice, and never more than its issuer."""

from __future__ import annotations

import datetime as dt
import io
import re
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.core import signing
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from tests.integration.access.test_keys import Api, expire, issued
from tests.integration.dashboard.people import member, operator_of_all
from tests.support.admin_site import staff
from workflows.dashboard.control import key_form
from workflows.errors import Forbidden, InvalidInput, KeyNotInForce
from workflows.models import AccessKey, AuditEntry, Membership, Organization
from workflows.selectors.access import keys as selectors
from workflows.services import access_keys

SHOWN_KEY = re.compile(r"hr_(?:api|event)_[\w-]{32}")
FORM = {"kind": "api", "name": "deploy", "rights": "some", "scopes": ["run_flows"], "expires": "90d", "expires_at": ""}


@pytest.fixture
def admin(org: Organization) -> Client:
    return member(org, "admin")


def once_of(client: Client) -> str:
    found = re.search(r'name="once" value="([^"]+)"', client.get("/keys/?new=yes").content.decode())
    assert found is not None
    return found[1]


def key_in(answer: Any) -> str:
    """The key that an answer shows: in one place, with a button that copies it."""
    shown = set(SHOWN_KEY.findall(answer.content.decode()))
    assert len(shown) == 1, shown
    return str(shown.pop())


def state(org: Organization, row: AccessKey) -> str:
    return selectors.key_row(org, row.id).state


# --- shown once -----------------------------------------------------------------------------------------------------


def test_a_new_key_is_in_the_answer_to_its_form_and_nowhere_else(org: Organization, admin: Client) -> None:
    answer = admin.post("/keys/", {**FORM, "once": once_of(admin)})
    key = key_in(answer)
    assert answer.status_code == 200
    assert {"no-store", "private"} <= set(re.split(r",\s*", answer["Cache-Control"]))
    assert Api(key).get("/workflows").status_code == 200
    row = AccessKey.objects.get(organization=org, name="deploy")
    assert (row.scopes, row.operator, row.digest) == (["run_flows"], False, AccessKey.digest_of(key))
    assert row.expires_at is not None
    assert dt.timedelta(days=89) < row.expires_at - timezone.now() <= dt.timedelta(days=90)
    for address in ("/keys/", f"/keys/?key={row.id}", "/keys/?ended=yes", "/audit/", "/"):
        assert key not in admin.get(address).content.decode(), address
    kept = [str(each.get_decoded()) for each in Session.objects.all()]
    kept += [str(dict(admin.cookies)), str(list(AuditEntry.objects.filter(org_id=org.id).values()))]
    assert not [text for text in kept if key in text or key[14:] in text]


def test_a_form_that_is_sent_again_issues_no_second_key(org: Organization, admin: Client) -> None:
    form = {**FORM, "once": once_of(admin)}
    key_in(admin.post("/keys/", form))
    again = admin.post("/keys/", form)
    assert again.status_code == 409
    assert "was sent before" in again.content.decode()
    assert not SHOWN_KEY.search(again.content.decode())
    assert AccessKey.objects.filter(organization=org, name="deploy").count() == 1
    key_in(admin.post("/keys/", {**FORM, "once": once_of(admin)}))


def test_a_form_of_another_login_or_organization_or_day_is_refused(
    org: Organization, other: Organization, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for once in (once_of(member(org, "admin")), once_of(member(other, "admin")), "x", signing.dumps("x", salt="other")):
        answer = admin.post("/keys/", {**FORM, "once": once})
        assert (answer.status_code, bool(SHOWN_KEY.search(answer.content.decode()))) == (422, False)
    mine = once_of(admin)
    monkeypatch.setattr(key_form, "KEPT_S", -1)
    assert admin.post("/keys/", {**FORM, "once": mine}).status_code == 422
    assert not AccessKey.objects.filter(organization=org).exists()


def test_a_key_is_rotated_with_an_overlap_and_its_successor_shown_once(org: Organization, admin: Client) -> None:
    row, api = issued(org, "run_flows", "stop_flows")
    answer = admin.post(f"/keys/{row.id}/rotate/", {"overlap": "1h"})
    successor = Api(key_in(answer))
    assert "no-store" in answer["Cache-Control"]
    made = AccessKey.objects.get(replaces=row)
    assert (made.scopes, made.name) == (row.scopes, row.name)
    assert (state(org, row), state(org, made)) == ("overlapping", "live")
    assert (api.get("/workflows").status_code, successor.get("/workflows").status_code) == (200, 200)
    again = admin.post(f"/keys/{row.id}/rotate/", {"overlap": "1h"})
    assert (again.status_code, bool(SHOWN_KEY.search(again.content.decode()))) == (409, False)
    shown = admin.get(f"/keys/?key={row.id}").content.decode()
    assert f"?key={made.id}" in shown
    assert 'formaction="rotate"' not in shown
    at_once = admin.post(f"/keys/{made.id}/rotate/", {"overlap": "0"})
    key_in(at_once)
    assert successor.get("/workflows").json()["code"] == "key_expired"


# --- who may --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["viewer", "operator", "editor"])
def test_who_may_not_change_keys_sees_no_page_and_changes_none(org: Organization, role: str) -> None:
    row, api = issued(org)
    client = member(org, role)
    assert b"/keys/" not in client.get("/").content
    assert client.get("/keys/").status_code == 403
    for path, form in (("/keys/", FORM), *((f"/keys/{row.id}/{verb}/", {"name": "x"}) for verb in
                                           ("rotate", "rename", "revoke"))):  # fmt: skip
        assert client.post(path, form).status_code == 403, path
    assert api.get("/workflows").status_code == 200
    assert AccessKey.objects.filter(organization=org).count() == 1


def editor_with_keys(org: Organization) -> Client:
    user = User.objects.create_user(f"keys-{uuid4().hex[:8]}", is_staff=True)
    for name in ("change_accesskey", "add_accesskey"):
        user.user_permissions.add(Permission.objects.get(codename=name))
    Membership.objects.create(organization=org, user=user, role="editor")
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def test_a_login_issues_no_key_that_may_more_than_itself(org: Organization) -> None:
    editor = editor_with_keys(org)
    offered = editor.get("/keys/?new=yes").content.decode()
    assert re.search(r'value="delete_flows" disabled', offered)
    assert not re.search(r'value="change_flows" disabled', offered)
    for more in ({"scopes": ["delete_flows"]}, {"rights": "all", "scopes": []}, {"operator": "yes"}):
        answer = editor.post("/keys/", {**FORM, **more})
        assert (answer.status_code, bool(SHOWN_KEY.search(answer.content.decode()))) == (403, False), more
    key_in(editor.post("/keys/", {**FORM, "scopes": ["change_flows", "change_keys"]}))
    key_in(editor.post("/keys/", {**FORM, "kind": "event", "scopes": []}))
    everything, _ = issued(org)
    strong, _ = issued(org, "change_organization")
    for row in (everything, strong):
        assert editor.post(f"/keys/{row.id}/rotate/", {"overlap": "1h"}).status_code == 403
    assert not AccessKey.objects.filter(replaces__in=[everything, strong]).exists()


def test_the_admin_issues_no_more_than_the_login_has_either(org: Organization) -> None:
    editor = editor_with_keys(org)
    form = {"organization": str(org.id), "kind": "api", "name": "strong", "scopes": ["delete_flows"]}
    editor.post("/admin/headrace_workflows/accesskey/add/", form)
    assert not AccessKey.objects.filter(organization=org, name="strong").exists()
    staff(of=org, role="admin").post("/admin/headrace_workflows/accesskey/add/", form)
    assert AccessKey.objects.filter(organization=org, name="strong").exists()


def test_only_an_operator_of_the_installation_issues_and_rotates_an_operators_key(
    org: Organization, admin: Client
) -> None:
    assert 'name="operator"' not in admin.get("/keys/?new=yes").content.decode()
    assert admin.post("/keys/", {**FORM, "rights": "all", "scopes": [], "operator": "yes"}).status_code == 403
    root = operator_of_all(org)
    assert 'name="operator"' in root.get("/keys/?new=yes").content.decode()
    key_in(root.post("/keys/", {**FORM, "rights": "all", "scopes": [], "operator": "yes"}))
    row = AccessKey.objects.get(organization=org, operator=True)
    assert admin.post(f"/keys/{row.id}/rotate/", {"overlap": "1h"}).status_code == 403
    key_in(root.post(f"/keys/{row.id}/rotate/", {"overlap": "1h"}))


def test_keys_of_another_organization_are_not_there(org: Organization, other: Organization, admin: Client) -> None:
    theirs, api = issued(other)
    assert admin.get(f"/keys/?key={theirs.id}").status_code == 404
    for verb in ("rotate", "rename", "revoke"):
        assert admin.post(f"/keys/{theirs.id}/{verb}/", {"name": "mine", "overlap": "1h"}).status_code == 404
    assert theirs.prefix not in admin.get("/keys/?ended=yes").content.decode()
    assert api.get("/workflows").status_code == 200


def test_a_form_of_another_site_is_refused(org: Organization) -> None:
    user = User.objects.create_user(f"csrf-{uuid4().hex[:8]}")
    Membership.objects.create(organization=org, user=user, role="admin")
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    row, api = issued(org)
    for path in ("/keys/", f"/keys/{row.id}/revoke/", f"/keys/{row.id}/rotate/", f"/keys/{row.id}/rename/",
                 "/secrets/", "/secrets/delete/", "/retention/"):  # fmt: skip
        assert client.post(path, FORM).status_code == 403, path
    assert api.get("/workflows").status_code == 200


# --- the list, names, and what can't be meant -----------------------------------------------------------------------


def test_each_key_says_how_it_stands_and_who_made_it(org: Organization, admin: Client) -> None:
    now = timezone.now()
    key_in(admin.post("/keys/", FORM))
    by_page = AccessKey.objects.get(organization=org, name="deploy")
    soon, _ = issued(org, expires_at=now + dt.timedelta(days=13))
    later, _ = issued(org, expires_at=now + dt.timedelta(days=15))
    ended, _ = issued(org)
    expire(ended)
    gone, _ = issued(org)
    access_keys.revoke(org, gone.id)
    assert [state(org, row) for row in (by_page, soon, later, ended, gone)] == [
        "live", "expiring", "live", "expired", "revoked",
    ]  # fmt: skip
    call_command("organization", "key", "event", f"--org={org.slug}", "--name=by-command", stdout=io.StringIO())
    by_command = AccessKey.objects.get(organization=org, name="by-command")
    api = issued(org, "change_keys", "run_flows")[1]
    by_key = AccessKey.objects.get(id=api.post("/keys", {"name": "k", "scopes": ["run_flows"]}).json()["id"])
    successor = AccessKey.objects.get(id=api.post(f"/keys/{by_key.id}/rotate").json()["id"])
    made = {
        row.id: selectors.key_row(org, row.id).by.partition(" ")[0] for row in (by_page, by_command, by_key, successor)
    }
    assert list(made.values()) == ["login", "command", "key", "key"]
    assert selectors.key_row(org, soon.id).by == "", "code made it: the log says nothing"
    listed = [row.key.id for row in selectors.page_of_keys(org).rows]
    assert not {ended.id, gone.id} & set(listed)
    assert {ended.id, gone.id} <= {row.key.id for row in selectors.page_of_keys(org, ended=True).rows}
    shown = admin.get("/keys/?ended=yes").content.decode()
    assert all(f'class="status {word}"' in shown for word in ("live", "expiring", "expired", "revoked", "overlapping"))


def test_the_list_is_searched_and_paged(org: Organization, admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [access_keys.issue(org, "api", f"ship-{number}")[0] for number in range(5)]
    access_keys.issue(org, "event", "shop")
    monkeypatch.setattr(selectors, "SHOWN", 2)
    seen: list[Any] = []
    address = "/keys/?q=ship"
    for _ in range(5):
        answer = admin.get(address)
        seen += [row.key.id for row in answer.context["rows"]]
        if not answer.context["following"]:
            break
        address = f"/keys/?q=ship&cursor={answer.context['following']}"
    assert seen == [row.id for row in reversed(rows)]
    assert len(admin.get(f"/keys/?q={rows[0].prefix[:13]}").context["rows"]) >= 1
    assert "No key is like this" in admin.get("/keys/?q=nothing").content.decode()
    for bad in ("cursor=x", "key=x"):
        assert admin.get(f"/keys/?{bad}").status_code == 422, bad


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": " "},
        {"name": "x" * 101},
        {"name": "INNGEST_API_KEY"},
        {"kind": "other"},
        {"kind": ""},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"rights": "all"},
        {"kind": "event"},
        {"expires": "1y"},
        {"expires": "at"},
        {"expires": "at", "expires_at": "yesterday"},
        {"expires": "at", "expires_at": "2020-01-01T00:00"},
        {"expires": "at", "expires_at": "2999-01-01T00:00"},
        {"expires": "7d", "expires_at": "2030-01-01T00:00"},
    ],
    ids=str,
)
def test_what_no_key_can_be_is_refused_with_the_form_as_it_was_written(
    org: Organization, admin: Client, wrong: dict[str, Any]
) -> None:
    answer = admin.post("/keys/", {**FORM, "name": "kept", **wrong})
    assert answer.status_code == 422
    text = answer.content.decode()
    assert 'role="alert"' in text
    assert "name" in wrong or 'value="kept"' in text
    assert not SHOWN_KEY.search(text)
    assert not AccessKey.objects.filter(organization=org).exists()


def test_a_time_is_read_as_utc_and_never_is_a_choice(org: Organization, admin: Client) -> None:
    at = (timezone.now() + dt.timedelta(days=3)).replace(second=0, microsecond=0)
    key_in(admin.post("/keys/", {**FORM, "name": "at", "expires": "at", "expires_at": f"{at:%Y-%m-%dT%H:%M}"}))
    key_in(admin.post("/keys/", {**FORM, "name": "never", "expires": ""}))
    assert AccessKey.objects.get(organization=org, name="at").expires_at == at
    assert AccessKey.objects.get(organization=org, name="never").expires_at is None
    row = AccessKey.objects.get(organization=org, name="at")
    assert admin.post(f"/keys/{row.id}/rotate/", {"overlap": "1y"}).status_code == 422


def test_a_key_gets_another_name_everywhere_by_the_same_rule(org: Organization, admin: Client) -> None:
    row, api = issued(org, "change_keys")
    assert admin.post(f"/keys/{row.id}/rename/", {"name": " by page "}).status_code == 302
    row.refresh_from_db()
    assert row.name == "by page"
    entry = AuditEntry.objects.get(org_id=org.id, verb="key.rename")
    assert (entry.object_id, entry.details["before"], entry.details["after"]) == (
        str(row.id), {"name": "test"}, {"name": "by page"},
    )  # fmt: skip
    assert api.post(f"/keys/{row.id}/rename", {"name": "by key"}).json()["name"] == "by key"
    call_command("organization", "rename-key", str(row.id), "by command", f"--org={org.slug}", stdout=io.StringIO())
    row.refresh_from_db()
    assert row.name == "by command"
    for bad in ("", "x" * 101, "INNGEST_EVENT_KEY"):
        assert admin.post(f"/keys/{row.id}/rename/", {"name": bad}).status_code == 422, bad
        with pytest.raises(InvalidInput):
            access_keys.rename(org, row.id, bad)
    assert api.post(f"/keys/{row.id}/rename", {}).status_code == 422
    assert api.post(f"/keys/{uuid4()}/rename", {"name": "x"}).json()["code"] == "key_not_found"
    preset, _ = AccessKey.issue(org, "api", "INNGEST_API_KEY", operator=True)
    with pytest.raises(KeyNotInForce, match="environment"):
        access_keys.rename(org, preset.id, "mine")
    shown = admin.get(f"/keys/?key={preset.id}").content.decode()
    assert f"/keys/{preset.id}/rename/" not in shown
    assert "The environment sets this key" in shown


def test_a_key_is_revoked_once_and_the_log_says_by_whom(org: Organization, admin: Client) -> None:
    row, api = issued(org)
    assert f"/keys/{row.id}/revoke/" in admin.get(f"/keys/?key={row.id}").content.decode()
    assert admin.post(f"/keys/{row.id}/revoke/").status_code == 302
    assert api.get("/workflows").status_code == 401
    assert admin.post(f"/keys/{row.id}/revoke/").status_code == 409
    found = AuditEntry.objects.filter(org_id=org.id).values_list("verb", "object_id", "actor_kind")
    assert list(found) == [("key.revoke", str(row.id), "login")]
    assert f"/keys/{row.id}/revoke/" not in admin.get(f"/keys/?key={row.id}").content.decode()


def test_the_entry_of_an_issued_key_names_it_and_says_what_it_may(org: Organization, admin: Client) -> None:
    key_in(admin.post("/keys/", {**FORM, "once": once_of(admin)}))
    row = AccessKey.objects.get(organization=org)
    (entry,) = AuditEntry.objects.filter(org_id=org.id)
    assert (entry.verb, entry.object_kind, entry.object_id) == ("key.issue", "key", str(row.id))
    assert entry.details == {"kind": "api", "name": "deploy", "rights": "some", "scopes": "run_flows", "expires": "90d"}


def test_a_login_that_may_nothing_issues_nothing(org: Organization) -> None:
    with pytest.raises(Forbidden):
        access_keys.issue(org, "event", "n", may=lambda word: False)
    with pytest.raises(Forbidden):
        access_keys.issue(org, "api", "n", scopes=["run_flows"], may=lambda word: word == "change_keys")
