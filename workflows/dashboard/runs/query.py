"""The filters of the run list, from its address and from its search box, and the chips that show them."""

from __future__ import annotations

import datetime as dt
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.utils.dateparse import parse_datetime

from workflows.duration import parse_ms
from workflows.edge import tags
from workflows.edge.values import OLD_WORDS
from workflows.errors import InvalidInput
from workflows.selectors.run_lists import MAX_SPAN, RunFilter
from workflows.selectors.searching.criteria import Criteria

LABELS = {
    "status": "status",
    "flow": "flow",
    "trigger": "trigger",
    "event": "event",
    "userId": "user",
    "tag": "tag",
    "since": "since",
    "until": "until",
    "priority": "priority",
    "duration": "duration",
    "text": "text",
    "cel": "CEL",
}
"""The filters by their names in the address, and what their chips say."""
OTHER_NAMES = {
    "user": "userId",
    "tags": "tag",
    "workflow": "flow",
    "after": "since",
    "before": "until",
    "took": "duration",
}
"""Words that the search box understands, too."""
BULK = ("status", "flow", "trigger", "event", "userId", "tag", "since", "until")
"""Filters that an action on all that match can have."""
MAX_BOX = 500
_TYPED = re.compile(r"([A-Za-z]+):(.*)", re.DOTALL)
_BOUND = re.compile(r"(>=|<=|>|<|=)?\s*(.+)", re.DOTALL)
_RELATIVE = re.compile(r"\d+(ms|s|m|h|d)(\d+(ms|s|m|h))*")
MILLISECOND = dt.timedelta(milliseconds=1)


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A filter that is set: `without`: the address without it."""

    label: str
    value: str
    without: str


def chosen(given: Mapping[str, Any]) -> dict[str, str]:
    """The filters of an address; an old word for one is read, too. Those without a value are left out."""
    named = {OLD_WORDS.get(name, name): str(value).strip() for name, value in given.items()}
    return {name: named[name] for name in LABELS if named.get(name)}


def typed(text: str) -> dict[str, str]:
    """What is written in the search box: `status:failed duration:>5s`, and the rest as the text that is searched.

    A value with spaces stands in quotes. Raises InvalidInput for a text that is too long.
    """
    if len(text) > MAX_BOX:
        raise InvalidInput(f"Search for at most {MAX_BOX} characters.")
    if text.strip().startswith("cel:"):
        return {"cel": text.strip()[4:].strip()}
    try:
        words = shlex.split(text)
    except ValueError:  # a quotation mark of the text itself
        words = text.split()
    found: dict[str, str] = {}
    rest = []
    for word in words:
        match = _TYPED.fullmatch(word)
        name = OTHER_NAMES.get(match[1], match[1]) if match else ""
        if match and name in LABELS and match[2]:
            found[name] = f"{found[name]},{match[2]}" if name == "tag" and name in found else match[2]
        else:
            rest.append(word)
    if rest:
        found["text"] = " ".join(rest)
    return found


def criteria(filters: Mapping[str, str], *, now: dt.datetime) -> Criteria:
    """What these filters ask for. Raises InvalidInput for one that can't be read, with what to write."""
    priority, duration = filters.get("priority", ""), filters.get("duration", "")
    low, high = _bounds(priority, _priority, 1)
    short, long = _bounds(duration, _span, MILLISECOND)
    return Criteria(
        where=RunFilter(
            status=filters.get("status", ""),
            workflow=filters.get("flow", ""),
            trigger=filters.get("trigger", ""),
            user_id=filters.get("userId", ""),
            event_name=filters.get("event", ""),
            since=moment_of(filters.get("since", ""), "since", now),
            until=moment_of(filters.get("until", ""), "until", now),
        ),
        priority_from=low,
        priority_to=high,
        duration_from=short,
        duration_to=long,
        tags=tags.wanted(filters.get("tag", "")),
        text=filters.get("text", ""),
        cel=filters.get("cel", ""),
    )


def moment_of(text: str, name: str, now: dt.datetime) -> dt.datetime | None:
    """A time: ISO 8601 (in UTC where it names no zone), or how long ago ("24h"). Raises InvalidInput."""
    if not text:
        return None
    if _RELATIVE.fullmatch(text):
        return now - _span(text)
    try:
        found = parse_datetime(text.replace(" ", "+") if re.search(r" \d\d:?\d\d$", text) else text)
    except ValueError:
        found = None
    if found is None:
        raise InvalidInput(f"{name}: {text[:60]!r} is no time; write 2026-11-22T10:00, or how long ago: 24h, 7d.")
    return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found


def _bounds(text: str, read: Any, least: Any) -> tuple[Any, Any]:
    """The inclusive bounds of ">5s", "<=2", "5": (from, to)."""
    match = _BOUND.fullmatch(text.strip())
    if not match:
        return None, None
    value = read(match[2].strip())
    sign = match[1] or "="
    low = value + least if sign == ">" else value if sign in {">=", "="} else None
    high = value - least if sign == "<" else value if sign in {"<=", "="} else None
    return low, high


def _priority(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,4}", text):
        raise InvalidInput(f"priority: {text[:40]!r} is no number of seconds; write >0, <=-60 or 120.")
    return int(text)


def _span(text: str) -> dt.timedelta:
    try:
        span = dt.timedelta(milliseconds=parse_ms(text))
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{text[:40]!r} is no duration ({error}); write >5s, <=2m or 1h30m.") from None
    if span > MAX_SPAN:
        raise InvalidInput(f"{text[:40]!r} is too long a duration.")
    return span


MOST_CHIPS = 20
"""Of tags: what is more is one chip, and refused by `criteria`."""


def chips(filters: Mapping[str, str], others: Mapping[str, str]) -> list[Chip]:
    """A chip for each filter. `others`: what else the address keeps (the order)."""
    made = []
    for name, value in filters.items():
        parts = [*dict.fromkeys(part.strip() for part in value.split(",", MOST_CHIPS))] if name == "tag" else [value]
        for part in parts:
            left = {name: ",".join(each for each in parts if each != part)}
            rest = {other: text for other, text in {**filters, **left}.items() if text} | dict(others)
            made.append(Chip(label=LABELS[name], value=part, without=f"?{urlencode(rest)}"))
    return made
