"""Answers, pages and messages without the values that an organization's rules hide.

This stands at the last place before an answer goes out, so that nothing that is shown can go around it. Within payloads
a value is masked by its place; in all other texts (errors, logs, reasons) the values that are known to stand at such
places are masked wherever they occur, before anything is cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from workflows.edge import redaction
from workflows.edge.redaction import MASK, Rules
from workflows.services.access.hidden import Known
from workflows.steps.masking import Secrets

PAYLOADS = frozenset({
    "input", "output", "data", "user", "eventdata", "value", "result", "patch", "progress", "details", "facts",
})  # fmt: skip
"""Fields of answers that hold what flows and their callers have made."""
STRUCTURE = frozenset({
    "id", "status", "state", "type", "category", "flow", "workflow", "kind", "trigger", "version", "action", "name",
    "slug", "code", "severity", "hash", "key", "steps", "verb",
})  # fmt: skip
"""Fields of answers that hold words of ours: programs read them."""
SHORTEST_ON_PAGES = 6
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TAG = re.compile(r"(<(?:script|style)\b.*?</(?:script|style)>|<[^>]*>)", re.DOTALL | re.IGNORECASE)
_SHOWN_ATTRIBUTE = re.compile(r'(\s(?:title|value|content|alt|placeholder|aria-label|data-[\w-]+)=")([^"]*)(")')


def answer(org_id: UUID, shown: Any) -> Any:
    """An answer (plain JSON values, UUIDs and times) of an organization, without what its rules hide."""
    rules = redaction.rules_of(org_id) if redaction.are_there_any() else None
    if not rules:
        return shown
    ids = [found for text in _texts(shown) for found in _ID.findall(text)]
    known = Known([*rules.values(shown), *redaction.known_values(_uuids(ids))])
    return _answer(shown, rules, known)


def _answer(shown: Any, rules: Rules, known: Known) -> Any:
    if isinstance(shown, dict):
        return {name: _field(str(name), item, rules, known) for name, item in shown.items()}
    if isinstance(shown, list | tuple):
        return [_answer(item, rules, known) for item in shown]
    return known.hide(shown) if isinstance(shown, str) else shown


def _field(name: str, value: Any, rules: Rules, known: Known) -> Any:
    folded = name.casefold()
    if folded in PAYLOADS:
        return known.hide(rules.masked({name: value})[name])
    if isinstance(value, str) and (folded in STRUCTURE or folded.endswith("id")):
        return value
    return _answer(value, rules, known)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str | UUID):
        yield str(value)


def _uuids(texts: Iterable[str]) -> list[UUID]:
    return [UUID(text) for text in list(dict.fromkeys(texts))[: redaction.MOST_IDS]]


def payload(org_id: UUID, value: Any, name: str) -> Any:
    """A payload that is shown by itself; `name`: what it is (`input`, `output`, `data`)."""
    return redaction.rules_of(org_id).masked({name: value})[name]


def text(shown: str, ids: Iterable[UUID]) -> str:
    """A text about these runs, such as an alert's."""
    return Secrets(redaction.known_values(list(ids))).mask(shown)


def page(content: str, ids: Iterable[UUID] = ()) -> str:
    """A page of HTML, or the JSON that a page asks for, about the runs that it names; its tags stay as they are.

    A value of fewer than 6 characters is masked in payloads only: in a text it would be found by chance.
    """
    if not redaction.are_there_any():
        return content
    found = [*ids, *_uuids(_ID.findall(content))]
    values = [value for value in redaction.known_values(found) if len(value) >= SHORTEST_ON_PAGES]
    if not values:
        return content
    secrets = Secrets(values)
    if content[:1] in {"{", "["}:
        return json.dumps(_of_json(json.loads(content), secrets), ensure_ascii=False, indent=2)
    return _of_html(content, secrets)


def _of_json(value: Any, secrets: Secrets) -> Any:
    if isinstance(value, str):
        return _of_html(value, secrets) if "<" in value else secrets.mask(value)
    if isinstance(value, dict):
        return {name: _of_json(item, secrets) for name, item in value.items()}
    if isinstance(value, list):
        return [_of_json(item, secrets) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and secrets.holds(str(value)):
        return MASK
    return value


def _of_html(content: str, secrets: Secrets) -> str:
    parts = _TAG.split(content)  # every second one is a tag
    return "".join(
        _SHOWN_ATTRIBUTE.sub(lambda match: match[1] + secrets.mask(match[2]) + match[3], part)
        if position % 2
        else secrets.mask(part)
        for position, part in enumerate(parts)
    )
