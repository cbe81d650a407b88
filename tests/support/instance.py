"""`manage.py up` as a user starts it, with its terminal and its credentials."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from config.env import BASE_DIR
from devtools.marks import marked
from devtools.processes import Ports
from tests.support.workers import await_that

NOT_HANDED_ON = frozenset({
    "DATABASE_URL", "REDIS_URL", "HEADRACE_EMBEDDED", "HEADRACE_SECRET_KEY", "HEADRACE_ALLOWED_PRIVATE_HOSTS",
    "DJANGO_SETTINGS_MODULE",
})  # fmt: skip


class Up:
    """A process of `manage.py up` in a project's directory, and what it has printed."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.terminal = ""
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up"], cwd=directory, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.terminal += line

    def await_started(self, patience_s: float = 90) -> None:
        """Wait until it says that it has started. Fails with its terminal where it ends instead."""
        await_that(lambda: "Ctrl-C stops it" in self.terminal or self.process.poll() is not None, patience_s, "up")
        assert self.process.poll() is None, self.terminal

    def stop(self, patience_s: float = 30) -> float:
        """Stop it as Ctrl-C does; the seconds that this takes."""
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(patience_s)
        self.end_reading()
        return time.monotonic() - started

    def end_reading(self) -> None:
        """Wait until all that the ended process has printed is read."""
        self._reader.join(5)


class Instance(Up):
    """A started `up` of this checkout, on a var directory and ports of its own."""

    def __init__(self, var: Path, ports: Ports | None = None) -> None:
        self.var, self.ports = var, ports or Ports.any_free()
        self.environment = {name: value for name, value in os.environ.items() if name not in NOT_HANDED_ON}
        self.environment |= {"HEADRACE_VAR_DIR": str(var), "PORT": str(self.ports.web)}
        super().__init__(BASE_DIR, self.environment)

    @property
    def credentials(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.var / "credentials.json").read_text())
        return found

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.credentials["baseUrl"],
            headers={"authorization": f"Bearer {self.credentials['apiKey']}"},
            timeout=10,
        )

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=BASE_DIR,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def members(self) -> list[int]:
        """Every process that works on this var directory."""
        return [*marked("HEADRACE_VAR_DIR", str(self.var)), *self._services()]

    def _services(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(self.var).encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found


@contextlib.contextmanager
def running(var: Path) -> Iterator[Instance]:
    """An instance on this var directory, started; it is stopped at the end, unless a test has done that."""
    started = Instance(var)
    try:
        started.await_started()
        yield started
    finally:
        started.stop()
