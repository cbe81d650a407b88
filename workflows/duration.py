"""Durations as people write them: 500ms, 30s, 2h45m, 7d."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_WHOLE = re.compile(rf"(?:{_PART.pattern}\s*)+")
MAX_MS = 366 * _UNITS_MS["d"]


def parse_ms(value: object) -> int:
    """Milliseconds of "2h45m", or of a number (which is milliseconds already).

    Raises ValueError saying what is expected; a negative or fractional number, or more than a year, is refused.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a duration is text like 500ms, 30s, 2h45m or 7d, or a whole number of milliseconds")
    if isinstance(value, str):
        text = value.strip()
        if text.isascii() and text.isdigit():
            total = float(text)
        elif _WHOLE.fullmatch(text):
            total = sum(float(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text))
        else:
            raise ValueError(f"{value!r} is no duration; write 500ms, 30s, 2h45m or 7d")
    else:
        total = float(max(-1, min(value, MAX_MS + 1)))  # a float holds no number of 400 digits
    if not 0 <= total <= MAX_MS or total != int(total):
        raise ValueError(f"{value!r} is out of range; a duration has whole milliseconds, from 0 to 366d")
    return int(total)


def format_ms(ms: int) -> str:
    """The shortest exact spelling: 90000 → 1m30s."""
    if ms == 0:
        return "0ms"
    parts, rest = [], ms
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


Duration = Annotated[
    int,
    BeforeValidator(parse_ms),
    PlainSerializer(format_ms, when_used="json"),
    WithJsonSchema({"type": ["string", "integer"], "format": "duration"}),
]
