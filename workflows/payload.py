"""What may be stored: JSON that Postgres takes, within the limits. Nothing is truncated."""

from __future__ import annotations

import json
from typing import Any

from workflows.errors import InvalidOutput, PayloadTooLarge

MAX_EVENT_BYTES = 512 * 1024
MAX_OUTPUT_BYTES = 4 * 1024 * 1024
MAX_RUN_BYTES = 32 * 1024 * 1024
MAX_DEPTH = 200

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict with text keys."""


def dump(value: Json, *, what: str = "The output", limit_bytes: int = MAX_OUTPUT_BYTES) -> str:
    """The value as JSON text that `jsonb` accepts.

    Raises InvalidOutput for NaN, infinities, NUL, lone surrogates, values that are no JSON and too deep nesting;
    PayloadTooLarge over `limit_bytes`.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise InvalidOutput(f"{what} is nested too deeply or holds itself.") from None
    except TypeError as error:
        raise InvalidOutput(f"{what} is no JSON: {error}.") from None
    except ValueError as error:
        reason = "it holds NaN or an infinity" if "float" in str(error) else str(error)
        raise InvalidOutput(f"{what} can't be stored: {reason}.") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise InvalidOutput(f"{what} is nested more than {MAX_DEPTH} levels deep.")
    if "\\u0000" in text and holds_nul(value):
        raise InvalidOutput(f"{what} can't be stored: a text in it holds a NUL character.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidOutput(f"{what} can't be stored: a text in it holds a lone surrogate.") from None
    if size > limit_bytes:
        raise PayloadTooLarge(f"{what} has {size:,} bytes, the limit is {limit_bytes:,}.")
    return text


def _depth(value: Json) -> int:
    """How deep lists and dicts are nested; level by level, without recursion."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list | tuple)]:
        depth += 1
        if depth > MAX_DEPTH:
            break
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
    return depth


def holds_nul(value: Json) -> bool:
    """Whether a text in it holds a NUL character."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(holds_nul(key) or holds_nul(item) for key, item in value.items())
    return isinstance(value, list | tuple) and any(holds_nul(item) for item in value)
