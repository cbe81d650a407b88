"""Processes of a driver: the site's own, as `up` starts them, and what they use."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from pathlib import Path


class Processes:
    """Child processes by name, each with its log in the directory."""

    def __init__(self, directory: Path, cwd: Path) -> None:
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._directory, self._cwd = directory, cwd

    def start(self, name: str, command: str | list[str], **more: str) -> subprocess.Popen[bytes]:
        """Start a process with more in its environment."""
        words = shlex.split(command) if isinstance(command, str) else command
        with (self._directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                words, cwd=self._cwd, env={**os.environ, **more}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.running[name] = process
        return process

    def stop(self, name: str) -> None:
        """End a process; a second's patience for each second that it has, twenty at most."""
        process = self.running.pop(name)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self) -> None:
        for process in self.running.values():
            process.terminate()
        for name in list(self.running):
            self.stop(name)


def tree(root: int) -> list[int]:
    """A process and all below it."""
    found = [root]
    for pid in found:
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found.extend(int(child) for child in path.read_text().split())
    return found


def pss_mib(root: int) -> float:
    """The proportional memory of a process and all below it."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def cpu_s(root: int) -> float:
    """Seconds of CPU that a process and all below it have used, those that have ended included."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(field) for field in fields[11:15])
    return total / os.sysconf("SC_CLK_TCK")


PYTHON = sys.executable
