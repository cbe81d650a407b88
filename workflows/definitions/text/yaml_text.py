"""YAML 1.2 (core schema) to what `plain` reads, from the parser's events; nothing is constructed but plain values.

Aliases are copies and count as such; merge keys (`<<`) are understood; tags, directives and several documents are
refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML, events
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from workflows.definitions.text.plain import MAX_NODES, Oddity, Pairs

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
MAX_DEPTH = 100
MAX_DIGITS = 400


class YamlRefused(ValueError):
    """The text is no YAML that can be read; the message says where."""


def loads(text: str) -> Any:
    """The document: dicts as Pairs, lists, texts, numbers. Raises YamlRefused."""
    parser = YAML(typ="safe", pure=True)
    try:
        return _Builder(parser.parse(text)).document()
    except MarkedYAMLError as error:
        reason = str(error.problem or error.context or error).split("\n", 1)[0]
        raise YamlRefused(f"{_where(error.problem_mark)}{reason}") from None
    except YAMLError as error:
        raise YamlRefused(str(error).split("\n", 1)[0]) from None
    except RecursionError:
        raise YamlRefused("nested too deeply") from None


def _where(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""


class _Builder:
    def __init__(self, stream: Iterator[Any]) -> None:
        self._stream = stream
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._open: set[str] = set()
        self._nodes = 0
        self._depth = 0

    def document(self) -> Any:
        found: Any = None
        documents = 0
        for event in self._stream:
            if isinstance(event, events.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(event, "a second document begins; one file holds one flow")
                if event.version or event.tags:
                    self._refuse(event, "directives (%YAML, %TAG) are not read; remove the line")
                found = self._node(next(self._stream))
        return found

    def _refuse(self, event: Any, reason: str) -> None:
        raise YamlRefused(f"{_where(event.start_mark)}{reason}")

    def _node(self, event: Any) -> Any:
        if isinstance(event, events.AliasEvent):
            return self._alias(event)
        if getattr(event, "tag", None) is not None and str(event.tag) not in {"!", "None"}:
            self._refuse(event, f"the tag {str(event.tag)[:60]} is not read; write plain values")
        self._count(event, 1)
        before, anchor = self._nodes, event.anchor
        if anchor:
            self._open.add(anchor)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._refuse(event, f"nested more than {MAX_DEPTH} levels deep")
        value = self._value(event)
        self._depth -= 1
        if anchor:
            self._open.discard(anchor)
            self._anchors[anchor] = value, self._nodes - before + 1
        return value

    def _alias(self, event: Any) -> Any:
        if event.anchor in self._open:
            self._refuse(event, f"*{event.anchor} stands within itself")
        if event.anchor not in self._anchors:
            self._refuse(event, f"*{event.anchor} is an undefined alias: put &{event.anchor} before it")
        value, size = self._anchors[event.anchor]
        self._count(event, size)
        return value

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._refuse(event, f"more than {MAX_NODES:,} values, aliases written out")

    def _value(self, event: Any) -> Any:
        if isinstance(event, events.ScalarEvent):
            return event.value if event.style or str(event.tag) == "!" else _scalar(event.value)
        if isinstance(event, events.SequenceStartEvent):
            items = []
            while not isinstance(inner := next(self._stream), events.SequenceEndEvent):
                items.append(self._node(inner))
            return items
        pairs = Pairs()
        merged: list[tuple[Any, Any]] = []
        while not isinstance(inner := next(self._stream), events.MappingEndEvent):
            is_merge = isinstance(inner, events.ScalarEvent) and inner.value == "<<" and not inner.style
            key = self._node(inner)
            value = self._node(next(self._stream))
            if is_merge:
                merged += self._merged(inner, value)
            else:
                pairs.append((key, value))
        own = {key for key, _ in pairs if isinstance(key, str)}
        inherited = {key: value for key, value in reversed(merged) if isinstance(key, str) and key not in own}
        pairs[:0] = inherited.items()
        return pairs

    def _merged(self, event: Any, value: Any) -> list[tuple[Any, Any]]:
        sources = [value] if isinstance(value, Pairs) else value
        if not isinstance(sources, list) or not all(isinstance(source, Pairs) for source in sources):
            self._refuse(event, "<< takes a mapping, or a list of mappings")
        return [pair for source in sources for pair in source]


def _scalar(text: str) -> Any:
    """A plain scalar by the core schema: null, booleans, whole numbers, numbers; all else is text."""
    if _NULL.fullmatch(text):
        return None
    if _BOOLEAN.fullmatch(text):
        return text.lower() == "true"
    if len(text) > MAX_DIGITS and (_INTEGER.fullmatch(text) or _FLOAT.fullmatch(text)):
        return Oddity("a number of more than 400 digits; write it as text, in quotes")
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NO_NUMBER.fullmatch(text):
        return Oddity(f"{text} is no number of JSON; write it as text, in quotes")
    return text


_OLD_NUMBER = re.compile(
    r"[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"
    r"|[-+]?0x[0-9a-fA-F_]*_[0-9a-fA-F_]*"
)
_OLD_TIME = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9].*)?")
_OLD_WORD = re.compile(r"(?i:y|n|yes|no|on|off)|=|<<")


def reads_as_text(text: str) -> bool:
    """Whether YAML of any version reads the plain scalar as this text."""
    old = _OLD_WORD.fullmatch(text) or _OLD_NUMBER.fullmatch(text) or _OLD_TIME.fullmatch(text)
    return isinstance(_scalar(text), str) and not old


def changed_readings(text: str) -> list[str]:
    """The plain values that version 0.1.0 read as something else, each with its line; for text that `loads` reads."""
    found = []
    for event in YAML(typ="safe", pure=True).parse(text):
        if not isinstance(event, events.ScalarEvent) or event.style:
            continue
        now, before = _scalar(event.value), _old_reading(event.value)
        if before:
            reads = "text" if isinstance(now, str) else f"the number {now}"
            line = event.start_mark.line + 1
            found.append(f"line {line}: {event.value} is {reads} now; 0.1.0 read {before}. Quote it if you mean text")
    return found


def _old_reading(text: str) -> str:
    if _OLD_TIME.fullmatch(text):
        return "a date"
    if _OLD_NUMBER.fullmatch(text):
        return "another number"
    is_new_number = re.fullmatch(r"0o[0-7]+|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?[0-9]*\.?[0-9]+[eE][0-9]+", text)
    return "text" if is_new_number else ""
