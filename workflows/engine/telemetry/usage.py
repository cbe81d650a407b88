"""What this process takes of the machine: processor time and memory."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

_STATM = Path("/proc/self/statm")


class Usage:
    """The processor time of this process, from one look to the next."""

    def __init__(self) -> None:
        self._at, self._cpu_s = time.monotonic(), time.process_time()

    def cpu_cores(self) -> float | None:
        """Processor cores in use since the look before, on average; None where no time has gone by."""
        at, cpu_s = time.monotonic(), time.process_time()
        passed, spent = at - self._at, cpu_s - self._cpu_s
        self._at, self._cpu_s = at, cpu_s
        return round(spent / passed, 3) if passed > 0 else None


def memory_bytes() -> int | None:
    """The resident memory of this process: now on Linux, its peak elsewhere."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")
