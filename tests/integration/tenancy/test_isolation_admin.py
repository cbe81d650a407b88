"""The admin shows a member the rows of its organizations, and lets it do what its role there lets it: every page of
every model, its history, its filters, its choices in forms, and every action. A new page that is neither here nor named
fails."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.integration.admin.world import ROWS, address_of
from tests.integration.tenancy.two import Tenant, text_of
from tests.support.admin_site import act, staff, successes
from tests.support.workers import leave_nothing
from workflows import services
from workflows.admin import executions
from workflows.admin.checked import CheckedAdmin
from workflows.models import Attempt, Flow, Membership, Organization, Run, StepRun

INSTALLATION = {
    "auth.User": "logins are of the installation; members of an organization are on its own page",
    "auth.Group": "teams are of the installation, and may be members of several organizations",
    "django_celery_results.TaskResult": "results of the installation's own tasks",
    "django_celery_results.GroupResult": "results of the installation's own tasks",
    "django_celery_beat.PeriodicTask": "the installation's own tasks; rows of flows: those of one's own",
    "django_celery_beat.CrontabSchedule": "times, shared by all",
    "django_celery_beat.IntervalSchedule": "times, shared by all",
    "django_celery_beat.SolarSchedule": "times, shared by all",
    "django_celery_beat.ClockedSchedule": "times, shared by all",
    "headrace_workflows.Worker": "processes of the installation",
    "headrace_workflows.LeaderLease": "processes of the installation",
    "headrace_workflows.RetentionState": "one row: how far deleting is, for all",
}
"""Pages whose rows are of no organization: no role of one opens them."""
PAGES: dict[type[Model], Any] = dict(admin.site._registry)
SCOPED = sorted((model for model, page in PAGES.items() if page.scope is not None), key=lambda each: each._meta.label)
UNSCOPED = sorted((model for model, page in PAGES.items() if page.scope is None), key=lambda each: each._meta.label)


def labels(models: list[type[Model]]) -> list[str]:
    return [model._meta.label for model in models]


@pytest.fixture(scope="module")
def ours(live_db: None) -> Iterator[Tenant]:
    made = Tenant()
    yield made
    leave_nothing(made.org)


@pytest.mark.parametrize("model", [StepRun, Attempt], ids=["step runs", "attempts"])
def test_a_members_lists_of_rows_of_runs_are_read_by_its_newest_runs(
    model: type[StepRun | Attempt], ours: Tenant, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These tables have no index by organization; a quiet one's list would read the rows of all the others."""
    old, new = (services.trigger(ours.org, ours.flow.slug, delay="1h").run_ids[0] for _ in range(2))
    steps = {run: StepRun.objects.get(run_id=run) for run in (old, new)}
    for step in steps.values():
        Attempt.objects.create(org_id=ours.org.id, run=step.run, step_run=step, number=1, status="lost",
                               ended_at=step.created_at)  # fmt: skip
    user = User.objects.get(pk=ours.in_browser.session["_auth_user_id"])
    Membership.objects.create(organization=other, user=user, role="viewer")
    monkeypatch.setattr(executions, "MOST_RUNS", 1)
    monkeypatch.setattr(executions, "RUNS_READ_AT_ONCE", 1)
    listing, table = address_of(model), model._meta.db_table
    with CaptureQueriesContext(connection) as read:
        page = ours.in_browser.get(listing)
    assert {row.run_id for row in page.context["cl"].result_list} == {new}
    of_rows = [each["sql"] for each in read if f'FROM "{table}"' in each["sql"]]
    assert of_rows
    assert not [sql for sql in of_rows if '"run_id" IN (' not in sql and f'"{table}"."id" IN (' not in sql]
    assert not ours.in_browser.get(f"{listing}?status=completed").context["cl"].result_list
    row = model.objects.filter(run_id=old).get()
    assert ours.in_browser.get(f"{listing}{row.pk}/change/").status_code == 200, "its own page is there all the same"
    boss = staff(superuser=True).get(listing).context["cl"].result_list
    assert {old, new} <= {each.run_id for each in boss}
    Membership.objects.filter(organization=other, user=user).delete()


def test_a_page_without_an_organization_is_named() -> None:
    assert set(labels(UNSCOPED)) == set(INSTALLATION)
    assert all(isinstance(page, CheckedAdmin) for page in PAGES.values())


