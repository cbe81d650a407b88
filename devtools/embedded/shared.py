"""What both services need: where they live, private files, and the processes behind them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from config import env

CHILDREN: list[subprocess.Popen[bytes]] = []
"""The services that this process has started; they outlive it."""


class EmbeddedError(env.ServicesError):
    """The embedded services can't be started here."""


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where the embedded services of one var directory live."""

    var: Path

    @property
    def postgres(self) -> Path:
        return self.var / "postgres"

    @property
    def valkey(self) -> Path:
        return self.var / "valkey"

    @property
    def logs(self) -> Path:
        return self.var / "log"

    @property
    def socket(self) -> Path:
        """The directory of Postgres' socket; a socket's path may have 107 bytes at most."""
        preferred = self.var / "run"
        if len(str(preferred / ".s.PGSQL.5432.lock")) < 100:
            return preferred
        return Path(tempfile.gettempdir()) / f"headrace-{zlib.crc32(str(self.var).encode()):08x}"


def private(path: Path) -> IO[str]:
    """A file to append to that its owner alone can read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a")


def terminate(pid: int, how: signal.Signals, patience_s: float = 10) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
        deadline = time.monotonic() + patience_s
        while is_alive(pid):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    return command_line(pid) != ""


def command_line(pid: int) -> str:
    """What runs under this pid; empty for none and for a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def await_ready(ready: Callable[[], bool], what: str, log: Path, patience_s: float = 30) -> None:
    deadline = time.monotonic() + patience_s
    while not ready():
        if time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise EmbeddedError(f"{what} did not start within {patience_s:.0f} s; the end of {log}:\n{tail}")
        time.sleep(0.05)
