"""What comes in as text, in addresses and headers: one rule for each kind of value."""

from __future__ import annotations

import base64
import datetime as dt
import difflib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
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
OLD_WORDS = {"workflow": "flow"}
"""Names that are still read, with the word that took their place."""
OTHER_WORDS = {
    "after": "since", "before": "until", "from": "since", "to": "until", "start": "since", "end": "until",
    "state": "status", "size": "limit", "count": "limit", "per_page": "limit", "page": "cursor", "offset": "cursor",
    "organization": "org", "org": "organization", "user": "userId", "user_id": "userId", "slug": "flow",
    "event_name": "event", "eventName": "event", "name": "event", "run_id": "run", "runId": "run", "stepType": "type",
    "step_type": "type", "q": "search", "order": "sort", "step_run": "stepRun", "stepRunId": "stepRun",
}  # fmt: skip
"""Words of other systems, with ours: only to say what was meant."""


def refuse_unstorable(**texts: object) -> None:
    """Raises InvalidInput, with its name, for a text that Postgres can't take."""
    for name, text in texts.items():
        if isinstance(text, str) and (found := text_fault(text)):
            raise InvalidInput(f"{name}: the text holds {found}.")


def refuse_unknown(given: Iterable[str], known: Collection[str], *, what: str) -> None:
    """Raises InvalidInput for the first name that is not known, with the one that was meant and all that there are."""
    for name in sorted(name for name in given if name not in known):
        meant = _meant(name, known)
        hint = f" Did you mean {meant!r}?" if meant else ""
        names = f"use {', '.join(sorted(known))}" if known else "there are none here"
        raise InvalidInput(f"{what}: {name[:100]!r} is unknown; {names}.{hint}")


def _meant(name: str, known: Collection[str]) -> str:
    other = OTHER_WORDS.get(name, OLD_WORDS.get(name, ""))
    by_case = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower()[:100], by_case, n=1, cutoff=0.6)
    return other if other in known else by_case[close[0]] if close else ""


def in_new_words(given: Mapping[str, Any], *, what: str) -> dict[str, Any]:
    """A filter with the old words changed to the new ones. Raises InvalidInput where both are given."""
    for old, new in OLD_WORDS.items():
        if given.get(old) and given.get(new):
            raise InvalidInput(f"{what}: {old!r} is the old word for {new!r}; give {new!r} alone.")
    plain = {name: value for name, value in given.items() if name not in OLD_WORDS}
    return {OLD_WORDS[name]: value for name, value in given.items() if name in OLD_WORDS} | plain


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
    """The place that a cursor of `encode_cursor` says, each value of its kind (int, str, UUID or datetime).

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
    if kind is str:
        return value
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
