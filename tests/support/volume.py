"""How much a test of volumes makes: a fifth in `make test`, all of it in `make soak`."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

IS_FULL = os.environ.get("HEADRACE_TEST_VOLUME") == "full"
PART = 5
T = TypeVar("T")


def volume(full: int) -> int:
    """So many, or a fifth of it."""
    return full if IS_FULL else full // PART


def share(cases: Iterable[T], of: str, part: int = PART) -> Iterator[T]:
    """All cases, or every fifth of them (`part`).

    Which fifth depends on what they are tried on (`of`, such as a route), and on nothing else: the same in each run,
    and over all routes each case is tried on some of them.
    """
    first = zlib.crc32(of.encode()) % part
    return (case for number, case in enumerate(cases) if IS_FULL or number % part == first)
