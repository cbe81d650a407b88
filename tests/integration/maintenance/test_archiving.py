"""Archiving, bringing back and deleting flows: by verb, REST, command and admin; what is open is named, and nobody else's
rows are touched."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from dlq.models import DeadLetter
from tests.integration.api.test_api import Api, assert_problem
from tests.support.workers import WorkerPool, await_end, await_that, publish
from throttling.models import ThrottleOverride
from workflows import services
from workflows.engine.events import receive
from workflows.engine.events.receive import NewEvent
from workflows.errors import FlowArchived, FlowBeingDeleted, FlowNotFound, NonRetriable
from workflows.models import (
    AuditEntry,
    CronFire,
    Event,
    Flow,
    FlowVersion,
    Item,
    MinuteCounts,
    Organization,
    Run,
    StepRun,
    Trigger,
)
from workflows.services import invoke as composition
from workflows.services import pauses, schedules
from workflows.services.flows import archiving, deletion
from workflows.services.flows.archiving import FlowInUse, FlowNotArchived

NOOP = {"id": "a", "type": "noop"}
SLEEP = {"id": "a", "type": "delay", "config": {"for": "1h"}}
ON = [{"cron": "0 4 * * *"}, {"event": "b26/go"}, {"webhook": "none", "name": "b26/hook"}]


def b26(org: Organization, steps: list[dict[str, Any]] | None = None, **more: Any) -> Flow:
    """Case 26."""
    publish(org, steps or [NOOP], slug="b26-delete", on=ON, **more)
    return Flow.objects.get(organization=org, slug="b26-delete")


def beat_rows(flow: Flow) -> int:
    found: int = PeriodicTask.objects.filter(name__contains=str(flow.id)).count()
    return found


def boss(org: Organization) -> Client:
    get_user_model().objects.create_superuser(f"boss-{org.slug}", password="secret")
    client = Client(raise_request_exception=False)
    client.login(username=f"boss-{org.slug}", password="secret")
    return client


def command(org: Organization, *arguments: str) -> str:
    out = io.StringIO()
    call_command("flows", *arguments, "--org", org.slug, stdout=out)
    return out.getvalue()


# --- archived -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("published")
def test_an_archived_flow_starts_nothing_and_says_so(org: Organization, api_key: str) -> None:
    flow, api = b26(org), Api(api_key)
    run_id = services.trigger(org, flow.slug).run_ids[0]
    services.cancel_run(org, run_id)
    caller = publish(org, [SLEEP], slug="caller")
    parent = services.trigger(org, caller).run_ids[0]
    hook = Trigger.objects.get(flow=flow, kind="webhook")
    archiving.archive(org, flow.slug, by="test")
    assert beat_rows(flow) == 0
    past = timezone.now() - dt.timedelta(days=2)
    Trigger.objects.filter(flow=flow).update(fires_from=past, next_fire_at=past)
    cron = Trigger.objects.get(flow=flow, kind="cron")
    assert (schedules.fire(cron.id), schedules.schedules(org), schedules.refresh(org)) == (0, [], 0)
    (event_id,) = receive.receive(org.id, [NewEvent(name="b26/go")])
    answer = Client().post(f"/hooks/{hook.token}", b"{}", content_type="application/json")
    assert_problem(answer, 410, "flow_archived", "takes no deliveries")
    assert_problem(api.post("/workflows/b26-delete/run", {}), 409, "flow_archived", "is archived and starts nothing")
    for again in ("replay", "fork"):
        answer = api.post(f"/runs/{run_id}/{again}", {"fromSteps": ["a"]} if again == "fork" else {})
        assert_problem(answer, 409, "flow_archived", "unarchive it first")
    with pytest.raises(NonRetriable, match="is archived and starts nothing"):
        composition.invoke(
            org.id, flow.slug, {}, parent=parent, on_parent_cancel="cancel", once="x", priority=None, awaited=True
        )
    assert list(Run.objects.filter(flow=flow).values_list("id", flat=True)) == [run_id]
    assert Event.objects.get(id=event_id).unheard
    slugs = [each["slug"] for each in api.get("/workflows").json()["workflows"]]
    archived = api.get("/workflows", archived="true").json()["workflows"]
    assert (slugs, [each["slug"] for each in archived]) == (["caller"], ["b26-delete"])
    assert archived[0]["archivedAt"] is not None
    assert len(archived[0]["triggers"]) == 3
    assert api.get(f"/runs/{run_id}").json()["workflow"] == "b26-delete"


def test_it_comes_back_as_it_was(org: Organization) -> None:
    flow = b26(org)
    before = {row.key: row.token for row in Trigger.objects.filter(flow=flow)}
    Trigger.objects.filter(flow=flow, kind="event").update(enabled=False)
    archiving.archive(org, flow.slug, by="test")
    archiving.archive(org, flow.slug, by="test")  # again changes nothing
    assert archiving.unarchive(org, flow.slug, by="test").archived_at is None
    rows = Trigger.objects.filter(flow=flow)
    assert {row.key: row.token for row in rows} == before
    assert [row.enabled for row in rows.order_by("position")] == [True, False, True]
    assert beat_rows(flow) == 1
    cron = rows.get(kind="cron")
    assert cron.fires_from is not None  # what it missed is not caught up
    assert cron.fires_from > timezone.now() - dt.timedelta(minutes=1)
    with pytest.raises(FlowNotArchived):
        archiving.unarchive(org, flow.slug, by="test")
    with pytest.raises(FlowNotFound):
        archiving.archive(org, "nobody", by="test")


@pytest.mark.parametrize("steps", [[NOOP], [{**NOOP, "id": "changed"}]])
def test_publishing_its_slug_brings_it_back(org: Organization, steps: list[dict[str, Any]]) -> None:
    flow = b26(org)
    archiving.archive(org, flow.slug, by="test")
    assert b26(org, steps).id == flow.id
    flow.refresh_from_db()
    assert flow.archived_at is None
    assert beat_rows(flow) == 1
    assert services.trigger(org, flow.slug).run_ids


# --- refused --------------------------------------------------------------------------------------------------------


def doors(org: Organization, api_key: str) -> list[Callable[[], str]]:
    """The verbs by REST and by command; each returns what it says."""
    api = Api(api_key)

    def rest(call: Callable[[], Any]) -> Callable[[], str]:
        def ask() -> str:
            answer = call()
            assert_problem(answer, 409, "flow_in_use", "is in use, and stays as it is")
            return str(answer.json()["detail"])

        return ask

    def command(*arguments: str) -> Callable[[], str]:
        def ask() -> str:
            with pytest.raises(CommandError) as refused:
                call_command("flows", *arguments, "--org", org.slug)
            return str(refused.value)

        return ask

    return [
        rest(lambda: api.post("/workflows/b26-delete/archive")),
        rest(lambda: api.client.delete("/api/workflows/b26-delete?history=keep")),
        rest(lambda: api.client.delete("/api/workflows/b26-delete?history=delete")),
        command("archive", "b26-delete"),
        command("delete", "b26-delete", "--history", "delete", "--yes"),
    ]


@pytest.mark.usefixtures("published")
def test_a_live_run_and_what_it_waits_for_keep_it(org: Organization, api_key: str) -> None:
    flow = b26(org, [SLEEP])
    run_id = services.trigger(org, flow.slug).run_ids[0]
    for door in doors(org, api_key):
        assert f"live runs: {run_id}" in door()
    flow.refresh_from_db()
    assert (flow.archived_at, flow.deletion_asked_at, beat_rows(flow)) == (None, None, 1)


@pytest.mark.usefixtures("published")
def test_what_refers_to_it_keeps_it(org: Organization, api_key: str) -> None:
    flow = b26(org)
    invoke = {"id": "in", "type": "invoke_flow", "config": {"flow": flow.slug}}
    each = {"id": "each", "type": "map", "config": {"items": "${ [1] }"}, "steps": [invoke]}
    publish(org, [each], slug="invoker")
    publish(org, [NOOP], slug="failing", on_failure=flow.slug)
    publish(org, [{**NOOP, "config": {"output": flow.slug}}], slug="speaker")
    publish(org, [{"id": "in", "type": "invoke_flow", "config": {"flow": flow.slug}}], slug="retired")
    archiving.archive(org, "retired", by="test")
    for door in doors(org, api_key):
        assert "(on_failure, invoke_flow): failing (version 1), invoker (version 1)." in door()
    publish(org, [NOOP], slug="failing")
    publish(org, [SLEEP, {**invoke, "needs": ["a"]}], slug="invoker")
    running = services.trigger(org, "invoker").run_ids[0]
    publish(org, [NOOP], slug="invoker")
    with pytest.raises(FlowInUse, match=r"invoker \(version 2\)"):  # a live run has that version
        archiving.archive(org, flow.slug, by="test")
    services.cancel_run(org, running)
    await_that(lambda: Run.objects.get(id=running).status == "cancelled")
    archiving.archive(org, flow.slug, by="test")


@pytest.mark.usefixtures("published")
def test_a_live_child_keeps_it(org: Organization) -> None:
    flow, child = b26(org, [SLEEP]), publish(org, [SLEEP], slug="child")
    parent = services.trigger(org, flow.slug).run_ids[0]
    made = composition.invoke(
        org.id, child, {}, parent=parent, on_parent_cancel="abandon", once="x", priority=None, awaited=False
    )
    services.cancel_run(org, parent)
    await_that(lambda: Run.objects.get(id=parent).status == "cancelled")
    with pytest.raises(FlowInUse, match=f"runs that its runs have started: {made}") as refused:
        archiving.archive(org, flow.slug, by="test")
    assert [part.ids for part in refused.value.open] == [[str(made)]]


FAILING = {"id": "a", "type": "data_transform", "config": {"script": "1/0"}, "retry": {"attempts": 1}}


def test_an_open_dead_letter_keeps_it(org: Organization, api_key: str, workers: WorkerPool) -> None:
    flow = b26(org, [FAILING])
    run_id = services.trigger(org, flow.slug).run_ids[0]
    await_end(org, run_id)
    letter = DeadLetter.objects.get(run_id=run_id)
    for door in doors(org, api_key):
        assert f"open dead letters (replay or ignore them): {letter.id}" in door()
    assert Api(api_key).post(f"/dlq/{letter.id}/ignore", {"reason": "test"}).status_code < 300
    archiving.archive(org, flow.slug, by="test")
    assert Api(api_key).get(f"/dlq/{letter.id}").status_code == 200


# --- deleted --------------------------------------------------------------------------------------------------------


def rows_of(org: Organization) -> dict[str, int]:
    """How many rows each table has of an organization."""
    counts = {}
    for model in apps.get_models():
        names = {field.name for field in model._meta.get_fields()}
        if model in {MinuteCounts, AuditEntry}:
            continue  # they are of no flow: the leader adds a minute, and each deletion an entry
        if model._meta.app_label in {"headrace_workflows", "headrace_dlq"} and "org_id" in names:
            counts[model._meta.label] = model._default_manager.filter(org_id=org.id).count()
    runs = Run.objects.filter(org_id=org.id).values("id")
    steps = StepRun.objects.filter(run_id__in=runs).values("id")
    return counts | {"items": Item.objects.filter(container_id__in=steps).count()}


def with_history(org: Organization, slug: str) -> None:
    """A flow with a bit of everything, all of it ended."""
    each = {"id": "each", "type": "map", "config": {"items": "${ [1, 2, 3] }"}, "steps": [{"id": "in", "type": "noop"}]}
    publish(org, [each], slug=slug, on=[{"event": f"{slug}/go"}, {"webhook": "none"}, {"cron": "0 4 * * *"}])
    ids = [services.trigger(org, slug, idempotency_key=str(number)).run_ids[0] for number in range(5)]
    publish(org, [FAILING], slug=slug, on=[{"event": f"{slug}/go"}], rate_limit={"limit": 1, "period": "1h"})
    receive.receive(org.id, [NewEvent(name=f"{slug}/go") for _ in range(3)])
    ids += Run.objects.filter(flow__slug=slug, org_id=org.id, trigger="event").values_list("id", flat=True)
    for run_id in ids:
        await_end(org, run_id)
    flow = Flow.objects.get(organization=org, slug=slug)
    DeadLetter.objects.filter(flow=flow).update(status="ignored")
    CronFire.objects.create(org_id=org.id, flow=flow, schedule="x", fire_at=timezone.now(), outcome="skipped")
    pauses.stop(pauses.flow(org, slug), by="test")


def test_deleting_with_history_takes_everything_of_it_and_nothing_else(
    org: Organization, api_key: str, workers: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_history(org, "kept")
    kept = rows_of(org)
    assert (
        min(kept[f"headrace_workflows.{name}"] for name in ("Run", "StepRun", "Attempt", "TriggerOutcome", "FanOut"))
        > 0
    )
    assert (
        min(
            kept["items"],
            kept["headrace_dlq.DeadLetter"],
            kept["headrace_workflows.IdempotencyKey"],
            kept["headrace_workflows.CronFire"],
        )
        > 0
    )
    with_history(org, "gone")
    flow = Flow.objects.get(organization=org, slug="gone")
    monkeypatch.setattr(deletion, "RUNS", 2)
    monkeypatch.setattr(deletion, "ROWS", 2)
    answer = Api(api_key).client.delete("/api/workflows/gone?history=delete")
    assert answer.status_code in {200, 202}, answer.content
    assert answer.json()["slug"] == "gone"
    await_that(
        lambda: not archiving.delete_rest() and not Flow.objects.filter(id=flow.id).exists(), 60, "the end of it"
    )
    left = rows_of(org)
    events_left = {
        "headrace_workflows.Event",
        "headrace_workflows.SystemFeed",
    }  # of the organization; who else listens may need them
    assert {name: n for name, n in left.items() if name not in events_left} == {
        name: n for name, n in kept.items() if name not in events_left
    }
    for model in (FlowVersion, Trigger, CronFire):
        assert not model.objects.filter(flow_id=flow.id).exists()  # type: ignore[attr-defined]
    assert not Trigger.including_removed.filter(flow_id=flow.id).exists()
    assert not ThrottleOverride.objects.filter(flow_id=flow.id).exists()
    assert beat_rows(flow) == 0
    assert pauses.stopped(org)[0]["flow"] == "kept"
    with_history(org, "gone")  # its slug is free
    assert Flow.objects.get(organization=org, slug="gone").id != flow.id


def test_deleting_goes_on_where_it_stopped(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = b26(org)
    monkeypatch.setattr(deletion, "delete_flow", lambda flow, until: False)
    removal = archiving.delete(org, flow.slug, history="delete", by="test")
    assert not removal.is_done
    for refused in (
        lambda: b26(org),
        lambda: archiving.unarchive(org, flow.slug, by="test"),
        lambda: archiving.delete(org, flow.slug, history="delete", by="test"),
    ):
        with pytest.raises(FlowBeingDeleted):
            refused()
    with pytest.raises(FlowArchived):
        services.trigger(org, flow.slug)
    monkeypatch.undo()
    await_that(lambda: archiving.go_on(flow, budget_s=1), 30, "the end of it")
    assert archiving.go_on(flow, budget_s=1)  # again is harmless
    assert not Flow.objects.filter(id=flow.id).exists()


def test_a_run_that_is_made_while_it_is_deleted_is_not_orphaned(org: Organization) -> None:
    """A transaction that was open before may still bring a run: deleting waits for its end."""
    flow = b26(org)
    url = connection.settings_dict
    import psycopg

    with psycopg.connect(
        dbname=url["NAME"], user=url["USER"], password=url["PASSWORD"], host=url["HOST"], port=url["PORT"] or None
    ) as other:
        other.execute("SELECT 1")
        assert not archiving.delete(org, flow.slug, history="delete", by="test").is_done
        assert Flow.objects.filter(id=flow.id).exists()
    await_that(lambda: archiving.go_on(flow, budget_s=1), 30, "the end of it")
