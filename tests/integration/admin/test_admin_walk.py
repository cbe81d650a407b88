"""The admin, walked as its users do: what is offered is done, what is done is true.

Every registered model, page and action is walked for four kinds of logins. A new model needs a row in `ROWS`, and a new
action a case in `ACTIONS`: without them a test fails.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any

import pytest
import uuid6
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.contrib.messages import constants
from django.db.models import Model
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from django_celery_results.models import GroupResult, TaskResult

from dlq.models import Alert, AlertChannel, AlertRule, DeadLetter, DeadLetterGroup
from tests.support.admin_site import Forms, act, said, staff, successes
from tests.support.workers import leave_nothing, publish
from throttling.models import ThrottleChange, ThrottleOverride
from workflows import services
from workflows.admin.checked import CheckedAdmin
from workflows.models import (
    AccessKey,
    Attempt,
    BulkOperation,
    CronFire,
    Event,
    EventSchema,
    FanOut,
    Flow,
    FlowVersion,
    LeaderLease,
    Organization,
    Run,
    Secret,
    Step,
    StepRun,
    Trigger,
    TriggerOutcome,
    Wait,
    Worker,
)
from workflows.services import bulk, limits, schedules

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NOOP = [{"id": "a", "type": "noop"}]
REGISTRY: dict[type[Model], Any] = dict(admin.site._registry)


class World:
    """An organization with one of everything."""

    def __init__(self) -> None:
        self.org = Organization.objects.create(slug=f"walk-{uuid.uuid4().hex[:10]}", name="Walk")
        publish(self.org, NOOP, slug="walked", on=[{"cron": "7 3 * * *"}, {"event": "walk/x"}])
        self.flow = Flow.objects.get(organization=self.org, slug="walked")
        self.run_id = services.trigger(self.org, "walked", delay="1h").run_ids[0]

    def ended_run(self) -> Run:
        run_id = services.trigger(self.org, "walked", delay="1h").run_ids[0]
        services.cancel_run(self.org, run_id)
        return Run.objects.exclude(ended_at=None).get(id=run_id)

    def live_run(self) -> Run:
        return Run.objects.get(id=services.trigger(self.org, "walked", delay="1h").run_ids[0])

    def letter(self, status: str = "failed") -> DeadLetter:
        group = DeadLetterGroup.objects.create(
            id=uuid.uuid4(), org_id=self.org.id, fingerprint=uuid.uuid4().hex, step_type="noop", category="business",
            message="m", first_seen=NOW,
        )  # fmt: skip
        run_id = self.ended_run().id
        return DeadLetter.objects.create(
            org_id=self.org.id, group=group, flow=self.flow, run_id=run_id, first_run_id=run_id, place="a", step_key="a",
            step_type="noop", category="business", error_message="m", failed_at=NOW, created_at=NOW, event_data={},
            status=status,
        )  # fmt: skip

    def operation(self, status: str = "running") -> BulkOperation:
        made = bulk.start(self.org, "cancel_runs", {"status": "waiting"}, by="me")
        BulkOperation.objects.filter(id=made.id).update(
            status=status, ended_at=timezone.now() if status == "completed" else None
        )
        return BulkOperation.objects.get(id=made.id)

    def key(self, *, revoked: bool = False) -> AccessKey:
        row = AccessKey.issue(self.org, "api", "walk")[0]
        AccessKey.objects.filter(id=row.id).update(revoked_at=NOW if revoked else None)
        return AccessKey.objects.get(id=row.id)

    def task(self, *, enabled: bool = True) -> PeriodicTask:
        every, _ = IntervalSchedule.objects.get_or_create(every=977, period="days")
        return PeriodicTask.objects.create(
            name=f"walk {uuid.uuid4().hex}", task="headrace.evaluate_alerts", interval=every, enabled=enabled
        )

    def schedule(self, *, enabled: bool = True) -> PeriodicTask:
        """The row of a flow's schedule."""
        slug = f"nightly-{uuid.uuid4().hex[:8]}"
        publish(self.org, NOOP, slug=slug, on={"cron": "*/5 * * * *"})
        trigger = Trigger.objects.get(flow__slug=slug)
        schedules.switch(trigger, enabled=enabled)
        return PeriodicTask.objects.get(args=f'["{trigger.id}"]')


def _override(world: World) -> ThrottleOverride:
    """Of all organizations: one may change its own only so often."""
    row = ThrottleOverride(scope="limit", name=f"walk-{uuid.uuid4().hex[:8]}", concurrency=5)
    return limits.put_limit(row, by="walk")


