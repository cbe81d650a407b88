"""Members and roles: who may give which, by page, by command and in the admin; what an upgrade leaves to whom."""

from __future__ import annotations

import importlib
import io
import itertools
import json
import uuid
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client

from tests.support.admin_site import Forms, staff, successes
from workflows.edge import access
from workflows.errors import InvalidInput
from workflows.models import AccessKey, Membership, Organization
from workflows.services.tenancy import members
from workflows.services.tenancy.members import LastAdmin, LoginNotFound, MemberNotFound


@pytest.fixture
def anna(live_db: None) -> User:
    return User.objects.create_user(f"anna-{uuid.uuid4().hex[:8]}")


def client_of(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def roles(org: Organization) -> dict[str, str]:
    return {each.member: each.role for each in Membership.objects.filter(organization=org)}


def test_each_role_has_the_rights_of_those_before_it() -> None:
    sets = list(access.RIGHTS_OF.values())
    assert all(weaker < stronger for weaker, stronger in itertools.pairwise(sets))
    assert sets[-1] == frozenset(access.RIGHTS.values())
    assert set(access.WHAT) == set(access.RIGHTS.values())
    assert list(access.RIGHTS_OF) == [str(role) for role in Membership.Role]


@pytest.mark.usefixtures("live_db")
def test_each_right_is_a_permission_that_django_knows() -> None:
    for permission in access.RIGHTS.values():
        app, _, code = permission.partition(".")
        assert Permission.objects.filter(content_type__app_label=app, codename=code).exists(), permission


def test_a_member_is_a_login_or_a_team_and_once_only(org: Organization, anna: User) -> None:
    team = Group.objects.create(name=f"team-{uuid.uuid4().hex[:8]}")
    for wrong in ({"user": None}, {"user": anna, "group": team}, {"user": anna, "role": "king"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Membership.objects.create(**{"organization": org, "role": "viewer", **wrong})
    Membership.objects.create(organization=org, user=anna, role="viewer")
    with pytest.raises(IntegrityError), transaction.atomic():
        Membership.objects.create(organization=org, user=anna, role="admin")


def test_members_come_get_another_role_and_go(org: Organization, anna: User) -> None:
    team = Group.objects.create(name=f"team-{uuid.uuid4().hex[:8]}")
    members.put(org, anna.username, "admin", by="test", may_give=members.any_role)
    members.put(org, f"group:{team.name}", "viewer", by="test", may_give=members.any_role)
    members.put(org, f" group:{team.name} ", "operator", by="test", may_give=members.any_role)
    assert roles(org) == {f"user:{anna.username}": "admin", f"group:{team.name}": "operator"}
    with pytest.raises(LastAdmin):
        members.put(org, anna.username, "viewer", by="test", may_give=members.any_role)
    with pytest.raises(LastAdmin):
        members.remove(org, f"user:{anna.username}", by="test", may_give=members.any_role)
    members.remove(org, anna.username, by="test", may_give=members.any_role, as_operator=True)
    with pytest.raises(MemberNotFound):
        members.remove(org, anna.username, by="test", may_give=members.any_role)
    assert roles(org) == {f"group:{team.name}": "operator"}


@pytest.mark.parametrize(
    "name", ["", " ", "x" * 300, "a\0b", "nobody-of-this-name", "group:no-team-of-this-name", "\ud800"]
)
def test_a_name_of_nobody_is_refused_with_a_reason(org: Organization, name: str) -> None:
    with pytest.raises((InvalidInput, LoginNotFound)):
        members.put(org, name, "viewer", by="test", may_give=members.any_role)
    assert roles(org) == {}


def test_an_unknown_role_is_refused(org: Organization, anna: User) -> None:
    with pytest.raises(InvalidInput, match="viewer, operator, editor, admin"):
        members.put(org, anna.username, "king", by="test", may_give=members.any_role)


def test_the_page_shows_members_to_all_and_changes_them_for_admins(org: Organization, anna: User) -> None:
    boss = staff(of=org, role="admin")
    assert boss.post("/organization/members/", {"member": anna.username, "role": "viewer"}).status_code == 302
    assert roles(org)[f"user:{anna.username}"] == "viewer"
    page = client_of(anna).get("/organization/").content.decode()
    assert (anna.username in page, 'name="role"' in page) == (True, False)
    for path in ("/organization/members/", "/organization/members/remove/"):
        assert client_of(anna).post(path, {"member": anna.username, "role": "admin"}).status_code == 403
    answer = boss.post("/organization/members/", {"member": "no-such-login", "role": "viewer"}, follow=True)
    assert "There is no login" in answer.content.decode()
    assert boss.post("/organization/members/remove/", {"member": anna.username}).status_code == 302
    assert f"user:{anna.username}" not in roles(org)
    assert client_of(anna).get("/organization/").status_code == 403


def test_nobody_gives_more_than_it_has(org: Organization, anna: User) -> None:
    """The permission to change the organization, without the rights of an admin, makes no admin."""
    anna.user_permissions.add(Permission.objects.get(codename="change_organization"))
    Membership.objects.create(organization=org, user=anna, role="viewer")
    bert = User.objects.create_user(f"bert-{uuid.uuid4().hex[:8]}")
    client = client_of(anna)
    for who, role in ((anna, "admin"), (bert, "operator")):
        page = client.post("/organization/members/", {"member": who.username, "role": role}, follow=True)
        assert "do not reach" in page.content.decode()
    assert client.post("/organization/members/", {"member": bert.username, "role": "viewer"}).status_code == 302
    Membership.objects.filter(user=bert).update(role="admin")
    page = client.post("/organization/members/remove/", {"member": bert.username}, follow=True)
    assert "do not reach" in page.content.decode()
    assert roles(org) == {f"user:{anna.username}": "viewer", f"user:{bert.username}": "admin"}


def test_a_role_is_taken_away_by_those_only_who_could_give_it_whatever_the_form_says(
    org: Organization, anna: User
) -> None:
    """The form of the admin deletes a row whose role it sends itself: the stored one counts."""
    mine = staff(["headrace_workflows.change_organization"], of=org)
    members.put(org, anna.username, "admin", by="test", may_give=members.any_role)
    keeper = User.objects.create_user(f"keeper-{uuid.uuid4().hex[:8]}")
    members.put(org, keeper.username, "admin", by="test", may_give=members.any_role)
    path, form = admin_form(mine, org)
    ids = {value[0]: name for name, value in form.items() if name.endswith("-id")}
    row = ids[str(Membership.objects.get(organization=org, user=anna).pk)].removesuffix("-id")
    page = mine.post(path, {**form, f"{row}-role": "viewer", f"{row}-DELETE": "on"}, follow=True)
    assert "do not reach" in page.content.decode()
    assert roles(org)[f"user:{anna.username}"] == "admin"


def test_who_can_not_log_in_is_no_admin_that_is_left(org: Organization, anna: User) -> None:
    team = Group.objects.create(name=f"team-{uuid.uuid4().hex[:8]}")
    gone = User.objects.create_user(f"gone-{uuid.uuid4().hex[:8]}", is_active=False)
    for name in (anna.username, gone.username, f"group:{team.name}"):
        members.put(org, name, "admin", by="test", may_give=members.any_role)
    gone.groups.add(team)
    with pytest.raises(LastAdmin):
        members.put(org, anna.username, "viewer", by="test", may_give=members.any_role)
    with pytest.raises(LastAdmin):
        members.remove(org, anna.username, by="test", may_give=members.any_role)
    User.objects.create_user(f"here-{uuid.uuid4().hex[:8]}").groups.add(team)
    members.remove(org, anna.username, by="test", may_give=members.any_role)
    assert f"user:{anna.username}" not in roles(org)


def test_a_page_of_another_organization_than_the_sessions_does_nothing_there(
    org: Organization, other: Organization, anna: User
) -> None:
    for each in (org, other):
        members.put(each, anna.username, "admin", by="test", may_give=members.any_role)
    bert = User.objects.create_user(f"bert-{uuid.uuid4().hex[:8]}")
    client = client_of(anna)
    client.post("/switch/", {"organization": other.slug})
    form = {"member": bert.username, "role": "viewer"}
    answer = client.post("/organization/members/", {**form, "org": org.slug})
    assert (answer.status_code, answer["X-Headrace-Organization"]) == (409, other.slug)
    assert f"This page shows {org.slug}; your session is at {other.slug} now" in answer.content.decode()
    assert client.get("/?rows=", headers={"X-Headrace-Organization": org.slug}).status_code == 409
    Membership.objects.filter(user=anna, organization=other).delete()
    assert client.post("/organization/members/", {**form, "org": other.slug}).status_code == 409, "it is at org now"
    assert not Membership.objects.filter(user=bert).exists()
    assert client.post("/organization/members/", {**form, "org": org.slug}).status_code == 302
    assert roles(org)[f"user:{bert.username}"] == "viewer"


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("organization", *words, stdout=out)
    return out.getvalue()


def test_the_command_adds_lists_and_removes(org: Organization, anna: User) -> None:
    assert "role: editor" in run("add", anna.username, "--role", "editor", "--org", org.slug)
    (listed,) = json.loads(run("members", "--org", org.slug, "--json"))
    assert (listed["member"], listed["role"]) == (f"user:{anna.username}", "editor")
    assert anna.username in run("members", "--org", org.slug)
    run("remove", anna.username, "--org", org.slug)
    with pytest.raises(CommandError, match="no member"):
        run("remove", anna.username, "--org", org.slug)


def test_members_and_quotas_are_read_by_key(org: Organization, anna: User, api_key: str) -> None:
    Membership.objects.create(organization=org, user=anna, role="editor")
    client = Client(headers={"authorization": f"Bearer {api_key}"})
    found = client.get("/api/organization").json()
    assert (found["slug"], found["members"]) == (org.slug, 1)
    assert [each["name"] for each in found["quotas"]] == ["eventsPerSecond", "concurrentSteps", "storedBytes"]
    (member,) = client.get("/api/organization/members").json()["members"]
    assert (member["member"], member["role"]) == (f"user:{anna.username}", "editor")
    assert client.get("/api/organization/members?limit=0").status_code == 422
    assert client.get("/api/organization/quotas").json() == found["quotas"]


def admin_form(client: Client, org: Organization) -> tuple[str, dict[str, Any]]:
    path = f"/admin/headrace_workflows/organization/{org.pk}/change/"
    return path, Forms(client.get(path).content.decode(), "organization_form").data


def test_the_admin_changes_members_by_the_same_verbs(org: Organization, anna: User) -> None:
    boss = staff(of=org, role="admin")
    path, form = admin_form(boss, org)
    total = int(form["memberships-TOTAL_FORMS"][0])
    new = {"memberships-TOTAL_FORMS": total + 1, f"memberships-{total}-member": anna.username,
           f"memberships-{total}-role": "operator"}  # fmt: skip
    assert successes(boss.post(path, {**form, **new}, follow=True))
    assert roles(org)[f"user:{anna.username}"] == "operator"
    wrong = boss.post(path, {**form, **new, f"memberships-{total}-member": "no-such-login"}, follow=True)
    assert "There is no login" in wrong.content.decode()
    _, form = admin_form(boss, org)
    place = next(name for name, value in form.items() if name.endswith("-role") and value == ["admin"])
    page = boss.post(path, {**form, place: "viewer"}, follow=True)
    assert "last admin" in page.content.decode()
    assert "admin" in roles(org).values()


def test_an_admin_of_an_organization_sets_no_quota_and_makes_no_organization(org: Organization) -> None:
    boss = staff(of=org, role="admin")
    path, form = admin_form(boss, org)
    boss.post(path, {**form, "name": "New name", "slug": "taken", "events_per_s": "1000"}, follow=True)
    org.refresh_from_db()
    assert (org.name, org.events_per_s, org.slug != "taken") == ("New name", None, True)
    assert boss.get("/admin/headrace_workflows/organization/add/").status_code == 403
    operator = staff(superuser=True)
    path, form = admin_form(operator, org)
    assert successes(operator.post(path, {**form, "events_per_s": "1000", "concurrent_steps": "7"}, follow=True))
    org.refresh_from_db()
    assert (org.events_per_s, org.concurrent_steps) == (1000, 7)


def test_an_upgrade_makes_those_who_saw_the_only_organization_its_viewers(org: Organization, anna: User) -> None:
    upgrade = importlib.import_module("workflows.migrations.0031_members_from_before")
    gone = User.objects.create_user(f"gone-{uuid.uuid4().hex[:8]}", is_active=False)
    boss = User.objects.create_superuser(f"boss-{uuid.uuid4().hex[:8]}")
    with transaction.atomic():
        upgrade.add_viewers(_OnlyOne(org), None)
        found = dict(Membership.objects.filter(organization=org).values_list("user", "role"))
        upgrade.add_viewers(_OnlyOne(org), None)  # a second time changes nothing
        assert dict(Membership.objects.filter(organization=org).values_list("user", "role")) == found
        transaction.set_rollback(True)
    assert (found[anna.pk], gone.pk in found, boss.pk in found) == ("viewer", False, False)
    upgrade.add_viewers(apps, None)  # there are several organizations: nobody saw any of them
    assert roles(org) == {}


class _OnlyOne:
    """The models, with one organization."""

    def __init__(self, org: Organization) -> None:
        self._org = org

    def get_model(self, *name: str) -> Any:
        model = apps.get_model(*name)
        if model is not Organization:
            return model
        only = Organization.objects.filter(pk=self._org.pk)
        return type("Only", (), {"objects": only})


def test_a_key_is_no_member(org: Organization) -> None:
    key = AccessKey.issue(org, "api", "x")[1]
    assert Client(headers={"authorization": f"Bearer {key}"}).get("/organization/").status_code == 302
