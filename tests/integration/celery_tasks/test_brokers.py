"""Brokers that are away, workers that are gone, and many tasks at once."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration.celery_tasks.test_outcomes import run, said, task
from tests.support.shop.workers import Shop
from tests.support.workers import WorkerPool, await_end, await_that, by_key, publish
from workflows import services, this_process
from workflows.engine.celery_tasks import lost
from workflows.engine.celery_tasks.ends import ToldEnd
from workflows.engine.celery_tasks.lost import Inspector
from workflows.engine.celery_tasks.sending import Sending
from workflows.engine.celery_tasks.user_app import UserApp, end_queue
from workflows.models import CeleryTask, Organization, Run, StepRun, Worker
from workflows.steps.types.celery_task import CeleryTaskConfig


class Door:
    """A port that leads to the broker once it is opened."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self.port = self._listener.getsockname()[1]

    def open(self) -> None:
        self._listener.listen(64)
        self._start(self._serve)

    def _start(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                self._start(self._pass, client, server)
                self._start(self._pass, server, client)

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for each in self._sockets:
            each.close()


@pytest.fixture
def door(shop: Shop) -> Iterator[Door]:
    place = urlsplit(shop.broker)
    door = Door((place.hostname or "", place.port or 0))
    yield door
    door.close()


def test_a_broker_that_is_away_holds_the_step_until_it_answers(
    org: Organization, own_workers: WorkerPool, shop: Shop, door: Door
) -> None:
    """Nothing fails, no attempt is spent, and the task is executed once."""
    through = urlsplit(shop.broker)
    away = shop.broker.replace(f":{through.port}/", f":{door.port}/")
    own_workers.start("io", **{**shop.environment, "SHOP_BROKER": away, "SHOP_BACKEND": away})
    own_workers.await_ready(1)
    shop.start()
    run_id = services.trigger(org, publish(org, [{**task("shop.add", 1, 2), "id": "t"}]), {}).run_ids[0]
    await_that(lambda: CeleryTask.objects.filter(run_id=run_id, state="sending").exists(), 30, "it is to be sent")
    time.sleep(3)
    assert StepRun.objects.get(run_id=run_id).status == "running"
    door.open()
    step = by_key(await_end(org, run_id, 60))["t"]
    assert (step.step_run.output, len(step.attempts)) == (3, 1)
    assert shop.lines("shop.add") == [f"{step.step_run.id}-1"]


def test_a_failure_without_a_reason_says_where_to_look(org: Organization, own_workers: WorkerPool, shop: Shop) -> None:
    """No result backend, and a worker without Headrace: that it failed is all that is known."""
    own_workers.start("io", **{**shop.environment, "SHOP_BACKEND": ""})
    own_workers.await_ready(1)
    shop.start(SHOP_BACKEND="")
    found = run(org, task("shop.fails"), task("shop.add", 1, 2))
    assert said(found["fails-0"]) == ("failed", "transient", "TaskFailed")
    assert "INSTALLED_APPS" in found["fails-0"].attempts[0].error["message"]
    assert found["add-1"].step_run.output == 3


def test_what_only_our_app_can_tell(org: Organization, own_workers: WorkerPool, shop: Shop) -> None:
    """Ignore, an unknown task and a revoked one, without any result backend: the app in the worker tells."""
    own_workers.start("io", **{**shop.environment, "SHOP_BACKEND": ""})
    own_workers.await_ready(1)
    shop.start(SHOP_BACKEND="", SHOP_WITH_HEADRACE="1")
    found = run(
        org, task("shop.ignored"), task("shop.fails", "final"), task("shop.unknown", registered=False),
        task("shop.add", 1, 2, expires=0.001),
    )  # fmt: skip
    assert [said(each) for each in found.values()] == [
        ("completed", "", ""),
        ("failed", "business", "NonRetriable"),
        ("failed", "configuration", "NotRegistered"),
        ("failed", "business", "TaskRevokedError"),
    ]


def test_an_ignored_task_of_which_nobody_tells_ends_by_the_timeout(
    org: Organization, watchers: WorkerPool, shop: Shop
) -> None:
    """Celery tells nobody of Ignore: without our app in its worker nothing is known."""
    shop.start()
    found = run(org, {**task("shop.ignored"), "timeout": "3s"})
    assert said(found["ignored-0"]) == ("failed", "resource", "ResourceExhausted")


class _Watch:
    """A task that is watched by the test itself."""

    def __init__(self, task_id: str, name: str) -> None:
        self.task = Sending(task_id=task_id, config=CeleryTaskConfig.model_validate({"task": name}))
        self.since, self.is_sent = time.monotonic(), True


class _Watching:
    """The test is the watch."""

    is_stopping = False

    def wait(self, seconds: float) -> bool:
        return True

    def watches(self) -> list[Any]:
        return []

    def store(self, told: Any) -> None: ...
    def wake(self, task_ids: Any) -> None: ...


@pytest.mark.parametrize("name", ["shop.sleeps", "shop.sleeps_late"])
def test_a_task_is_lost_only_by_evidence(live_db: None, shop: Shop, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Its worker had it and is gone; one with acks_late is delivered again, and is not lost."""
    for key, value in shop.environment.items():
        monkeypatch.setenv(key, value)
    user = UserApp()
    user.app.conf.update(broker_url=shop.broker, result_backend=shop.broker)
    with this_process.replaced(UserApp, user):
        first, other = shop.start(), shop.start(queues="shop.parcels")
        assert other.poll() is None
        id_ = f"{uuid.uuid4()}-1"
        user.app.send_task(name, args=[600], task_id=id_)
        await_that(lambda: shop.lines(name), 30, "it is executed")
        inspector, watch = Inspector(_Watching()), _Watch(id_, name)
        assert [inspector.look([watch]) for _ in range(lost.ROUNDS + 1)] == [[]] * (lost.ROUNDS + 1)
        shop.kill(first)
        found: list[ToldEnd] = [end for _ in range(lost.ROUNDS) for end in inspector.look([watch])]
    assert [end.end["error"]["name"] for end in found] == (["TaskLost"] if name == "shop.sleeps" else [])


def test_many_tasks_wait_and_cost_no_threads(org: Organization, watchers: WorkerPool, shop: Shop) -> None:
    """Ten times the slots of the worker: they take none, and other steps are performed beside them."""
    count = 600
    slug = publish(org, [{**task("shop.add", "${ input.n }", 1), "id": "t", "timeout": "200s"}])
    ids = services.trigger_many(org, slug, [{"n": n} for n in range(count)]).run_ids
    (worker,) = watchers.processes
    await_that(lambda: CeleryTask.objects.filter(run_id__in=ids, state="sent").count() == count, 90, "all are sent")
    threads = len(list(Path(f"/proc/{worker.pid}/task").iterdir()))
    assert StepRun.objects.filter(run_id__in=ids, status="running").count() == count
    assert threads < 80
    await_that(lambda: Worker.objects.latest("seen_at").active == 0, 20, "none takes a slot")
    other = publish(org, [{"id": "n", "type": "noop", "config": {"output": 1}}], slug="other")
    assert await_end(org, services.trigger(org, other, {}).run_ids[0], 20).run.status == "completed"
    shop.start(pool="threads")
    await_that(lambda: not Run.objects.filter(id__in=ids, ended_at=None).exists(), 120, "all end")
    rows = StepRun.objects.filter(run_id__in=ids)
    assert sorted(row.output for row in rows) == [n + 1 for n in range(count)]
    assert len(shop.lines("shop.add")) == count


def test_a_message_that_is_none_of_ours_is_dropped(org: Organization, watchers: WorkerPool, shop: Shop) -> None:
    """The queue of ends goes on behind it."""
    from tests.support.shop import app

    shop.start()
    with app.connection_for_write(shop.broker) as connection:
        producer = app.amqp.Producer(connection)
        for body in (
            "{",
            json.dumps([]),
            json.dumps([[1], {"task_id": 7}, {}]),
            json.dumps([[1], {"task_id": "x"}, {}]),
        ):
            producer.publish(
                body, routing_key=end_queue(), exchange="", content_type="application/json", content_encoding="utf-8"
            )
    assert run(org, task("shop.add", 1, 2))["add-0"].step_run.output == 3
