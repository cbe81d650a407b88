"""structlog and httpx, loaded without rich: each of them loads it for a console of its own, which nobody here uses.

(It costs every process 5 MiB, and every command a tenth of a second.)
"""

from __future__ import annotations

import sys

_rich = sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import httpx  # noqa: E402, F401
import structlog  # noqa: E402

if _rich is None:
    del sys.modules["rich"]

from structlog.typing import Processor  # noqa: E402

__all__ = ["Processor", "structlog"]
