"""Processes that are told by a variable of their environment, wherever their parents went."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

PATIENCE_S = 5.0


def marked(variable: str, value: str) -> list[int]:
    """The pids of the processes that were started with this value of the variable; not this process."""
    wanted, found = f"{variable}={value}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if value and wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return [pid for pid in found if pid != os.getpid()]


def kill_marked(variable: str, value: str) -> None:
    """Kill these processes, and those that they still start, and wait for their end (five seconds at most)."""
    killed: set[int] = set()
    deadline = time.monotonic() + PATIENCE_S
    while (pids := marked(variable, value)) or not all(map(_has_ended, killed)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.update(pids)
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _has_ended(pid: int) -> bool:
    """Whether the process is gone, or a zombie of which no thread is left: the last of them takes the sockets along."""
    try:
        is_zombie = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
        return is_zombie and len(list(Path(f"/proc/{pid}/task").iterdir())) <= 1
    except OSError:
        return True
