"""The admin, walked as its users do: what is offered is done, what is done is true.

Every registered model, page and action is walked for four kinds of logins. A new model needs a row in `ROWS`, and a new
action a case in `ACTIONS`: without them a test fails.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.messages import constants
from django.db.models import Model
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import (
    CrontabSchedule,
    PeriodicTask,
)

from dlq.models import AlertRule, DeadLetter
from tests.integration.admin.world import (
    KINDS,
    LABELS,
    MODELS,
    NOOP,
    NOW,
    REGISTRY,
    ROWS,
    World,
    address_of,
    login,
)
from tests.support.admin_site import Forms, act, said, staff, successes
from tests.support.workers import publish
from throttling.models import ThrottleOverride
from workflows.admin.checked import CheckedAdmin
from workflows.models import (
    AccessKey,
    AuditEntry,
    BulkOperation,
    Flow,
    Run,
    Trigger,
)
from workflows.services import limits, schedules


def test_every_model_of_the_admin_is_walked() -> None:
    assert set(REGISTRY) == set(ROWS), "a row for each registered model belongs in ROWS"
    for model, page in REGISTRY.items():
        assert isinstance(page, CheckedAdmin), f"the page of {model._meta.label} is no CheckedAdmin"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS, ids=LABELS)
def test_what_a_page_offers_is_done(model: type[Model], kind: str, world: World) -> None:
    row, client, listing = ROWS[model](world), login(kind, model, world), address_of(model)
    list_page = client.get(listing)
    assert list_page.status_code == 200
    if kind == "superuser":
        _walk_list(client, listing, list_page.content.decode(), REGISTRY[model])

    offered = f'href="{listing}add/"' in list_page.content.decode()
    assert client.get(f"{listing}add/").status_code == (200 if offered else 403)

    change = f"{listing}{quote(row.pk)}/change/"
    page = client.get(change)
    assert page.status_code == 200, page.content[:300]
    assert client.get(f"{listing}{quote(row.pk)}/history/").status_code == 200
    form = Forms(page.content.decode(), f"{model._meta.model_name}_form")
    if "_save" in form.buttons:
        answer = client.post(change, {**form.data, "_save": "Save"}, follow=True)
        assert successes(answer) == [], "nothing was changed"
        assert kind != "view"
    else:
        assert client.post(change, {"_save": "Save"}).status_code == 403

    delete = f"{listing}{quote(row.pk)}/delete/"
    confirm = client.get(delete)
    if 'class="deletelink"' in page.content.decode():
        assert confirm.status_code == 200
        assert 'name="post"' in confirm.content.decode(), "offered, and refused when it is asked for"
        assert successes(client.post(delete, {"post": "yes"}, follow=True))
        assert not model._default_manager.filter(pk=row.pk).exists()
    else:
        assert confirm.status_code == 403
        assert client.post(delete, {"post": "yes"}).status_code == 403
        assert model._default_manager.filter(pk=row.pk).exists()


def _walk_list(client: Client, listing: str, page: str, registered: Any) -> None:
    """Every link of the filters and columns, and the search."""
    links = {unescape(found) for found in re.findall(r'href="(\?[^"]*)"', page)}
    links.update(f"?o={number}" for number in range(1, len(registered.list_display) + 1))
    links.update(["?q=x", "?q=%F0%9F%92%A9"] if registered.search_fields else [])
    for link in sorted(links)[:15]:
        answer = client.get(f"{listing}{link}", follow=True)
        assert answer.status_code == 200, link
        assert "e=1" not in str(answer.redirect_chain), link


def actions_of(client: Client, model: type[Model]) -> list[str]:
    form = Forms(client.get(address_of(model)).content.decode(), "changelist-form")
    return [each for each in form.options.get("action", []) if each]


@dataclass(frozen=True, kw_only=True)
class Action:
    """`idle` makes a row to which nothing can be done; `able` one to which it can, and `done` says whether it was."""

    idle: Callable[[World], Any] | None
    able: Callable[[World], Any]
    done: Callable[[Any], bool]


def _now(row: Any) -> Any:
    return type(row)._default_manager.get(pk=row.pk)


def _run_asked(run: Run) -> bool:
    return _now(run).cancel_requested_at is not None


def _is_repeated(run: Run) -> bool:
    return Run.objects.filter(origin_id=run.id).exists()


def _has_status(*wanted: str) -> Callable[[Any], bool]:
    return lambda row: _now(row).status in wanted


def _trigger_of(row: PeriodicTask) -> Trigger:
    found = schedules.trigger_of(row)
    assert found is not None
    return found


ACTIONS: dict[tuple[type[Model], str], Action] = {
    (Run, "cancel"): Action(idle=World.ended_run, able=World.live_run, done=_run_asked),
    (Run, "replay"): Action(idle=World.live_run, able=World.ended_run, done=_is_repeated),
    (Run, "resume"): Action(idle=World.live_run, able=World.ended_run, done=_is_repeated),
    (AccessKey, "revoke"): Action(
        idle=lambda world: world.key(revoked=True), able=World.key, done=lambda row: _now(row).revoked_at is not None
    ),
    (AccessKey, "rotate"): Action(
        idle=lambda world: world.key(revoked=True), able=World.key, done=lambda row: row.successors.count() == 1
    ),
    (BulkOperation, "stop"): Action(
        idle=lambda world: world.operation("completed"), able=World.operation, done=_has_status("stopped")
    ),
    (BulkOperation, "resume"): Action(
        idle=lambda world: world.operation("completed"),
        able=lambda world: world.operation("stopped"),
        done=_has_status("running", "completed"),
    ),
    (DeadLetter, "replay"): Action(
        idle=lambda world: world.letter("ignored"), able=World.letter, done=_has_status("reprocessed")
    ),
    (DeadLetter, "resume"): Action(
        idle=lambda world: world.letter("ignored"), able=World.letter, done=_has_status("reprocessed")
    ),
    (DeadLetter, "ignore"): Action(
        idle=lambda world: world.letter("ignored"), able=World.letter, done=_has_status("ignored")
    ),
    (DeadLetter, "reopen"): Action(
        idle=World.letter, able=lambda world: world.letter("ignored"), done=_has_status("failed")
    ),
    (PeriodicTask, "enable_tasks"): Action(
        idle=World.task, able=lambda world: world.task(enabled=False), done=lambda row: _now(row).enabled
    ),
    (PeriodicTask, "disable_tasks"): Action(
        idle=lambda world: world.task(enabled=False), able=World.task, done=lambda row: not _now(row).enabled
    ),
    (PeriodicTask, "toggle_tasks"): Action(idle=None, able=World.task, done=lambda row: not _now(row).enabled),
    (PeriodicTask, "run_tasks"): Action(idle=World.schedule, able=World.task, done=lambda _: True),
}


ASKS_FIRST = {
    *((model, f"{verb}_once_more") for model in (Run, DeadLetter) for verb in ("replay", "resume")),
    *((Flow, verb) for verb in ("archive", "unarchive", "delete_with_history")),
}
"""Walked with their pages of confirmation in test_repair_once and test_archiving."""


@pytest.mark.usefixtures("live_db")
def test_every_action_of_the_admin_is_tried() -> None:
    boss = staff(superuser=True)
    offered = {(model, name) for model in REGISTRY for name in actions_of(boss, model)}
    assert {each for each in offered if each[1] != "delete_selected"} == set(ACTIONS) | ASKS_FIRST


CASES = list(ACTIONS)


@pytest.mark.parametrize(("model", "name"), CASES, ids=[f"{model._meta.label} {name}" for model, name in CASES])
def test_an_action_says_what_it_did(model: type[Model], name: str, world: World) -> None:
    boss, listing, case = staff(superuser=True), address_of(model), ACTIONS[model, name]
    gone = uuid.uuid4() if model._meta.pk.get_internal_type() == "UUIDField" else 2_000_000_000
    answer = act(boss, listing, name, gone)
    assert (successes(answer), len(said(answer))) == ([], 1), "the row is gone"
    if case.idle is not None:
        row = case.idle(world)
        answer = act(boss, listing, name, row.pk)
        assert successes(answer) == [], "there was nothing to do"
        assert [level for level, _ in said(answer)] == [constants.WARNING]
    row = case.able(world)
    entries = AuditEntry.objects.filter(verb=f"admin.{model._meta.model_name}.{name}")
    before = entries.count()
    answer = act(boss, listing, name, row.pk)
    assert entries.count() == before + 1, "it is not in the audit log"
    assert all(level in {constants.SUCCESS, constants.INFO} for level, _ in said(answer)), said(answer)
    assert said(answer)
    assert case.done(row)


@pytest.mark.parametrize("model", MODELS, ids=LABELS)
def test_who_may_only_look_is_offered_no_action(model: type[Model], world: World) -> None:
    ROWS[model](world)
    assert actions_of(login("view", model, world), model) == []


@pytest.mark.parametrize("kind", ["superuser", "all"])
@pytest.mark.parametrize("model", MODELS, ids=LABELS)
def test_deleting_the_selected_rows_deletes_them_or_says_why_not(model: type[Model], kind: str, world: World) -> None:
    client, row = login(kind, model, world), ROWS[model](world)
    if "delete_selected" not in actions_of(client, model):
        assert successes(act(client, address_of(model), "delete_selected", row.pk)) == []
        return
    answer = act(client, address_of(model), "delete_selected", row.pk)
    if b"Are you sure" in answer.content:
        sent = {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"}
        assert successes(client.post(address_of(model), sent, follow=True))
        assert not model._default_manager.filter(pk=row.pk).exists()
    else:
        assert [level for level, _ in said(answer)] == [constants.WARNING]
        assert model._default_manager.filter(pk=row.pk).exists()


# --- what the project keeps rows of beat for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "before"), [("disable_tasks", True), ("toggle_tasks", True), ("enable_tasks", False)]
)
def test_the_schedule_of_a_flow_is_switched_with_its_trigger(action: str, before: bool, world: World) -> None:
    row = world.schedule(enabled=before)
    trigger = _trigger_of(row)
    late = timezone.now() + dt.timedelta(minutes=11)
    boss, listing = staff(superuser=True), address_of(PeriodicTask)
    assert successes(act(boss, listing, action, row.pk))
    trigger.refresh_from_db()
    assert trigger.enabled is not before
    assert PeriodicTask.objects.get(args=row.args).enabled is not before
    assert bool(schedules.fire(trigger.id, late)) is not before
    again = PeriodicTask.objects.get(args=row.args)
    if action != "toggle_tasks":
        assert successes(act(boss, listing, action, again.pk)) == []


def test_the_schedule_of_a_flow_takes_the_permission_on_triggers(world: World) -> None:
    row = world.schedule()
    client = login("change", PeriodicTask, world)
    assert successes(act(client, address_of(PeriodicTask), "disable_tasks", row.pk)) == []
    assert _trigger_of(row).enabled


def test_what_would_come_back_is_neither_changed_nor_deleted(world: World) -> None:
    boss = staff(superuser=True)
    row = world.schedule()
    shipped = PeriodicTask.objects.get(task="headrace.evaluate_alerts", name__startswith="headrace")
    for task in (row, shipped):
        page = boss.get(f"{address_of(PeriodicTask)}{task.pk}/change/").content.decode()
        assert 'class="deletelink"' not in page
        assert ('name="_save"' in page) == (task is shipped)
    crontab = boss.get(f"{address_of(CrontabSchedule)}{row.crontab_id}/change/").content.decode()
    assert ('class="deletelink"' in crontab, 'name="_save"' in crontab) == (False, False)
    rule = AlertRule.objects.get(name="dead-letters")
    assert 'class="deletelink"' not in boss.get(f"{address_of(AlertRule)}{rule.pk}/change/").content.decode()
    answer = act(boss, address_of(AlertRule), "delete_selected", rule.pk)
    assert [level for level, _ in said(answer)] == [constants.WARNING]


# --- flows -------------------------------------------------------------------------------------------------------------


def test_a_new_flow_does_not_publish_over_another(world: World) -> None:
    boss, before = staff(superuser=True), Flow.objects.get(id=world.flow.id).current
    sent = {"organization": str(world.org.id), "definition": "flow: walked\nsteps: [{id: b, type: noop}]"}
    answer = boss.post(
        f"{address_of(Flow)}add/", {**_inline_counts(boss, f"{address_of(Flow)}add/"), **sent}, follow=True
    )
    assert successes(answer) == []
    assert "There is a flow" in unescape(answer.content.decode())
    assert Flow.objects.get(id=world.flow.id).current == before


def test_saving_a_flow_says_what_was_published(world: World) -> None:
    slug = f"saved-{uuid.uuid4().hex[:8]}"
    publish(world.org, NOOP, slug=slug)
    flow = Flow.objects.get(organization=world.org, slug=slug)
    boss, change = staff(superuser=True), f"{address_of(Flow)}{flow.pk}/change/"
    form = _inline_counts(boss, change)
    same = f"# a comment\nflow: {slug}\nsteps:\n- {{id: a, type: noop}}\n"
    answer = boss.post(change, {**form, "definition": same}, follow=True)
    assert successes(answer) == []
    assert "no version is made" in said(answer)[0][1]
    answer = boss.post(change, {**form, "definition": same.replace("id: a", "id: c")}, follow=True)
    assert "Version 2 is published: new runs take it." in successes(answer)


def _inline_counts(client: Client, address: str) -> dict[str, list[str]]:
    return Forms(client.get(address).content.decode(), "flow_form").data


def test_a_verb_that_refuses_a_form_is_a_message(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CHANGES", 0)
    boss = staff(superuser=True)
    sent = {"scope": "limit", "name": "walk-refused", "org_id": str(world.org.id), "rate_algorithm": "window",
            "rate_burst": 1, "concurrency": 3}  # fmt: skip
    answer = boss.post(f"{address_of(ThrottleOverride)}add/", sent, follow=True)
    assert [level for level, _ in said(answer)] == [constants.ERROR]
    assert not ThrottleOverride.objects.filter(name="walk-refused").exists()


def test_a_schedule_that_is_saved_unchanged_goes_on_where_it_was(world: World) -> None:
    trigger = _trigger_of(world.schedule())
    Trigger.objects.filter(id=trigger.id).update(fires_from=NOW)
    boss, change = staff(superuser=True), f"{address_of(Trigger)}{trigger.pk}/change/"
    form = Forms(boss.get(change).content.decode(), "trigger_form")
    boss.post(change, form.data)
    trigger.refresh_from_db()
    assert trigger.fires_from == NOW