@pytest.mark.parametrize("model", UNSCOPED, ids=labels(UNSCOPED))
def test_pages_of_the_installation(model: type[Model], ours: Tenant) -> None:
    row, listing = ROWS[model](ours), address_of(model)
    for path in (
        listing,
        f"{listing}add/",
        *(f"{listing}{quote(str(row.pk))}/{end}/" for end in ("change", "delete", "history")),
    ):
        assert ours.in_browser.get(path).status_code == 403, path
        assert ours.in_browser.post(path, {"post": "yes"}).status_code == 403, path
    assert f'href="{listing}"' not in ours.in_browser.get("/admin/").content.decode()


@pytest.mark.parametrize("model", SCOPED, ids=labels(SCOPED))
def test_rows_of_another_organization_are_neither_shown_nor_changed(
    model: type[Model], ours: Tenant, theirs: Tenant
) -> None:
    number_from_far(model)
    own, row, listing = ROWS[model](ours), ROWS[model](theirs), address_of(model)
    marks = (theirs.marks | {str(row.pk)}) - set(str(own.pk).split())
    before, client = theirs.fingerprint(), ours.in_browser
    absent = uuid.uuid4() if model._meta.pk.get_internal_type() == "UUIDField" else 2_000_000_000
    for end in ("change/", "delete/", "history/", ""):
        for ask in (client.get, lambda path, **more: client.post(path, {"post": "yes", "_save": "Save"}, **more)):
            answer = ask(f"{listing}{quote(str(row.pk))}/{end}", follow=not end)
            wanted = ask(f"{listing}{quote(str(absent))}/{end}", follow=not end).status_code
            assert answer.status_code == wanted, (end, "tells a row of another organization from none")
            assert wanted == 404 or (wanted == 403 and ask is not client.get), end
            assert not [mark for mark in theirs.marks - {str(row.pk)} if mark in text_of(answer)], end
    page = client.get(listing)
    assert page.status_code == 200
    assert quote(str(own.pk)) in text_of(page) or str(own) in text_of(page), "its own row is not there either"
    paths = [listing, f"{listing}add/", f"{listing}{quote(str(own.pk))}/change/"]
    paths += [f"{listing}?{field}__id__exact={value}" for field, value in relations(model, theirs)]
    paths += [f"{listing}?q={text}" for text in (theirs.flow_slug, theirs.org.slug) if PAGES[model].search_fields]
    for path in paths:
        given = {mark for mark in theirs.marks if mark in path}
        shown = text_of(client.get(path))
        assert not [mark for mark in marks - given if is_in(mark, shown)], path
    for name in actions_of(client, listing):
        answer = act(client, listing, name, row.pk)
        assert successes(answer) == [], name
        confirmed = {"action": name, "_selected_action": [str(row.pk)], "confirmed": "yes", "post": "yes"}
        assert successes(client.post(listing, confirmed, follow=True)) == [], name
    assert theirs.fingerprint() == before


def relations(model: type[Model], theirs: Tenant) -> Iterator[tuple[str, Any]]:
    """The relations that the list can be filtered by, with an object of the other organization."""
    values = {Flow: theirs.flow.id, Organization: theirs.org.id, Run: theirs.run_id}
    for name in PAGES[model].list_filter:
        if isinstance(name, str):
            field = model._meta.get_field(name)
            if field.is_relation and field.related_model in values:
                yield name, values[field.related_model]  # type: ignore[index]


def number_from_far(model: type[Model]) -> None:
    """New rows have keys that stand in a page for nothing else: a 40 may be the width of a field."""
    if model._meta.pk.get_internal_type().endswith("AutoField"):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT setval(name, greatest(nextval(name), 7000000)) FROM pg_get_serial_sequence(%s, %s) AS name",
                [model._meta.db_table, model._meta.pk.column],
            )


def is_in(mark: str, text: str) -> bool:
    """A key that is a number counts where it stands alone as a value or in an address."""
    return bool(re.search(rf"[/\"]{mark}[/\"]", text)) if mark.isdigit() else mark in text


def actions_of(client: Client, listing: str) -> list[str]:
    found = re.search(r'<select name="action".*?</select>', client.get(listing).content.decode(), re.DOTALL)
    return [each for each in re.findall(r'value="(\w+)"', found[0]) if each] if found else []


