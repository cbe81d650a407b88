"""The web as `manage.py up` starts it, and streams of it that can be cut hard."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
from django.db import connection

from devtools.processes import Ports, commands
from tests.support.workers import await_that


class Web:
    """One web process with a pool of connections, on the test database; its connections can be told by their name."""

    def __init__(self, environment: dict[str, str], **more: str) -> None:
        ports = Ports.any_free()
        self.port = ports.web
        self.address = f"http://127.0.0.1:{self.port}"
        self.name = f"web-{self.port}"
        url = more.pop("DATABASE_URL", environment["DATABASE_URL"])
        environment = {
            **environment,
            "DATABASE_URL": f"{url}&application_name={self.name}",
            "HEADRACE_DB_POOL_SIZE": "8",
            **more,
        }
        log = Path(os.environ["HEADRACE_VAR_DIR"]) / "log" / f"{self.name}.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                shlex.split(commands(ports)["web"]), env=environment, stderr=output, stdout=output
            )
        try:
            await_that(self.answers, 90, "the site")
        except BaseException:
            self.stop()
            raise

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.address}/healthz", timeout=5).status_code < 600
        except httpx.TransportError:
            return False

    def stop(self) -> float:
        """Stop it; returns the seconds that this took."""
        started = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        return time.monotonic() - started

    @property
    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    @property
    def files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    @property
    def connections(self) -> int:
        """How many connections to Postgres it has."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [self.name])
            row: Any = cursor.fetchone()
        return int(row[0])


class Stream:
    """An open stream over a bare socket."""

    def __init__(self, port: int, path: str, headers: dict[str, str], patience_s: float = 30) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        self._socket.settimeout(patience_s)
        self._socket.connect(("127.0.0.1", port))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n".encode())
        self.heard = b""

    def open(self) -> int:
        """The status, once the stream has begun or was refused."""
        while True:
            head, ended, body = self.heard.partition(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1]) if ended else 0
            if ended and (status != 200 or b"retry: " in body):
                return status
            self._read()

    def _read(self) -> bool:
        part = self._socket.recv(65536)
        self.heard += part
        return bool(part)

    def until(self, text: bytes) -> None:
        """Read on until this is heard."""
        while text not in self.heard:
            assert self._read(), f"the stream ended without {text!r}: {self.heard!r}"

    def until_its_end(self) -> None:
        with contextlib.suppress(ConnectionResetError):
            while not self.heard.endswith(b"0\r\n\r\n") and self._read():
                pass

    def read_for(self, seconds: float) -> None:
        """Read what comes within this. Raises TimeoutError where nothing does."""
        self._socket.settimeout(seconds)
        assert self._read(), "the stream ended"

    def cut(self) -> None:
        """Reset the connection."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        self._socket.close()
