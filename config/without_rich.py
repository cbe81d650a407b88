"""structlog and httpx, loaded without rich and pygments: they want them for consoles of their own, which nobody uses.

(They cost every process 6 MiB, and every command a tenth of a second.)
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

CONSOLES = ("rich", "pygments")


@contextlib.contextmanager
def _without_rich() -> Iterator[None]:
    """What is imported within finds neither, unless it is loaded already."""
    hidden = [name for name in CONSOLES if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _without_rich():
    import httpx  # noqa: F401
    import structlog
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["EventDict", "Processor", "WrappedLogger", "structlog"]
