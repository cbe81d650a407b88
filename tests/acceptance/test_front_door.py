"""Every answered id is stored, also where the web is killed or reloaded under load, and Postgres stalls."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from uuid import UUID

import httpx
import pytest

from tests.acceptance.test_health import Passage
from tests.support.volume import IS_FULL
from tests.support.web import Web
from tests.support.workers import WorkerPool, await_that, nobody_dispatches, publish
from workflows.models import AccessKey, Event, Organization, Run

NOOP = [{"id": "a", "type": "noop"}]
CLIENTS = 16
UNDER_LOAD_S = 10.0 if IS_FULL else 3.0


@pytest.fixture
def event_key(org: Organization) -> str:
    return AccessKey.issue(org, AccessKey.Kind.EVENT, "test")[1]


@pytest.fixture
def passage(worker_environment: dict[str, str]) -> Iterator[Passage]:
    made = Passage(worker_environment["DATABASE_URL"])
    yield made
    made.close()


class Load:
    """Clients that send runs and events one after the other, over whatever happens, and keep what was answered."""

    def __init__(self, address: Callable[[], str], api_key: str, event_key: str) -> None:
        self._address, self._bearer, self._event_key = address, {"Authorization": f"Bearer {api_key}"}, event_key
        self.runs: set[str] = set()
        self.events: set[str] = set()
        self.statuses: set[int] = set()
        self.lost = 0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _send(self, number: int) -> None:
        events = [{"name": "door/sent", "data": {"n": n}} for n in range(1 + number)]
        with httpx.Client(timeout=30) as client:
            while not self._over.is_set():
                try:
                    if number % 2:
                        answer = client.post(f"{self._address()}/e/{self._event_key}", json=events)
                    else:
                        url = f"{self._address()}/api/workflows/flow/run"
                        answer = client.post(url, json={"triggerData": {"n": number}}, headers=self._bearer)
                except httpx.TransportError:
                    self.lost += 1
                    time.sleep(0.05)
                    continue
                self.statuses.add(answer.status_code)
                if answer.status_code == 200:
                    self.events.update(answer.json()["ids"])
                elif answer.status_code == 202:
                    self.runs.add(answer.json()["runId"])

    @property
    def answered(self) -> int:
        return len(self.runs) + len(self.events)

    def is_answered_again(self) -> bool:
        """Whether both kinds are answered from now on."""
        runs, events = len(self.runs), len(self.events)
        return bool(await_that(lambda: len(self.runs) > runs and len(self.events) > events, 60, "answers"))

    def assert_stored(self) -> None:
        assert self.runs
        assert self.events
        runs, events = [UUID(id_) for id_ in self.runs], [UUID(id_) for id_ in self.events]
        assert Run.objects.filter(id__in=runs).count() == len(runs)
        assert Event.objects.filter(id__in=events).count() == len(events)


def test_every_answered_id_is_stored_where_the_web_is_killed_and_reloaded(
    org: Organization, api_key: str, event_key: str, worker_environment: dict[str, str], workers: WorkerPool
) -> None:
    publish(org, NOOP, on=[{"event": "door/sent"}])
    web = Web(worker_environment)
    place = [web]
    with Load(lambda: place[0].address, api_key, event_key) as load:
        try:
            for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
                assert load.is_answered_again()
                time.sleep(UNDER_LOAD_S / 3)
                place[0].process.send_signal(how)
                place[0].process.wait(20)
                place[0] = Web(worker_environment)
            assert load.is_answered_again()
        finally:
            load.__exit__()
            place[0].stop()
    assert load.lost
    assert load.statuses <= {200, 202}
    load.assert_stored()
    await_that(lambda: not Event.objects.filter(org_id=org.id, matched_at=None).exists(), 120, "all are matched")
    made = Run.objects.filter(org_id=org.id, event_id__in=[UUID(id_) for id_ in load.events])
    assert made.count() == made.values("event_id").distinct().count() == len(load.events)
    live = ["queued", "running"]
    await_that(lambda: not Run.objects.filter(org_id=org.id, status__in=live).exists(), 120, "all have ended")


def test_every_answered_id_is_stored_where_postgres_stalls(
    org: Organization, api_key: str, event_key: str, worker_environment: dict[str, str], passage: Passage
) -> None:
    with nobody_dispatches():
        publish(org, NOOP, on=[{"event": "door/sent"}])
    url = passage.url
    web = Web(worker_environment, DATABASE_URL=url)
    try:
        with Load(lambda: web.address, api_key, event_key) as load:
            for _ in range(2):
                assert load.is_answered_again()
                passage.open.clear()
                time.sleep(2)
                health = httpx.get(f"{web.address}/healthz", timeout=10)
                passage.open.set()
                assert health.status_code == 200
            assert load.is_answered_again()
        assert load.lost == 0
        load.assert_stored()
    finally:
        web.stop()


def test_no_answer_depends_on_a_store_and_a_broker_that_take_everything_and_say_nothing(
    org: Organization, api_key: str, event_key: str, worker_environment: dict[str, str]
) -> None:
    with nobody_dispatches():
        publish(org, NOOP, on=[{"event": "door/sent"}])
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        web = Web(worker_environment, REDIS_URL=url, BROKER_URL=url)
        try:
            with Load(lambda: web.address, api_key, event_key) as load:
                for _ in range(20):
                    assert load.is_answered_again()
        finally:
            web.stop()
    assert (load.lost, load.statuses) == (0, {200, 202})
    load.assert_stored()


def test_an_event_that_is_sent_right_after_its_trigger_is_published_is_heard(
    org: Organization, event_key: str, worker_environment: dict[str, str]
) -> None:
    """Over several processes, none of which knows what the others were asked. (An event is matched after its answer:
    its trigger stays for some time, though the flow is published again at once.)"""
    webs = [Web(worker_environment) for _ in range(4 if IS_FULL else 2)]
    sent: dict[str, str] = {}
    try:
        with nobody_dispatches(), httpx.Client(timeout=30) as client:
            for number in range(10_000 if IS_FULL else 100):
                name = f"door/{number}"
                publish(org, NOOP, on=[{"event": f"door/{each}"} for each in range(max(0, number - 20), number + 1)])
                web = webs[number % len(webs)]
                answer = client.post(f"{web.address}/e/{event_key}", json={"name": name})
                sent[answer.json()["ids"][0]] = name
                if number % 100 == 99:
                    await_that(lambda: not Event.objects.filter(org_id=org.id, matched_at=None).exists())
    finally:
        for web in webs:
            web.stop()
    await_that(lambda: not Event.objects.filter(org_id=org.id, matched_at=None).exists())
    heard = dict(Run.objects.filter(org_id=org.id).values_list("event_id", "event_name"))
    assert {str(id_): name for id_, name in heard.items()} == sent


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: localhost\r\n"])
def test_a_request_names_one_host(live_db: None, worker_environment: dict[str, str], hosts: bytes) -> None:
    web = Web(worker_environment)
    try:
        with socket.create_connection(("127.0.0.1", web.port), timeout=20) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\n" + hosts + b"\r\n")
            answer = client.recv(1_000)
            assert answer.startswith(b"HTTP/1.1 400")
            assert answer.endswith(b"Invalid HTTP request received.")
    finally:
        web.stop()


def test_a_head_without_an_end_is_cut_off(live_db: None, worker_environment: dict[str, str]) -> None:
    web = Web(worker_environment)
    try:
        with socket.create_connection(("127.0.0.1", web.port), timeout=20) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
            client.settimeout(20)
            with pytest.raises(OSError, match=r"reset|[Bb]roken"):
                _send_head(client)
        with socket.create_connection(("127.0.0.1", web.port), timeout=20) as client:
            body = json.dumps([{"name": "a"}] * 9_000).encode()  # a long body is none of it
            client.sendall(
                b"POST /e/unknown HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            assert client.recv(1_000).startswith((b"HTTP/1.1 400", b"HTTP/1.1 401"))
    finally:
        web.stop()


def _send_head(client: socket.socket) -> None:
    for number in range(100_000):
        client.sendall(b"X-%d: %s\r\n" % (number, b"x" * 1_000))
