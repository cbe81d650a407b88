"""A system that is measured: a tree of processes with a driver at its root, stopped while others are measured."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.drivers.processes import tree
from devtools import embedded

START_WITHIN_S = 120
ANSWER_WITHIN_S = 600
PID_FILE = "driver.pid"


class ContenderFailed(RuntimeError):
    """A contender did not do what it was asked."""


class Contender:
    """Started at once. `do` asks its driver; between measurements it is frozen, so that one is active at a time."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path, log: Path) -> None:
        self.name, self._log, self._directory = name, log, log.parent
        self._directory.mkdir(parents=True, exist_ok=True)
        clear_leftovers(self._directory)
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        (self._directory / PID_FILE).write_text(str(self._process.pid))
        self._buffer = b""
        self._frozen: list[int] = []

    def await_ready(self) -> None:
        """Wait until its driver has started all it needs."""
        if self._answer(START_WITHIN_S) != {"ready": True}:
            raise ContenderFailed(f"{self.name} did not start; see {self._log}")

    def do(self, verb: str, *, within_s: float = ANSWER_WITHIN_S, **given: Any) -> Any:
        """What the driver answers. Raises ContenderFailed with its traceback."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"verb": verb, **given}).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._answer(within_s)
        if "error" in answer:
            raise ContenderFailed(f"{self.name}: {verb}: {answer['error']}")
        return answer["value"]

    def _answer(self, patience_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            if not select.select([self._process.stdout], [], [], patience_s)[0]:
                raise ContenderFailed(f"{self.name} does not answer; see {self._log}")
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            if not data:
                raise ContenderFailed(f"{self.name} has ended; see {self._log}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def freeze(self) -> None:
        """Stop all its processes where they are."""
        self._frozen = tree(self._process.pid)
        _signal(self._frozen, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        _signal(reversed(self._frozen), signal.SIGCONT)
        self._frozen = []

    def end(self) -> None:
        """End all its processes, and its services where the driver could not."""
        self.thaw()
        everything = tree(self._process.pid)
        with contextlib.suppress(ContenderFailed, OSError, ValueError):
            self.do("end", within_s=40)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        _signal(reversed(everything), signal.SIGKILL)
        clear_leftovers(self._directory)


def clear_leftovers(directory: Path) -> None:
    """End the driver and the services that a bench has left behind which was killed; they may still be frozen."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((directory / PID_FILE).read_text())
        if str(directory) in Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace"):
            _signal(tree(pid), signal.SIGKILL)
    if not (directory / "services.lock").exists():
        return
    paths = embedded.Paths(var=directory)
    for service in (embedded.postmaster_pid(paths), embedded.valkey_pid(paths)):
        if service:
            _signal(tree(service), signal.SIGCONT)
    embedded.stop_if_unused(paths)


def _signal(pids: Iterable[int], how: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
