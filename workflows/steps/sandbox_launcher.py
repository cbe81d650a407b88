"""Becomes a sandbox's interpreter process that ends with its worker. A script: `sandbox_launcher.py parent binary …`.

The interpreter's pool kills a process that overruns its limits, but a worker that is killed kills nothing: its sandbox
would go on computing to its own time limit. Here the kernel is told to end it with its parent. It is also the first
that the kernel ends where memory is short, so that the worker stays, and the kernel bounds its memory where its own
count fails. Only the standard library: this runs before anything of the project is loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
MOST_ADDRESS_SPACE = 4 * 1024**3
"""The interpreter bounds what a script may hold, 2 GiB at most; this bounds what escapes its count."""
FIRST_TO_GO = "800"


def main(parent: int, command: list[str]) -> None:
    """Replace this process by the command."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it has ended meanwhile
        sys.exit("The worker has ended.")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = MOST_ADDRESS_SPACE if hard == resource.RLIM_INFINITY else min(hard, MOST_ADDRESS_SPACE)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with contextlib.suppress(OSError):  # without the right to, the worker is as likely to go
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    os.execv(command[0], command)  # noqa: S606  (the interpreter's path, from our own pool)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
