"""Liveness and readiness of a web process whose connections are all taken, and of one that is cut off from Postgres."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from django.db import connection, transaction

from tests.support.web import Web
from tests.support.workers import WorkerPool, await_that

ANSWERS_WITHIN_S = 4
"""Two seconds are promised; the rest is for a busy machine. What waits for the pool takes ten."""


class Passage:
    """A TCP address for the Postgres of the tests that can go silent without closing anything."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        self._target: Any = (parts.hostname, parts.port)
        if "host" in query:
            self._target = f"{query['host'][0]}/.s.PGSQL.{query.get('port', ['5432'])[0]}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.open = threading.Event()
        self.open.set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        user = f"{quote(parts.username)}:{quote(parts.password or '')}@" if parts.username else ""
        port = self._listener.getsockname()[1]
        self.url = f"postgresql://{user}127.0.0.1:{port}{parts.path}?sslmode=disable"
        if "user" in query:
            self.url += f"&user={query['user'][0]}"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if isinstance(self._target, str):
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
            else:
                server = socket.create_connection(self._target)
            self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                self._threads.append(threading.Thread(target=self._pass, args=(source, target)))
                self._threads[-1].start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.open.wait()
                target.sendall(data)
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
            target.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.open.set()
        for each in self._sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(5)
        for each in self._sockets:
            each.close()


def ask(web: Web, path: str) -> tuple[int, dict[str, Any]]:
    """The answer, which must come in time."""
    started = time.monotonic()
    answer = httpx.get(web.address + path, timeout=30)
    assert time.monotonic() - started < ANSWERS_WITHIN_S
    return answer.status_code, answer.json()


@pytest.fixture
def web(live_db: None, worker_environment: dict[str, str]) -> Iterator[Web]:
    started = Web(worker_environment)
    yield started
    started.stop()


def test_a_process_whose_connections_are_all_taken_is_not_ready_and_then_not_alive(
    web: Web, api_key: str, workers: WorkerPool
) -> None:
    await_that(lambda: ask(web, "/readyz")[0] == 200, 20, "ready")
    threads = []
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE headrace_workflows_accesskey IN ACCESS EXCLUSIVE MODE")
        for _ in range(10):
            headers = {"Authorization": f"Bearer {api_key}"}
            threads.append(
                threading.Thread(
                    target=httpx.get, args=(f"{web.address}/api/runs",), kwargs={"headers": headers, "timeout": 120}
                )
            )
            threads[-1].start()
        await_that(lambda: ask(web, "/readyz")[1]["checks"]["connections"] is False, 20, "not ready")
        status, body = ask(web, "/readyz")
        assert (status, body["ready"], body["checks"]["database"]) == (503, False, True)
        await_that(lambda: ask(web, "/healthz")[0] == 503, 60, "not alive")
        assert ask(web, "/healthz")[1]["status"] == "wedged"
    for thread in threads:
        thread.join(60)
    await_that(lambda: ask(web, "/healthz") == (200, {"status": "ok"}), 20, "alive again")
    await_that(lambda: ask(web, "/readyz")[0] == 200, 20, "ready again")


def test_a_process_that_is_cut_off_from_postgres_is_alive_and_not_ready(
    live_db: None, worker_environment: dict[str, str], api_key: str
) -> None:
    passage = Passage(worker_environment["DATABASE_URL"])
    try:
        web = Web(worker_environment, DATABASE_URL=passage.url)
        try:
            ready = httpx.get(f"{web.address}/readyz").json()
            assert ready["checks"]["database"] is True
            passage.open.clear()
            await_that(lambda: ask(web, "/readyz")[1]["checks"]["database"] is False, 20, "not ready")
            for _ in range(3):
                assert ask(web, "/healthz") == (200, {"status": "ok"})
            passage.open.set()
            await_that(lambda: ask(web, "/readyz")[1]["checks"]["database"], 20, "Postgres again")
        finally:
            web.stop()
    finally:
        passage.close()
