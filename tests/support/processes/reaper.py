"""Waits for the end of a test run and takes away what it has left: workers, and the services of its var directory.

A run that ends by itself leaves nothing; one that is interrupted or killed runs no fixture's end. The watcher is a
process of its own, and imports what it needs only when the run has ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from pathlib import Path

MARK = "TESTS_OF"
"""The variable that every process of a test run has, those of instances with a var directory of their own too."""
ROOT = Path(__file__).resolve().parents[3]


def start(var: Path) -> None:
    """Have this process watched. The watcher ignores the terminal's signals and has no part in this process' group."""
    watcher = subprocess.Popen(
        [sys.executable, "-m", "tests.support.processes.reaper", str(os.getpid()), str(var)],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, env={"PATH": os.environ.get("PATH", "")},
    )  # fmt: skip
    watcher.returncode = 0  # it outlives this process, and is not waited for


def main(pid: int, var: Path) -> None:
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(pid)], [], [])  # readable when the process ends
    from devtools import embedded
    from devtools.marks import kill_marked, marked

    if var.exists():  # nothing is done where another run has taken a share in the services meanwhile
        instances = {found for pid in marked(MARK, str(var)) for found in _var_of(pid)} - {var, ROOT / "var"}
        embedded.stop_if_unused(embedded.Paths(var=var), first=lambda: kill_marked(MARK, str(var)))
        for each in instances:  # those of `up` in a directory of its own; services have no mark
            embedded.stop_if_unused(embedded.Paths(var=each))


def _var_of(pid: int) -> list[Path]:
    """The var directory that a process works on, where it exists."""
    with contextlib.suppress(OSError):
        variables = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        named = [Path(text.partition("=")[2]) for text in variables if text.startswith("HEADRACE_VAR_DIR=")]
        return [found for found in [*named, Path(f"/proc/{pid}/cwd").readlink() / "var"] if found.is_dir()]
    return []


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
