"""Answers, pages and messages without the values that an organization's rules hide.

This stands at the last place before an answer goes out, so that nothing that is shown can go around it. Within payloads
a value is masked by its place; in all other texts (errors, logs, reasons) the values that are known to stand at such
places are masked wherever they occur, before anything is cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from typing import Any
from uuid import UUID

from workflows.edge import redaction
from workflows.edge.redaction import MASK, HiddenValues, Rules
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
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?")
_TAG = re.compile(r"(<(?:script|style)\b.*?</(?:script|style)>|<[^>]*>)", re.DOTALL | re.IGNORECASE)
_ROW = re.compile(r"(<tr\b.*?</tr>)", re.DOTALL | re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9]{64}")
"""The token of a form, without which it can't be sent."""
_SHOWN_ATTRIBUTE = re.compile(r'(\s(?:title|value|content|alt|placeholder|aria-label|data-[\w-]+)=")([^"]*)(")')


def answer(org_id: UUID, shown: Any) -> Any:
    """An answer (plain JSON values, UUIDs and times) of an organization, without what its rules hide."""
    rules = redaction.rules_of(org_id) if redaction.are_there_any() else None
    if not rules:
        return shown
    found = redaction.find_values(list(_ids(shown)), {org_id})
    own = list(dict.fromkeys(_values(shown, rules)))
    known = Known([*own[: redaction.MOST_KNOWN], *found.values])
    made = _Answer(rules, known, found.unread)
    return made.whole(shown) if len(own) > redaction.MOST_KNOWN else made.of(shown)


class _Answer:
    """An answer without what the rules hide. `unread`: the ids of rows of which it is not known: no text of theirs is
    shown."""

    def __init__(self, rules: Rules, known: Known, unread: Set[UUID] = frozenset()) -> None:
        self._rules, self._known, self._unread = rules, known, unread

    def of(self, shown: Any) -> Any:
        if isinstance(shown, dict):
            if self._unread and not self._unread.isdisjoint(_own_ids(shown)):
                return self.whole(shown)
            return {name: self._field(str(name), item) for name, item in shown.items()}
        if isinstance(shown, list | tuple):
            return [self.of(item) for item in shown]
        return self._known.hide(shown) if isinstance(shown, str) else shown

    def _field(self, name: str, value: Any) -> Any:
        if name.casefold() in PAYLOADS:
            return self._known.hide(self._rules.masked({name: value})[name])
        return value if _is_of_ours(name, value) else self.of(value)

    def whole(self, shown: Any, name: str = "", *, is_payload: bool = False) -> Any:
        """With every text masked, but words of ours and times."""
        if isinstance(shown, dict):
            return {
                key: self.whole(item, str(key), is_payload=is_payload or str(key).casefold() in PAYLOADS)
                for key, item in shown.items()
            }
        if isinstance(shown, list | tuple):
            return [self.whole(item, name, is_payload=is_payload) for item in shown]
        if is_payload:
            return MASK if shown is not None and not isinstance(shown, bool) else shown
        is_open = not isinstance(shown, str) or not shown or _is_of_ours(name, shown) or _TIME.fullmatch(shown)
        return shown if is_open else MASK


def _is_of_ours(name: str, value: Any) -> bool:
    folded = name.casefold()
    return isinstance(value, str) and (folded in STRUCTURE or folded.endswith("id"))


def _values(shown: Any, rules: Rules) -> Iterator[str]:
    """The hidden texts of the payloads of an answer. (Its other fields have names of ours, which no rule means.)"""
    if isinstance(shown, dict):
        for name, item in shown.items():
            if str(name).casefold() in PAYLOADS:
                yield from rules.values({name: item})
            else:
                yield from _values(item, rules)
    elif isinstance(shown, list | tuple):
        for item in shown:
            yield from _values(item, rules)


def _ids(shown: Any) -> Iterator[UUID]:
    """What the fields of an answer name that are ids: none that a payload or a text holds."""
    if isinstance(shown, dict):
        yield from _own_ids(shown)
        for name, item in shown.items():
            if str(name).casefold() not in PAYLOADS:
                yield from _ids(item)
    elif isinstance(shown, list | tuple):
        for item in shown:
            yield from _ids(item)


def _own_ids(row: dict[Any, Any]) -> Iterator[UUID]:
    """The ids that a row names itself; an alert says `execution` for a run's."""
    for name, item in row.items():
        if str(name).casefold().endswith(("id", "ids", "execution")):
            for each in item if isinstance(item, list | tuple) else [item]:
                if isinstance(each, UUID):
                    yield each
                elif isinstance(each, str) and _ID.fullmatch(each):
                    yield UUID(each)