def _change(world: World) -> ThrottleChange:
    _override(world)
    found = ThrottleChange.objects.first()  # the latest
    assert found is not None
    return found


def _step_run(world: World) -> StepRun:
    return StepRun.objects.filter(run_id=world.run_id)[0]


def _attempt(world: World) -> Attempt:
    step = _step_run(world)
    return Attempt.objects.create(
        id=uuid6.uuid7(), org_id=world.org.id, run_id=step.run_id, step_run_id=step.id, number=1, status="completed",
        ready_at=NOW, started_at=NOW, ended_at=NOW,
    )  # fmt: skip


def _channel(world: World) -> AlertChannel:
    row = AlertChannel(name=f"walk-{uuid.uuid4().hex[:8]}", org_id=world.org.id, enabled=False)
    row.url = "json://127.0.0.1:1/x"
    row.save()
    return row


def _secret(world: World) -> Secret:
    row = Secret(organization=world.org, name=f"W{uuid.uuid4().hex[:8]}")
    row.value = "a long enough value"
    row.save()
    return row


def _alert(world: World) -> Alert:
    return Alert.objects.create(
        org_id=world.org.id, rule=AlertRule.objects.get(name="zombies"), severity="info", title="t", message="m",
        fired_at=NOW, seen_at=NOW, recovered_at=NOW,
    )  # fmt: skip


def _wait(world: World) -> Wait:
    return Wait.objects.create(
        org_id=world.org.id, run_id=world.run_id, step_run_id=uuid.uuid4(), kind="approval", options={}, since=NOW,
        created_at=NOW,
    )  # fmt: skip


def _worker(_: World) -> Worker:
    return Worker.objects.create(
        id=uuid.uuid4(), name="walk", queues=["headrace.io"], slots=1, active=0, unclaimed=0, started_at=NOW,
        seen_at=NOW,
    )  # fmt: skip


ROWS: dict[type[Model], Callable[[World], Any]] = {
    User: lambda _: User.objects.create_user(f"walk-{uuid.uuid4().hex[:8]}"),
    Group: lambda _: Group.objects.create(name=f"walk-{uuid.uuid4().hex[:8]}"),
    TaskResult: lambda _: TaskResult.objects.create(task_id=uuid.uuid4().hex, status="SUCCESS"),
    GroupResult: lambda _: GroupResult.objects.create(group_id=uuid.uuid4().hex, date_created=NOW, date_done=NOW),
    PeriodicTask: lambda world: world.task(),
    CrontabSchedule: lambda _: CrontabSchedule.objects.create(minute="59", hour="23", day_of_month="31"),
    IntervalSchedule: lambda _: IntervalSchedule.objects.create(every=976, period="days"),
    SolarSchedule: lambda _: SolarSchedule.objects.get_or_create(event="sunset", latitude=1, longitude=2)[0],
    ClockedSchedule: lambda _: ClockedSchedule.objects.create(clocked_time=NOW),
    Organization: lambda world: world.org,
    AccessKey: lambda world: world.key(),
    Secret: _secret,
    Flow: lambda world: world.flow,
    FlowVersion: lambda world: world.flow.versions.get(),
    Step: lambda world: Step.objects.get(version__flow=world.flow),
    Trigger: lambda world: world.flow.triggers.filter(kind="cron").get(),
    CronFire: lambda world: CronFire.objects.create(
        org_id=world.org.id, flow=world.flow, schedule=f"walk {uuid.uuid4()}", fire_at=NOW, outcome="missed"
    ),
    EventSchema: lambda world: EventSchema.objects.create(
        organization=world.org, name=f"walk/{uuid.uuid4().hex[:8]}", schema={"type": "object"}
    ),
    Run: lambda world: Run.objects.get(id=world.run_id),
    StepRun: _step_run,
    Attempt: _attempt,
    Event: lambda world: Event.objects.create(org_id=world.org.id, name="walk/y", data={}, ts=NOW, matched_at=NOW),
    Worker: _worker,
    LeaderLease: lambda _: LeaderLease.objects.create(name=f"walk-{uuid.uuid4().hex[:8]}", holder=uuid.uuid4(), expires_at=NOW),
    Wait: _wait,
    FanOut: lambda world: FanOut.objects.create(
        org_id=world.org.id, run_id=world.run_id, step_run_id=uuid.uuid4(), kind="map", total=1, open=0, ended=1,
        failed=0, parallelism=1, body_sinks=1, changed_at=NOW,
    ),
    TriggerOutcome: lambda world: TriggerOutcome.objects.create(
        id=uuid6.uuid7(), org_id=world.org.id, flow_id=world.flow.id, code="paused", reason="r", created_at=NOW
    ),
    ThrottleOverride: _override,
    ThrottleChange: _change,
    BulkOperation: lambda world: world.operation("stopped"),
    DeadLetter: lambda world: world.letter(),
    DeadLetterGroup: lambda world: world.letter().group,
    AlertRule: lambda world: AlertRule.objects.create(
        name=f"walk-{uuid.uuid4().hex[:8]}", metric="zombies", threshold=1_000_000, org_id=world.org.id
    ),
    AlertChannel: _channel,
    Alert: _alert,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(live_db: None) -> Iterator[World]:
    made = World()
    yield made
    leave_nothing(made.org)
    ThrottleOverride.objects.filter(name__startswith="walk-").delete()
    PeriodicTask.objects.filter(name__startswith="walk ").delete()
    LeaderLease.objects.filter(name__startswith="walk-").delete()
    Worker.objects.filter(name="walk").delete()
    for model in (Wait, FanOut, Alert, AlertChannel, AlertRule):
        model._default_manager.filter(org_id=made.org.id).delete()


def address_of(model: type[Model]) -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/"


def permissions_of(model: type[Model], *verbs: str) -> list[str]:
    return [f"{model._meta.app_label}.{verb}_{model._meta.model_name}" for verb in verbs]


def login(kind: str, model: type[Model]) -> Client:
    """`all`: everything with this model, and nothing with any other."""
    verbs = {"view": ("view",), "change": ("view", "change"), "all": ("view", "add", "change", "delete")}
    return staff(permissions_of(model, *verbs.get(kind, ())), superuser=kind == "superuser")


MODELS = sorted(REGISTRY, key=lambda model: model._meta.label)
LABELS = [model._meta.label for model in MODELS]
KINDS = ["superuser", "view", "change", "all"]


def test_every_model_of_the_admin_is_walked() -> None:
    assert set(REGISTRY) == set(ROWS), "a row for each registered model belongs in ROWS"
    for model, page in REGISTRY.items():
        assert isinstance(page, CheckedAdmin), f"the page of {model._meta.label} is no CheckedAdmin"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS, ids=LABELS)
