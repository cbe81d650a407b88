"""Pause, drain and resume of flows, organizations and queues."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from django.core.management import call_command

from tests.support.workers import WorkerPool, await_end, await_that, publish
from workflows import services
from workflows.engine.events import receive
from workflows.engine.events.receive import NewEvent
from workflows.engine.pipeline import admit
from workflows.errors import FlowPaused, InvalidInput, TooManyChanges
from workflows.models import Organization, Run, StepRun
from workflows.services import pauses
from workflows.services.pauses import Subject

HEARS = [{"event": "x/y"}]


def flow(org: Organization) -> str:
    return publish(org, [{"id": "a", "type": "noop"}], on=HEARS)


def send(org: Organization, number: int) -> Any:
    return receive.receive(org.id, [NewEvent(name="x/y", data={"n": number})])[0]


TWO = [{"id": "a", "type": "delay", "config": {"for": "1500ms"}}, {"id": "b", "type": "noop"}]


def test_a_paused_flow_starts_nothing_until_it_is_resumed(
    org: Organization, workers: WorkerPool, api_key: str, address: str
) -> None:
    publish(org, TWO, on=HEARS)
    headers = {"Authorization": f"Bearer {api_key}"}
    started = services.trigger(org, "flow").run_ids[0]
    await_that(lambda: StepRun.objects.get(run_id=started, key="a").status == "waiting")
    answer = httpx.post(f"{address}/api/workflows/flow/pause", headers=headers, json={"reason": "because"})
    assert (answer.status_code, answer.json()["mode"], answer.json()["reason"]) == (200, "pause", "because")
    later = services.trigger(org, "flow").run_ids[0]
    step = await_that(lambda: StepRun.objects.filter(run_id=started, key="a", status="ready").first())
    url = f"{address}/api/limits/explain?stepRun={step.id}"
    await_that(lambda: "the pause of the flow" in httpx.get(url, headers=headers).text, what="the reason")
    assert not StepRun.objects.filter(run_id=later, status="waiting").exists()
    assert [each["flow"] for each in httpx.get(f"{address}/api/pauses", headers=headers).json()] == ["flow"]
    assert httpx.post(f"{address}/api/workflows/flow/resume", headers=headers).status_code == 200
    assert [await_end(org, run_id).run.status for run_id in (started, later)] == ["completed"] * 2
    assert httpx.post(f"{address}/api/workflows/flow/resume", headers=headers).status_code == 409


def test_a_drained_flow_ends_what_has_started(org: Organization, workers: WorkerPool) -> None:
    publish(org, TWO)
    started = services.trigger(org, "flow").run_ids[0]
    await_that(lambda: StepRun.objects.get(run_id=started, key="a").status == "waiting")
    pauses.stop(pauses.flow(org, "flow"), mode="drain", by="test")
    later = services.trigger(org, "flow").run_ids[0]
    assert await_end(org, started).run.status == "completed"
    assert Run.objects.get(id=later).status == "queued"
    pauses.resume(pauses.flow(org, "flow"), by="test")
    assert await_end(org, later).run.status == "completed"


def test_what_arrives_at_a_paused_flow_is_skipped_where_that_is_asked_for(
    org: Organization, workers: WorkerPool, api_key: str, address: str
) -> None:
    flow(org)
    subject = pauses.flow(org, "flow")
    pauses.stop(subject, arrivals="skip", by="test")
    event = send(org, 1)
    with pytest.raises(FlowPaused):
        services.trigger(org, "flow")
    pauses.resume(subject, by="test")
    assert not Run.objects.filter(org_id=org.id).exists()
    seen = httpx.get(f"{address}/api/events/{event}", headers={"Authorization": f"Bearer {api_key}"}).json()
    assert [(each["workflow"], each["code"]) for each in seen["outcomes"]] == [("flow", "paused")]
    send(org, 2)
    await_end(org, Run.objects.get(org_id=org.id).id)


def test_an_organization_and_a_queue_can_be_paused(
    org: Organization, other: Organization, workers: WorkerPool, api_key: str, address: str
) -> None:
    flow(org)
    flow(other)
    pauses.stop(Subject(organization=org), by="test")
    held = services.trigger(org, "flow").run_ids[0]
    assert await_end(other, services.trigger(other, "flow").run_ids[0]).run.status == "completed"
    assert Run.objects.get(id=held).status == "queued"
    pauses.resume(Subject(organization=org), by="test")
    await_end(org, held)
    refused = httpx.post(f"{address}/api/queues/io/pause", headers={"Authorization": f"Bearer {api_key}"})
    assert refused.status_code == 403
    call_command("pauses", "pause", "--queue", "io", "--json")
    try:
        held = services.trigger(org, "flow").run_ids[0]
        await_that(lambda: StepRun.objects.get(run_id=held).waiting_for == "limit", what="the queue's pause")
    finally:
        call_command("pauses", "resume", "--queue", "io")
    await_end(org, held)


@pytest.mark.parametrize(
    ("subject", "mode", "arrivals", "problem"),
    [
        (Subject(queue="headrace.io"), "drain", "queue", "no runs to drain"),
        (Subject(queue="headrace.io"), "pause", "skip", "no arrivals of its own"),
    ],
)
def test_a_stop_that_makes_no_sense_is_refused(
    subject: Subject, mode: Any, arrivals: Any, problem: str, live_db: None
) -> None:
    with pytest.raises(InvalidInput, match=problem):
        pauses.stop(subject, mode=mode, arrivals=arrivals, by="test")
    with pytest.raises(InvalidInput, match="unknown"):
        pauses.queue("nowhere")


def test_an_organization_can_not_stop_the_others_by_pausing_again_and_again(
    org: Organization, other: Organization, workers: WorkerPool
) -> None:
    """Each change of which limits apply stops everything for a moment; what changes nothing does not."""
    flow(org)
    subject = Subject(organization=org)
    pauses.stop(subject, by="test")
    before = admit.gate().epoch()
    pauses.stop(subject, by="test")
    assert admit.gate().epoch()[0] == before[0]
    for _ in range(4):
        pauses.resume(subject, by="test")
        pauses.stop(subject, by="test")
    with pytest.raises(TooManyChanges):
        pauses.resume(subject, by="test")
    assert await_end(other, services.trigger(other, flow(other)).run_ids[0]).run.status == "completed"
