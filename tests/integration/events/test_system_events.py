"""System events: told once where somebody listens, whatever happens to the leader; and never in circles."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

import pytest
from django.db.models import F

from dlq import services as dlq
from dlq.models import DeadLetter
from tests.support.by_hand import claim, end, fail, start
from tests.support.workers import WorkerPool, await_end, await_that, publish
from workflows import services
from workflows.models import Event, Organization, Run, SystemFeed
from workflows.services import system_events

LISTENS = [{"id": "heard", "type": "noop", "config": {"output": "${ event.data }"}}]


def heard(org: Organization, name: str) -> list[dict[str, Any]]:
    return [event.data for event in Event.objects.filter(org_id=org.id, name=name).order_by("ts")]


@pytest.mark.parametrize("pattern", ["headrace/run.failed", "headrace/*"])
def test_a_flow_hears_of_the_runs_of_others(pattern: str, org: Organization, workers: WorkerPool) -> None:
    publish(org, LISTENS, slug="listener", on=[{"event": pattern, "if": "event.name == 'headrace/run.failed'"}])
    publish(org, [{"id": "a", "type": "raises", "config": {"how": "final"}}], slug="fails")
    failed = services.trigger(org, "fails").run_ids[0]
    run = await_that(lambda: Run.objects.filter(org_id=org.id, flow__slug="listener").first(), what="the listener")
    detail = await_end(org, run.id)
    said = detail.steps[0].step_run.output
    assert (said["runId"], said["workflow"], said["status"], said["error"]["message"]) == (
        str(failed), "fails", "failed", "no use",
    )  # fmt: skip
    assert Run.objects.filter(org_id=org.id).count() == 2, "the listener's own end is not told of"


def test_a_run_waits_for_the_end_of_another(org: Organization, workers: WorkerPool) -> None:
    wait = {
        "id": "wait",
        "type": "wait_for_event",
        "config": {"event": "headrace/run.completed", "if": "async.data.workflow == 'other'", "timeout": "20s"},
    }
    waiting = start(org, [wait])
    await_that(lambda: system_events._listeners(frozenset({"headrace/run.completed"})).get(org.id), what="the wait")
    publish(org, [{"id": "a", "type": "noop"}], slug="other")
    other = services.trigger(org, "other").run_ids[0]
    output = await_end(org, waiting).steps[0].step_run.output
    assert output["data"]["runId"] == str(other)


def test_each_end_is_told_once_however_often_one_looks(org: Organization, published: list[Any]) -> None:
    publish(org, LISTENS, slug="listener", on=[{"event": "headrace/run.*"}, {"event": "headrace/run.completed"}])
    runs: list[UUID] = []
    for number in range(5):
        run_id = start(org, [{"id": "a", "type": "noop"}])
        runs.append(run_id)
        end(claim(run_id, "a")) if number % 2 else fail(run_id)
    while system_events.emit():
        pass
    system_events.emit()
    SystemFeed.objects.filter(org_id=org.id).update(emitted_until=F("emitted_until") - dt.timedelta(minutes=5))
    system_events.emit()  # a leader that died before it noted how far it was
    assert sorted(each["runId"] for each in heard(org, "headrace/run.completed")) == sorted(map(str, runs[1::2]))
    assert not heard(org, "headrace/run.failed"), "nobody listens"


def test_nothing_is_stored_where_nobody_listens(org: Organization, published: list[Any]) -> None:
    run_id = start(org, [{"id": "a", "type": "noop"}])
    end(claim(run_id, "a"))
    system_events.emit()
    assert not Event.objects.filter(org_id=org.id, name__startswith="headrace/run").exists()


def test_dead_letters_and_published_flows_are_told_of(org: Organization, published: list[Any]) -> None:
    publish(org, LISTENS, slug="listener", on=[{"event": "headrace/*", "if": "false"}])
    run_id = start(org, [{"id": "a", "type": "noop"}])
    fail(run_id)
    system_events.emit()
    (told,) = heard(org, "headrace/dead_letter.created")
    assert (told["runId"], told["step"], told["category"], told["workflow"]) == (str(run_id), "a", "business", "flow")
    said = [(each["workflow"], each["version"]) for each in heard(org, "headrace/flow.published")]
    assert said == [("listener", 1), ("flow", 1)]


def test_each_failure_of_a_repaired_letter_is_told(org: Organization, published: list[Any]) -> None:
    publish(org, LISTENS, slug="listener", on=[{"event": "headrace/dead_letter.created", "if": "false"}])
    runs = [start(org, [{"id": "a", "type": "noop"}])]
    fail(runs[0])
    system_events.emit()
    letter = DeadLetter.objects.get(run_id=runs[0])
    runs.append(dlq.replay(org, letter.id, by="me").run_id or runs[0])
    fail(runs[1])
    for _ in range(2):
        system_events.emit()
    told = heard(org, "headrace/dead_letter.created")
    assert sorted(each["runId"] for each in told) == sorted(map(str, runs))
    assert {(each["deadLetterId"], each["firstRunId"]) for each in told} == {(str(letter.id), str(runs[0]))}


def test_many_ends_are_told_page_by_page(
    org: Organization, published: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_events, "PAGE", 7)
    publish(org, LISTENS, slug="listener", on=[{"event": "headrace/run.completed"}])
    slug = publish(org, [{"id": "a", "type": "noop"}])
    runs = services.trigger_many(org, slug, [{}] * 30).run_ids
    for run_id in runs:
        end(claim(run_id, "a"))
    while system_events.emit():
        pass
    assert sorted(each["runId"] for each in heard(org, "headrace/run.completed")) == sorted(map(str, runs))
