"""Ids of events are in the order of time, also those that are made of what sends the event: lists, counts, quotas and
retention rely on it."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.utils import timezone

from tests.integration.retention.history import LONG_AGO, old_event, prune
from tests.support.by_hand import claim, end, start
from tests.support.workers import WorkerPool, publish, run_to_end
from workflows.models import Event, Organization
from workflows.models.run import first_id
from workflows.services import callbacks, system_events
from workflows.steps.callback_urls import token_of
from workflows.steps.types.publish_event import PublishEventConfig


def assert_ids_are_of_their_receipt(org: Organization, *, count: int) -> None:
    rows = list(Event.objects.filter(org_id=org.id))
    assert len(rows) == count
    for row in rows:
        early, late = (first_id((row.received_at + dt.timedelta(minutes=minutes)).timestamp()) for minutes in (-1, 1))
        assert early < row.id < late, row.name
        assert (row.id.version, row.id.variant) == (7, uuid.RFC_4122)


def test_the_ids_of_what_a_step_sends_are_of_its_time(org: Organization, workers: WorkerPool) -> None:
    events = [{"name": "shop/sold", "data": {"n": n}} for n in range(5)]
    detail = run_to_end(org, [{"id": "send", "type": "publish_event", "config": {"events": events}}])
    stored = {str(row.id): row.data["n"] for row in Event.objects.filter(org_id=org.id)}
    output = detail.steps[0].step_run.output
    assert [stored[id_] for id_ in output["eventIds"]] == list(range(5))
    assert_ids_are_of_their_receipt(org, count=5)


def test_each_try_of_a_step_sends_under_the_same_ids() -> None:
    config = PublishEventConfig.model_validate({"events": [{"name": "a"}, {"name": "a"}]})
    step_run_id = first_id(timezone.now().timestamp())
    assert config.sent(step_run_id) == config.sent(step_run_id)
    assert len({id_ for id_, _ in config.sent(step_run_id)}) == 2


def test_the_ids_of_system_events_are_of_their_time(org: Organization, published: list[object]) -> None:
    publish(
        org, [{"id": "a", "type": "noop"}], slug="listener", on=[{"event": "headrace/run.completed", "if": "false"}]
    )
    for _ in range(3):
        end(claim(start(org, [{"id": "a", "type": "noop"}]), "a"))
    system_events.emit()
    assert_ids_are_of_their_receipt(org, count=3)


def test_a_system_event_of_the_release_before_is_not_sent_again(org: Organization, published: list[object]) -> None:
    publish(
        org, [{"id": "a", "type": "noop"}], slug="listener", on=[{"event": "headrace/run.completed", "if": "false"}]
    )
    end(claim(start(org, [{"id": "a", "type": "noop"}]), "a"))
    system_events.emit()
    event = Event.objects.get(org_id=org.id)
    run_id = event.data["runId"]
    former = uuid.uuid5(system_events.NAMESPACE, f"headrace/run.completed {run_id}")
    Event.objects.filter(id=event.id).update(id=former)
    system_events.emit()
    assert Event.objects.get(org_id=org.id).id == former


def test_the_id_of_a_call_is_of_its_time(org: Organization, published: list[object]) -> None:
    run_id = start(org, [{"id": "a", "type": "noop"}])
    token = token_of(run_id, "a")
    callbacks.receive_callback(token, {})
    with pytest.raises(callbacks.CallbackUsed):
        callbacks.receive_callback(token, {})
    assert_ids_are_of_their_receipt(org, count=1)


@pytest.mark.usefixtures("published")
def test_events_whose_ids_are_of_no_time_go_by_their_receipt(org: Organization) -> None:
    low, high = uuid.UUID(int=5 << 76 | 2 << 62 | 1), uuid.UUID(int=0xF << 124 | 5 << 76 | 2 << 62 | 1)
    old_event(org, "low/new", id=low, ago=dt.timedelta(days=1))
    old_event(org, "high/new", id=high, ago=dt.timedelta(days=1))
    old_event(org, "low/old", id=uuid.UUID(int=low.int + 1))
    old_event(org, "high/old", id=uuid.UUID(int=high.int + 1), ago=LONG_AGO)
    deleted, _ = prune(org)
    assert deleted["headrace_workflows_event"] == 2
    assert set(Event.objects.filter(org_id=org.id).values_list("id", flat=True)) == {low, high}
