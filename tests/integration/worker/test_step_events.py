"""What monitors of Celery events are told: received here as Flower does, from real workers over the real broker."""

from __future__ import annotations

import re
import socket
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from celery import current_app
from kombu.connection import Connection
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.support.workers import WorkerPool, await_end, await_that, publish, run_to_end
from workflows import services
from workflows.engine.state.records import Claim
from workflows.engine.telemetry import step_events
from workflows.models import Organization, Secret, StepRun, Wait
from workflows.services import approvals
from workflows.services.approvals import Decider


class Listener:
    """Every task event since it was started, by task."""

    def __init__(self) -> None:
        self.by_task: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._ready, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        assert self._ready.wait(10)

    def _listen(self) -> None:
        with current_app.connection() as connection:
            receiver = current_app.events.Receiver(connection, handlers={"*": self._note})
            with receiver.consumer_context() as (own, _, _):
                self._ready.set()
                while not self._stopping.is_set():
                    try:
                        own.drain_events(timeout=0.2)
                    except TimeoutError:
                        continue

    def _note(self, event: dict[str, Any]) -> None:
        if event["type"].startswith("task-"):
            self.by_task[event["uuid"]].append(event)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def kinds(self, step_run_id: UUID) -> list[str]:
        return [event["type"].removeprefix("task-") for event in list(self.by_task[str(step_run_id)])]

    def of_run(self, run_id: UUID) -> dict[str, list[dict[str, Any]]]:
        return {id_: events for id_, events in list(self.by_task.items()) if str(run_id) in events[0].get("args", "")}


@pytest.fixture
def heard() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.stop()


def ids(run_id: UUID) -> dict[str, UUID]:
    return dict(StepRun.objects.filter(run_id=run_id).values_list("key", "id"))


WHOLE = ["received", "started", "succeeded"]


def test_five_steps_are_five_tasks_of_their_types(org: Organization, workers: WorkerPool, heard: Listener) -> None:
    steps = [
        {"id": "a", "type": "noop", "config": {"output": {"n": 1}}},
        {"id": "b", "type": "data_transform", "config": {"expression": "{'n': 2}"}},
        {"id": "c", "type": "code_execution", "config": {"code": "return 3"}},
        {"id": "d", "type": "delay", "config": {"for": "50ms"}},
        {"id": "e", "type": "noop"},
    ]
    run = run_to_end(org, steps, slug="five").run
    of_step = ids(run.id)
    # Those of two processes come in any order.
    await_that(lambda: all("succeeded" in heard.kinds(id_) for id_ in of_step.values()), 10, "the last events")
    assert {key: heard.kinds(id_) for key, id_ in of_step.items()} == dict.fromkeys("abcde", WHOLE)
    mine = heard.of_run(run.id)
    assert set(mine) == {str(id_) for id_ in of_step.values()}
    received = {key: heard.by_task[str(id_)][0] for key, id_ in of_step.items()}
    types = {step["id"]: step["type"] for step in steps}
    assert {key: event["name"] for key, event in received.items()} == types
    assert received["a"]["args"] == repr(("five", str(run.id), "a"))
    ended = heard.by_task[str(of_step["a"])][-1]
    assert (ended["result"], ended["runtime"] >= 0) == ('{"n":1}', True)
    hosts = {key: event["hostname"] for key, event in received.items()}  # such as io0-675@vm
    assert re.match(r"io\d", hosts["a"])
    assert re.match(r"compute\d", hosts["c"])
    assert not any(event["name"].startswith("workflows.") for events in mine.values() for event in events[:1])


def test_steps_of_a_batch_are_tasks_each(org: Organization, workers: WorkerPool, heard: Listener) -> None:
    slug = publish(org, [{"id": key, "type": "noop"} for key in "abcde"])
    run_ids = services.trigger_many(org, slug, [{}] * 60).run_ids
    for run_id in run_ids:
        await_end(org, run_id)
    wanted = {str(id_) for id_ in StepRun.objects.filter(run_id__in=run_ids).values_list("id", flat=True)}
    assert len(wanted) == 300
    await_that(lambda: all(heard.kinds(UUID(id_)) == WHOLE for id_ in wanted), 15, "every step's events")
    others = [events[0] for id_, events in heard.by_task.items() if id_ not in wanted]
    assert [event for event in others if "workflows.steps" in event.get("name", "")] == [], "no message is counted"


def test_a_retry_is_the_same_task_and_a_failure_says_why(
    org: Organization, workers: WorkerPool, heard: Listener
) -> None:
    failing = "if attempt < 2:\n    raise ValueError('not yet')\nreturn attempt"
    retry = {"delay": "50ms", "attempts": 2}
    run = run_to_end(org, [
        {"id": "unsteady", "type": "data_transform", "retry": retry, "config": {"script": failing}},
        {"id": "skipped", "type": "noop", "if": "false", "needs": []},
        {"id": "broken", "type": "data_transform", "retry": {"attempts": 1}, "needs": ["unsteady"],
         "config": {"script": f"raise ValueError('{'x' * 1_000}')"}},
    ]).run  # fmt: skip
    of_step = ids(run.id)
    await_that(lambda: "failed" in heard.kinds(of_step["broken"]), 10, "the failure")
    assert heard.kinds(of_step["unsteady"]) == ["received", "started", "retried", *WHOLE]
    first, second = (event for event in heard.by_task[str(of_step["unsteady"])] if event["type"] == "task-received")
    assert (first["retries"], second["retries"]) == (0, 1)
    assert "not yet" in heard.by_task[str(of_step["unsteady"])][2]["exception"]
    assert heard.kinds(of_step["broken"]) == ["received", "started", "failed"]
    assert len(heard.by_task[str(of_step["broken"])][-1]["exception"]) == step_events.MAX_CHARACTERS


