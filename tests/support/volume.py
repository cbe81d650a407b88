"""How much a test of volumes makes: a fifth in `make test`, all of it in `make soak`."""

from __future__ import annotations

import os

IS_FULL = os.environ.get("HEADRACE_TEST_VOLUME") == "full"


def volume(full: int) -> int:
    """So many, or a fifth of it."""
    return full if IS_FULL else full // 5
