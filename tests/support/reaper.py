"""Waits for the end of a test run and takes away what it has left: workers, and the services of its var directory.

A run that ends by itself leaves nothing; one that is interrupted or killed runs no fixture's end. It is a program of its
own (`python reaper.py <pid> <var directory>`), with the standard library only, so that it starts at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path


def start(var: Path) -> None:
    """Have this process watched. The watcher ignores the terminal's signals and has no part in this process' group."""
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(var)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={"PATH": os.environ.get("PATH", "")},
    )  # fmt: skip
    watcher.returncode = 0  # it outlives this process, and is not waited for


def marked(var: Path) -> list[int]:
    """The processes whose environment names the var directory."""
    mark, found = f"HEADRACE_VAR_DIR={var}".encode(), []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (directory / "environ").read_bytes().split(b"\0") and int(directory.name) != os.getpid():
                found.append(int(directory.name))
    return found


def services(var: Path) -> list[tuple[int, signal.Signals]]:
    """The pids of Postgres and Valkey that run there, with the signal that ends each quickly."""
    found = []
    for file, name, how in (("postgres/postmaster.pid", "postgres", signal.SIGINT),
                            ("valkey/valkey.pid", "valkey-server", signal.SIGTERM)):  # fmt: skip
        with contextlib.suppress(OSError, ValueError):
            pid = int((var / file).read_text().split("\n", 1)[0])
            if name in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"):
                found.append((pid, how))
    return found


def reap(var: Path) -> None:
    """Nothing where another run has taken a share in the services meanwhile."""
    with (var / "services.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        for _ in range(100):
            left = marked(var)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not left:
                break
            time.sleep(0.05)
        for pid, how in services(var):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)


def main(pid: int, var: Path) -> None:
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(pid)], [], [])  # readable when the process ends
    if (var / "services.lock").exists():
        reap(var)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
