"""What comes in as text, in addresses and headers: one rule for each kind of value."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from workflows.errors import InvalidInput
from workflows.payload import text_fault

MAX_PAGE = 200
MAX_CURSOR = 1_000
MAX_DIGITS = 18
"""A whole number of so many digits fits a bigint."""
EARLIEST = dt.datetime(1, 1, 2, tzinfo=dt.UTC)
LATEST = dt.datetime(9999, 12, 30, tzinfo=dt.UTC)
"""Within these a time can be written in every time zone."""


def refuse_unstorable(**texts: object) -> None:
    """Raises InvalidInput, with its name, for a text that Postgres can't take."""
    for name, text in texts.items():
        if isinstance(text, str) and (found := text_fault(text)):
            raise InvalidInput(f"{name}: the text holds {found}.")


def whole_number(text: str) -> int | None:
    """The number that plain digits make, from 0; None for everything else (other scripts' digits, `²`, too many)."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


def moment(value: object, name: str) -> dt.datetime:
    """A time with its zone, from text; UTC where it names none. Raises InvalidInput."""
    try:
        at = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))
    except ValueError:
        raise InvalidInput(f"{name}: {value!r} is no time; write it as 2026-11-22T10:00:00Z.") from None
    at = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
    if not EARLIEST <= at <= LATEST:
        raise InvalidInput(f"{name}: {value!r} is out of range; use the years 1 to 9999.")
    return at


def identifier(value: object, name: str) -> UUID:
    """An id, from text. Raises InvalidInput."""
    try:
        return UUID(str(value))
    except ValueError:
        raise InvalidInput(f"{name}: {value!r} is no id.") from None


def encode_cursor(order: str, place: Mapping[str, Any]) -> str:
    """The cursor of the page that comes after this place of a list in this order."""
    return base64.urlsafe_b64encode(json.dumps([order, *place.values()], default=str).encode()).decode()


def decode_cursor(cursor: str, order: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    """The place that a cursor of `encode_cursor` says, each value of its kind (int, UUID or datetime).

    A cursor comes from outside: whatever else stands in it is refused. Raises InvalidInput.
    """
    try:
        if len(cursor) > MAX_CURSOR:
            raise ValueError("it is too long")
        found = json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
        if not isinstance(found, list) or len(found) != len(kinds) + 1:
            raise ValueError("it has another form")
        if found[0] != order:
            raise ValueError("made for another sort order")
        return {name: _of_kind(value, kind) for (name, kind), value in zip(kinds.items(), found[1:], strict=True)}
    except (ValueError, TypeError, RecursionError, InvalidInput) as error:
        reason = "it is nested" if isinstance(error, RecursionError) else str(error)
        raise InvalidInput(f"cursor: not one of this list ({reason}); start without a cursor.") from None


def _of_kind(value: Any, kind: type) -> Any:
    if kind is int:
        if type(value) is not int or abs(value) >= 10**MAX_DIGITS:
            raise ValueError("a value in it is no whole number")
        return value
    if not isinstance(value, str):
        raise TypeError("a value in it is no text")
    return moment(value, "time") if kind is dt.datetime else identifier(value, "id")


def check_limit(limit: int) -> None:
    """Raises InvalidInput for a page that is empty or too large."""
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"limit {limit} is out of range; use 1…{MAX_PAGE}.")


def first_fault(texts: Sequence[tuple[str, str]]) -> str:
    """Of named texts: the first that can't be stored, and why; empty where there is none."""
    for name, text in texts:
        if found := text_fault(text) or text_fault(name):
            return f"{name.encode(errors='replace').decode()!r}: the text holds {found}"
    return ""