def payload(org_id: UUID, value: Any, name: str) -> Any:
    """A payload that is shown by itself; `name`: what it is (`input`, `output`, `data`)."""
    return redaction.rules_of(org_id).masked({name: value})[name]


def text(shown: str, ids: Iterable[UUID]) -> str:
    """A text about these runs, such as an alert's."""
    found = redaction.find_values(list(ids))
    return MASK if found.unread else Secrets(found.values).mask(shown)


def texts(shown: Sequence[tuple[str, UUID]]) -> list[str]:
    """Texts about a run each, read for together."""
    found = redaction.find_values([run_id for _, run_id in shown])
    secrets = Secrets(found.values)
    return [MASK if run_id in found.unread else secrets.mask(about) for about, run_id in shown]


def page(content: str, ids: Iterable[UUID] = (), of: Collection[UUID] | None = None) -> str:
    """A page of HTML, or the JSON that a page asks for, about the runs that it names; its tags stay as they are.

    `of`: the organizations whose values it may hold (None: all). A value of fewer than 6 characters is masked in
    payloads only: in a text it would be found by chance.
    """
    if not redaction.are_there_any():
        return content
    given = list(ids)
    if content[:1] in {"{", "["}:
        value = json.loads(content)
        found = redaction.find_values([*given, *_ids(value), *_ids_of_pages(value)], of)
        return json.dumps(_Page(found, given).json(value), ensure_ascii=False, indent=2) if _is_any(found) else content
    found = redaction.find_values([*given, *_ids_of_tags(content)], of)
    return _Page(found, given).html(content) if _is_any(found) else content


def _is_any(found: HiddenValues) -> bool:
    return bool(found.unread or any(len(value) >= SHORTEST_ON_PAGES for value in found.values))


def _ids_of_pages(value: Any) -> Iterator[UUID]:
    """The ids of the parts of pages within JSON."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _ids_of_pages(item)
    elif isinstance(value, str) and "<" in value:
        yield from _ids_of_tags(value)


def _ids_of_tags(content: str) -> Iterator[UUID]:
    """The ids that the tags of a page have, such as addresses: none of what it shows."""
    for tag in _TAG.findall(content):
        for each in _ID.findall(_SHOWN_ATTRIBUTE.sub("", tag)):
            yield UUID(each)


class _Page:
    """A page without the known values. Where it is about an id that was not looked at, no text of its rows is shown: of
    the row of a table that names it, or of the page where it stands elsewhere."""

    def __init__(self, found: HiddenValues, ids: Collection[UUID]) -> None:
        self._secrets = Secrets(value for value in found.values if len(value) >= SHORTEST_ON_PAGES)
        self._unread = found.unread
        self._is_about_unread = not found.unread.isdisjoint(ids)

    def json(self, value: Any, name: str = "", *, is_unread: bool = False) -> Any:
        if isinstance(value, dict):
            is_unread = is_unread or self._is_about_unread or not self._unread.isdisjoint(_own_ids(value))
            return {key: self.json(item, str(key), is_unread=is_unread) for key, item in value.items()}
        if isinstance(value, list):
            return [self.json(item, name, is_unread=is_unread) for item in value]
        if isinstance(value, str):
            if "<" in value:
                return self.html(value)
            is_whole = is_unread and value and not _is_of_ours(name, value) and not _TIME.fullmatch(value)
            return MASK if is_whole else self._secrets.mask(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and self._secrets.holds(str(value)):
            return MASK
        return value

    def html(self, content: str) -> str:
        if not self._unread:
            return _of_html(content, self._secrets.mask)
        parts = _ROW.split(content)  # every second one is a row of a table
        rest = "".join(parts[::2])
        is_whole = self._is_about_unread or self._names_unread(rest)
        return "".join(
            _of_html(
                part, self._whole if is_whole or (position % 2 and self._names_unread(part)) else self._secrets.mask
            )
            for position, part in enumerate(parts)
        )

    def _whole(self, text: str) -> str:
        """`***` for a text; ids and the token of a form stay, since programs read them."""
        return self._secrets.mask(text) if not text.strip() or _ID.fullmatch(text) or _TOKEN.fullmatch(text) else MASK

    def _names_unread(self, content: str) -> bool:
        return not self._unread.isdisjoint(_ids_of_tags(content))


def _of_html(content: str, mask: Callable[[str], str]) -> str:
    def of_tag(tag: str) -> str:
        return _SHOWN_ATTRIBUTE.sub(lambda match: match[1] + mask(match[2]) + match[3], tag)

    parts = _TAG.split(content)  # every second one is a tag
    return "".join(of_tag(part) if position % 2 else mask(part) for position, part in enumerate(parts))
