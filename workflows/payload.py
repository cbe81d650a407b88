"""What may be stored: JSON that Postgres takes, within the limits. Nothing is truncated.

One rule for everything that comes from outside: `parse` reads a body within its budget of depth and values, `fault`
names the first text that can't be stored and where it stands, `dump` is the last look before a value is stored.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

from workflows.errors import InvalidInput, InvalidJson, InvalidOutput, PayloadTooLarge
from workflows.sealing.envelope import check_open

MAX_EVENT_BYTES = 512 * 1024
MAX_OUTPUT_BYTES = 4 * 1024 * 1024
MAX_RUN_BYTES = 32 * 1024 * 1024
MAX_SCHEMA_BYTES = 64 * 1024
MAX_DEPTH = 200
MAX_VALUES = 1_000_000
ENVELOPE_DEPTH = 8
"""What a body may nest around the value that is stored."""
SHOWN_PATH = 80

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict with text keys."""

_SURROGATE = re.compile("[\ud800-\udfff]")
# Possessive, and one without its closing quote goes to the end: linear in the length, whatever the body.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_TOKEN = re.compile(_TEXT.pattern + rb"|[\[\]{},:]", re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def parse(body: bytes, *, what: str = "The body") -> Json:
    """The JSON value of a body from outside.

    A byte order mark before it is passed over. Raises InvalidJson for what is no JSON in UTF-8; InvalidInput with the
    path for one that is nested too deeply or holds too many values. Both are measured before anything is built.
    """
    _check_budget(body, what)
    try:
        return json.loads(body.removeprefix(codecs.BOM_UTF8).decode())
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"{what} is no JSON: {error}") from None


def _check_budget(body: bytes, what: str) -> None:
    """Few brackets and commas are in order by their number alone; else those within texts are not counted."""
    brackets = body.count(b"[") + body.count(b"{")
    deepest = MAX_DEPTH + ENVELOPE_DEPTH
    if brackets <= deepest and brackets + body.count(b",") < MAX_VALUES:
        return
    bare = _TEXT.sub(b"", body)
    if bare.count(b"[") + bare.count(b"{") + bare.count(b",") >= MAX_VALUES:
        raise InvalidInput(f"{what} holds more than {MAX_VALUES:,} values; send less at once.")
    depth = 0
    for bracket in bare.translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > deepest:
            path = _path_of_depth(body, deepest)
            raise InvalidInput(f"{what} is nested more than {MAX_DEPTH} levels deep, at {path}; make it flatter.")


def _path_of_depth(body: bytes, deepest: int) -> str:
    """Where JSON text first is nested deeper than this."""
    parts: list[str] = []
    text = ""
    for token in _TOKEN.finditer(body):
        sign = token[0]
        if sign in {b"[", b"{"}:
            parts.append("[0]" if sign == b"[" else "")
            if len(parts) > deepest:
                break
        elif sign in {b"]", b"}"}:
            del parts[-1:]
        elif sign == b",":
            if parts and parts[-1].startswith("["):
                parts[-1] = f"[{int(parts[-1][1:-1]) + 1}]"
        elif sign == b":":
            if parts:
                parts[-1] = f".{text}"
        else:
            text = sign.strip(b'"').decode(errors="replace")
    return _shown("".join(parts))


def _shown(path: str) -> str:
    """A path without its first dot; of a long one its beginning."""
    path = path.removeprefix(".")
    return path if len(path) <= SHOWN_PATH else f"{path[:SHOWN_PATH]}…"


def dump(value: Json, *, what: str = "The output", limit_bytes: int = MAX_OUTPUT_BYTES) -> str:
    """The value as JSON text that `jsonb` accepts.

    Raises InvalidOutput for NaN, infinities, NUL, lone surrogates, values that are no JSON and too deep nesting;
    PayloadTooLarge over `limit_bytes`; EncryptionKeyMissing for what stands for a payload that no key opens.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise InvalidOutput(f"{what} is nested too deeply or holds itself.") from None
    except TypeError as error:
        advice = "Give text, numbers, lists and dicts; an id, a date or a Decimal as str(…)."
        raise InvalidOutput(f"{what} is no JSON: {error}. {advice}") from None
    except ValueError as error:
        reason = "it holds NaN or an infinity" if "float" in str(error) else str(error)
        raise InvalidOutput(f"{what} can't be stored: {reason}.") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        path = _path_of_depth(text.encode(errors="replace"), MAX_DEPTH)
        raise InvalidOutput(f"{what} is nested more than {MAX_DEPTH} levels deep, at {path}.")
    if "\\u0000" in text or _SURROGATE.search(text):
        found = fault(value)
        if found:
            raise InvalidOutput(f"{what} can't be stored: {found}.")
    check_open(value)
    size = len(text.encode())
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


def text_fault(text: str) -> str:
    """Why Postgres can't take a text; empty where it can."""
    if "\0" in text:
        return "a NUL character"
    return "a lone surrogate" if _SURROGATE.search(text) else ""


def fault(value: Json) -> str:
    """The first text in a value that Postgres can't take, with its path; empty where there is none. No recursion."""
    open_: list[tuple[str, Json]] = [("", value)]
    while open_:
        path, inner = open_.pop()
        if isinstance(inner, str):
            if found := text_fault(inner):
                place = _shown(path.encode(errors="replace").decode())
                return f"{place + ': ' if place else ''}a text in it holds {found}"
        elif isinstance(inner, dict):
            for key, each in reversed(inner.items()):
                open_.append((f"{path}.{key}", each))
                open_.append((path, key))
        elif isinstance(inner, list | tuple):
            open_ += [(f"{path}[{index}]", each) for index, each in reversed(list(enumerate(inner)))]
    return ""