@pytest.mark.parametrize("model", SCOPED, ids=labels(SCOPED))
def test_autocomplete_and_redirects_tell_nothing(model: type[Model], ours: Tenant, theirs: Tenant) -> None:
    row, content_type = ROWS[model](theirs), ContentType.objects.get_for_model(model)
    for field in model._meta.concrete_fields:
        if field.is_relation:
            query = f"app_label={model._meta.app_label}&model_name={model._meta.model_name}&field_name={field.name}"
            answer = ours.in_browser.get(f"/admin/autocomplete/?{query}")
            assert not [mark for mark in theirs.marks if mark in text_of(answer)]
    assert ours.in_browser.get(f"/admin/r/{content_type.pk}/{quote(str(row.pk))}/").status_code == 404


def test_the_first_page_lists_what_the_role_opens(ours: Tenant, theirs: Tenant) -> None:
    shown = ours.in_browser.get("/admin/").content.decode()
    for model in SCOPED:
        assert f'href="{address_of(model)}"' in shown, model
    assert not [mark for mark in theirs.marks if mark in shown]
    for app in {model._meta.app_label for model in PAGES}:
        answer = ours.in_browser.get(f"/admin/{app}/")
        assert answer.status_code in {200, 404}
        assert not [mark for mark in theirs.marks if mark in text_of(answer)]


def test_rows_of_a_flows_schedule_are_shown_to_its_own_organization(ours: Tenant, theirs: Tenant) -> None:
    from django_celery_beat.models import PeriodicTask

    client = staff(["django_celery_beat.view_periodictask", "django_celery_beat.change_periodictask"], of=ours.org)
    own, row = ours.schedule(), theirs.schedule()
    listing = address_of(PeriodicTask)
    assert client.get(f"{listing}{own.pk}/change/").status_code == 200
    assert client.get(f"{listing}{row.pk}/change/").status_code == 404
    act(client, listing, "disable_tasks", row.pk)
    assert PeriodicTask.objects.get(args=row.args).enabled


@pytest.mark.parametrize("role", ["viewer", "operator", "editor"])
def test_an_action_leaves_out_rows_of_organizations_where_the_role_does_not_reach(
    role: str, ours: Tenant, theirs: Tenant
) -> None:
    """Admin in one organization, and `role` in the other: both lists are one in the admin."""
    client = staff(of=ours.org, role="admin")
    user_id = client.session["_auth_user_id"]
    Membership.objects.create(organization=theirs.org, user_id=user_id, role=role)
    own, row = ours.key(), theirs.key()
    page = client.get("/admin/headrace_workflows/accesskey/").content.decode()
    assert (str(own.pk) in page, str(row.pk) in page) == (True, False), "keys are shown to admins"
    live, foreign = ours.live_run(), theirs.live_run()
    act(client, "/admin/headrace_workflows/run/", "cancel", live.pk, foreign.pk)
    live.refresh_from_db()
    foreign.refresh_from_db()
    assert live.cancel_requested_at is not None
    assert (foreign.cancel_requested_at is not None) == (role != "viewer")
    form = {"organization": str(theirs.org.id), "name": "STOLEN", "value": "a long enough value"}
    answer = client.post("/admin/headrace_workflows/secret/add/", form, follow=True)
    assert successes(answer) == []
    assert not theirs.org.secrets.filter(name="STOLEN").exists()


def test_an_override_for_another_organization_or_for_all_is_refused(ours: Tenant, theirs: Tenant) -> None:
    add = "/admin/headrace_throttling/throttleoverride/add/"
    form = {"scope": "limit", "name": "taken", "rate_algorithm": "window", "rate_burst": 1, "concurrency": 3}
    before = theirs.fingerprint()
    for org_id in ("", str(theirs.org.id)):
        assert successes(ours.in_browser.post(add, {**form, "org_id": org_id}, follow=True)) == []
    stolen = {**form, "scope": "flow", "name": "", "flow_id": str(theirs.flow.id), "org_id": str(ours.org.id)}
    assert successes(ours.in_browser.post(add, stolen, follow=True)) == []
    assert theirs.fingerprint() == before
    assert successes(ours.in_browser.post(add, {**form, "org_id": str(ours.org.id), "weight": 50}, follow=True))
    made = ours.org.id
    from throttling.models import ThrottleOverride

    assert ThrottleOverride.objects.get(org_id=made, name="taken").weight is None