def test_a_secret_is_in_no_event(
    org: Organization, workers: WorkerPool, heard: Listener, httpserver: HTTPServer
) -> None:
    secret = f"secret-{uuid.uuid4().hex}"
    row = Secret(organization=org, name="TOKEN")
    row.value = secret
    row.save()

    def echo(request: Request) -> Response:
        sent = request.headers["authorization"]
        return Response(f"you sent {sent}", 400 if request.path == "/bad" else 200, headers={"a": sent})

    httpserver.expect_request("/good").respond_with_handler(echo)
    httpserver.expect_request("/bad").respond_with_handler(echo)
    headers = {"authorization": "Bearer ${ secrets.TOKEN }"}
    steps: list[dict[str, Any]] = [
        {"id": name, "type": "http_request", "critical": False, "retry": {"attempts": 1}, "needs": [],
         "config": {"url": httpserver.url_for(f"/{name}"), "headers": headers}}
        for name in ("good", "bad")
    ]  # fmt: skip
    of_step = ids(run_to_end(org, steps).run.id)
    await_that(lambda: "succeeded" in heard.kinds(of_step["good"]), 10, "success")
    await_that(lambda: "failed" in heard.kinds(of_step["bad"]), 10, "failure")
    told = [str(heard.by_task[str(id_)]) for id_ in of_step.values()]
    assert all("***" in text and secret not in text for text in told), told


def test_what_ends_beside_the_workers_ends_as_a_task_too(
    org: Organization, workers: WorkerPool, heard: Listener
) -> None:
    """A decision is recorded by the web, which tells in the name of a worker."""
    slug = publish(org, [{"id": "ask", "type": "wait_for_approval", "config": {"title": "Go on?"}}])
    run_id = services.trigger(org, slug, {}).run_ids[0]
    wait = await_that(lambda: Wait.objects.filter(org_id=org.id).first(), 20, "the wait")
    (step_id,) = ids(run_id).values()
    await_that(lambda: heard.kinds(step_id) == ["received", "started"], 10, "it waits")
    step_events.start_beside_workers()
    try:
        approvals.decide(org, wait.step_run_id, approve=True, by=Decider(name="me", roles=frozenset()))
        await_end(org, run_id)
    finally:
        step_events.stop()
    await_that(lambda: heard.kinds(step_id) == WHOLE, 10, "its end")
    first, *_, last = heard.by_task[str(step_id)]
    assert (last["hostname"], last["name"]) == (first["hostname"], "wait_for_approval")


def a_claim() -> Claim:
    some = uuid.uuid4()
    return Claim(
        id=uuid.uuid4(), run_id=some, version_id=some, org_id=some, key="a", attempt=1, wake_seq=0, losses=0,
        server_retry_waits=0, timeout_ms=1, queue="headrace.io", all_needs_skipped=False, lease=some, type="noop",
    )  # fmt: skip


def test_a_broker_that_is_away_holds_nobody_up(heard: Listener, caplog: pytest.LogCaptureFixture) -> None:
    """Events are kept to a bound, dropped beyond it, and counted; the log says so once. They are sent when it is back."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"redis://127.0.0.1:{closed.getsockname()[1]}/0"
    brokers = [nobody]
    connection: Any = Connection
    sender = step_events.Sender(lambda: "io@test", connect=lambda: connection(brokers[-1]))
    claims = [a_claim() for _ in range(step_events.MAX_BUFFERED + 10)]
    sender.add([step_events.StepEvent("received", 1.0, claim, "flow") for claim in claims])
    assert sender.dropped == 10
    await_that(lambda: "can't be sent" in caplog.text, 10, "a word about it")
    brokers.append(current_app.connection_for_write().as_uri(include_password=True))
    await_that(lambda: len(heard.by_task) >= step_events.MAX_BUFFERED, 30, "they are sent after all")
    sender.stop()
    assert caplog.text.count("can't be sent") == 1
    assert str(claims[0].id) in heard.by_task
    assert str(claims[-1].id) not in heard.by_task


def test_they_can_be_switched_off(heard: Listener, settings: Any) -> None:
    claim, unheard = a_claim(), a_claim()
    step_events.stop()  # a server of another test may have started it
    for is_on in (False, True):
        settings.HEADRACE = {"STEP_EVENTS": is_on}
        step_events.start("io@test")
        step_events.received([(claim if is_on else unheard, "flow")])
        step_events.stop()
    await_that(lambda: heard.kinds(claim.id) == ["received"], 10, "that one")
    assert str(unheard.id) not in heard.by_task
