"""What the web process needs for two hundred open streams while runs end: a share of a core."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.drivers.front import Front
from bench.drivers.processes import cpu_s
from bench.live.lists import OpenLists
from workflows import services
from workflows.api.streams.places import IN_ALL, PER_HOLDER, PER_ORGANIZATION
from workflows.definitions.validate import parse
from workflows.models import AccessKey, Organization

TURN_S = 0.1
SETTLE_S = 3.0
JOIN_S = 10.0


class Readers:
    """Clients of the stream, all of them read by one thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._is_over = threading.Event()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._broken = ""
        self.bytes = self.ends = 0

    def open(self, key: str) -> None:
        """Connect, and wait for the beginning of the stream. Raises RuntimeError where it is refused."""
        client = socket.create_connection(("127.0.0.1", self._port), timeout=20)
        head = f"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n"
        client.sendall(head.encode())
        heard = client.recv(4096)
        if b" 200 " not in heard.split(b"\r\n")[0]:
            raise RuntimeError(f"a stream was refused: {heard[:300]!r}")
        self.add(client)

    def add(self, client: socket.socket) -> None:
        """Read an open stream, too."""
        client.setblocking(False)
        self._selector.register(client, selectors.EVENT_READ)

    def start(self) -> None:
        """Read what comes from now on, until `close`, or until a stream ends."""
        self._reading.start()

    def _read(self) -> None:
        while not self._is_over.is_set() and not self._broken:
            for key, _ in self._selector.select(0.2):
                try:
                    heard = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                except OSError as error:
                    self._broken = str(error)
                    return
                self._broken = self._broken or ("" if heard else "it has ended")
                self.bytes += len(heard)
                self.ends += heard.count(b"event: run-status")

    def check(self) -> None:
        """Raises RuntimeError where a stream is no longer open: what was counted since says nothing."""
        if self._broken:
            raise RuntimeError(f"a stream broke off: {self._broken}; see the log of the web, beside the database")

    def close(self) -> None:
        """End reading, and the streams."""
        self._is_over.set()
        if self._reading.is_alive():
            self._reading.join(JOIN_S)
        for key in [*self._selector.get_map().values()]:
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()


def measure(front: Front, *, runs_per_s: float, seconds: float) -> dict[str, float]:
    """The web's share of a core, in percent: idle, with the streams open, and with them while so many runs a second
    end, divided over the two organizations that are followed; and with an open list of runs beside each stream."""
    site, port = front.site, front.start()
    web = site.processes.running["web"].pid
    other, _ = Organization.objects.get_or_create(slug="bench-other", defaults={"name": "Other"})
    followed = (site.organization, other)
    for organization in followed:
        services.apply_definition(organization, parse({"flow": "ends", "steps": [{"id": "a", "type": "noop"}]}))
    found = {"idle": _share(web, seconds / 3)}
    with _keys(followed) as keys:
        readers = Readers(port)
        for key in keys:
            for _ in range(PER_HOLDER):
                readers.open(key)
        over = threading.Event()
        ending = threading.Thread(target=_trigger, args=(followed, runs_per_s, over), daemon=True)
        readers.start()
        try:
            time.sleep(SETTLE_S)
            found["streams"] = _share(web, seconds / 3)
            ending.start()
            time.sleep(SETTLE_S)
            began, told = time.monotonic(), readers.ends
            found["ends"] = _share(web, seconds)
            told_per_s = (readers.ends - told) / (time.monotonic() - began)
            lists = OpenLists(port, followed, len(keys) * PER_HOLDER)
            lists.open()
            try:
                time.sleep(lists.settle_s)
                began, fetched = time.monotonic(), lists.fetched
                found["lists"] = _share(web, seconds)
                found["fetched_per_s"] = (lists.fetched - fetched) / (time.monotonic() - began)
            finally:
                lists.close()
            readers.check()
        finally:  # also where the web has died
            over.set()
            if ending.is_alive():
                ending.join(JOIN_S)
            readers.close()
    site.await_idle()
    found |= {"count": float(len(keys) * PER_HOLDER), "told_per_s": told_per_s / PER_ORGANIZATION}
    return found


@contextmanager
def _keys(organizations: tuple[Organization, ...]) -> Iterator[list[str]]:
    """Keys for as many streams as a process serves; gone afterwards."""
    rows, texts = [], []
    for organization in organizations:
        for _ in range(IN_ALL // len(organizations) // PER_HOLDER):
            row, text = AccessKey.issue(organization, AccessKey.Kind.API, "bench streams")
            rows.append(row)
            texts.append(text)
    try:
        yield texts
    finally:
        for row in rows:
            row.delete()


def _trigger(organizations: tuple[Organization, ...], per_s: float, over: threading.Event) -> None:
    began, triggered = time.monotonic(), 0
    while not over.wait(TURN_S):
        due = int((time.monotonic() - began) * per_s) - triggered
        for number, organization in enumerate(organizations):
            share = (due + number) // len(organizations)
            if share:
                services.trigger_many(organization, "ends", [{}] * share)
                triggered += share


def _share(pid: int, seconds: float) -> float:
    before, began = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_s(pid) - before) / (time.monotonic() - began) * 100