def test_what_a_page_offers_is_done(model: type[Model], kind: str, world: World) -> None:
    row, client, listing = ROWS[model](world), login(kind, model), address_of(model)
    list_page = client.get(listing)
    assert list_page.status_code == 200
    if kind == "superuser":
        _walk_list(client, listing, list_page.content.decode(), REGISTRY[model])

    offered = f'href="{listing}add/"' in list_page.content.decode()
    assert client.get(f"{listing}add/").status_code == (200 if offered else 403)

    change = f"{listing}{admin.utils.quote(row.pk)}/change/"
    page = client.get(change)
    assert page.status_code == 200, page.content[:300]
    assert client.get(f"{listing}{admin.utils.quote(row.pk)}/history/").status_code == 200
    form = Forms(page.content.decode(), f"{model._meta.model_name}_form")
    if "_save" in form.buttons:
        answer = client.post(change, {**form.data, "_save": "Save"}, follow=True)
        assert successes(answer) == [], "nothing was changed"
        assert kind != "view"
    else:
        assert client.post(change, {"_save": "Save"}).status_code == 403

    delete = f"{listing}{admin.utils.quote(row.pk)}/delete/"
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
    answer = act(boss, listing, name, row.pk)
    assert all(level in {constants.SUCCESS, constants.INFO} for level, _ in said(answer)), said(answer)
    assert said(answer)
    assert case.done(row)


@pytest.mark.parametrize("model", MODELS, ids=LABELS)
def test_who_may_only_look_is_offered_no_action(model: type[Model], world: World) -> None:
    ROWS[model](world)
    assert actions_of(login("view", model), model) == []


@pytest.mark.parametrize("kind", ["superuser", "all"])
@pytest.mark.parametrize("model", MODELS, ids=LABELS)
def test_deleting_the_selected_rows_deletes_them_or_says_why_not(model: type[Model], kind: str, world: World) -> None:
    client, row = login(kind, model), ROWS[model](world)
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
    client = login("change", PeriodicTask)
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
    assert "No new version" in said(answer)[0][1]
    answer = boss.post(change, {**form, "definition": same.replace("id: a", "id: c")}, follow=True)
    assert "Version 2 published." in successes(answer)


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
