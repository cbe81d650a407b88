"""structlog and httpx, loaded without rich: each of them loads it for a console of its own, which nobody here uses.

(It costs every process 5 MiB, and every command a tenth of a second.)
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def _without_rich() -> Iterator[None]:
    """What is imported within finds no rich, unless it is loaded already."""
    before = sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    try:
        yield
    finally:
        if before is None:
            del sys.modules["rich"]


with _without_rich():
    import httpx  # noqa: F401
    import structlog
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["EventDict", "Processor", "WrappedLogger", "structlog"]
