"""What a process holds, looked at from within: for flows of the bench, whose steps a worker performs."""

from __future__ import annotations

import collections
import ctypes
import gc
import sys
import tracemalloc
from pathlib import Path
from typing import Any

MOST = 40
_KEPT: list[tracemalloc.Snapshot] = []


class _Malloc(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
                     "keepcost")
    ]  # fmt: skip


def look(*, trims: bool = False, traces: bool = False) -> dict[str, Any]:
    """MiB that the process holds, as it is and after a collection of garbage (and `trims`: after the C library has
    given back what it does not use); its objects by type. `traces`: of what was allocated since the last such look, by
    line (the first one begins to trace)."""
    found: dict[str, Any] = {"rss": _rss()}
    gc.collect()
    found["collected"] = _rss()
    found |= {name: round(value, 2) for name, value in _malloc().items()}
    found["blocks"] = sys.getallocatedblocks()
    if trims:
        ctypes.CDLL(None).malloc_trim(0)
        found["trimmed"] = _rss()
    counted = collections.Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    found["types"] = dict(counted.most_common(MOST * 5))
    if traces:
        found["grown"] = _grown()
    return found


def _rss() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024, 2)


def _malloc() -> dict[str, float]:
    """MiB that the C library has from the kernel, in use and free."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except AttributeError:  # not glibc
        return {}
    ask.restype = _Malloc
    told = ask()
    mib = 2.0**20
    return {"in_use": (told.uordblks + told.hblkhd) / mib, "free": told.fordblks / mib}


def _grown() -> list[str]:
    if not tracemalloc.is_tracing():
        tracemalloc.start(4)
        return []
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, tracemalloc.__file__)])
    if not _KEPT:
        _KEPT.append(snapshot)
        return []
    lines = [
        f"{each.size_diff / 1024:+.1f} KiB in {each.count_diff:+} blocks: "
        + " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(each.traceback))
        for each in snapshot.compare_to(_KEPT[0], "traceback")[:MOST]
    ]
    _KEPT[0] = snapshot
    return lines


def held_by_file(most: int = MOST) -> list[str]:
    """Memory that is held, by the file that has allocated it, where the process traces from its start."""
    snapshot = tracemalloc.take_snapshot()
    return [
        f"{each.size / 1024:.0f} KiB {each.traceback[0].filename}" for each in snapshot.statistics("filename")[:most]
    ]
