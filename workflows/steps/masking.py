"""Secrets are replaced by `***` in whatever is stored, logged or shown, in every way in which formats write them.

A value is found as it stands, in any case (a host is lower-cased), percent-encoded, within JSON, Python or HTML text,
in hexadecimal, and in base64 at any offset of a longer text. A quick look for its plain parts decides where a text is
searched at all, so that texts without secrets cost little. Mask first, then cut: what a cut leaves of a secret is not
found any more.
"""

from __future__ import annotations

import base64
import functools
import html.entities
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

MASK = "***"
SHORTEST = 4
"""Shorter values are masked only where they stand alone: within other text they would tear everything up."""
_LINE = 8
_LONG = 128
_HUGE = 8_192
_PLAIN = re.compile(r"[A-Za-z0-9]+")
_PIECES = re.compile(r"\\+|[^\\]", re.DOTALL)
"""A run of backslashes, which every escaping makes longer, or one character."""
_MARKER = re.compile(r"-----[A-Z ]+-----")
_WIDEST = 40
"""Characters that one is written as, at most."""
_BASE64 = "[A-Za-z0-9+/_-]"


class Hidden:
    """One value and the ways of writing it."""

    def __init__(self, value: str) -> None:
        self.value = value
        self._encoded = value.encode("utf-8", "surrogatepass")
        self._offsets = [*_base64_parts(self._encoded)]
        self._clues = [*self._find_clues()]
        self._reach = len(value) * _WIDEST + 16

    def _find_clues(self) -> Iterator[list[str]]:
        """For each way of writing it, parts that are all in a text that holds it so: the first is what is sought."""
        yield _plain_parts(self.value)
        yield [self._encoded.hex()]
        for _, inside, _ in self._offsets:
            yield _plain_parts(inside)
        plain = max(_PLAIN.findall(self.value), key=len, default="")[:2]
        if plain:  # encoders that spare nothing
            yield ["%", "".join(f"%{ord(character):02x}" for character in plain)][::-1]
            yield ["%25", "".join(f"%25{ord(character):02x}" for character in plain)][::-1]
            yield ["\\u00", "".join(f"\\u{ord(character):04x}" for character in plain)][::-1]

    def spans(self, text: str, lowered: str) -> Iterator[tuple[int, int]]:
        """Where it stands in the text. Only the surroundings of its clues are searched."""
        end = 0
        for start, stop in sorted(self._surroundings(lowered)):
            for match in self._pattern.finditer(text, max(start, end), stop):
                yield match.span()
                end = match.end()

    def _surroundings(self, lowered: str) -> Iterator[tuple[int, int]]:
        for clue in self._clues:
            if not _all_in(clue, lowered):
                continue
            if not clue[0]:
                yield 0, len(lowered)
                continue
            start = last = lowered.find(clue[0])
            while (at := lowered.find(clue[0], last + 1)) >= 0:
                if at - last > 2 * self._reach:
                    yield max(0, start - self._reach), last + self._reach
                    start = at
                last = at
            yield max(0, start - self._reach), last + self._reach

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        is_long = len(self.value) > _LONG
        if len(self.value) > _HUGE:
            return re.compile("|".join(re.escape(each) for each in (self.value, json.dumps(self.value)[1:-1])))
        plain = "".join(_written(part, is_long) for part in _PIECES.findall(self.value))
        offsets = "|".join(
            f"{before}{''.join(_of_base64(character) for character in inside)}{after}"
            for before, inside, after in self._offsets
        )
        return re.compile(f"(?i:{plain})|(?i:{self._encoded.hex()})|(?-i:{offsets})")


def _plain_parts(text: str) -> list[str]:
    """The parts that no usual encoding changes but in case, in lower case, the longest first; an empty one at least."""
    return sorted({part.lower() for part in _PLAIN.findall(text)}, key=len, reverse=True) or [""]


def _all_in(parts: list[str], text: str) -> bool:
    return all(part in text for part in parts)


def _lowered(text: str) -> str:
    """The text in lower case, of the same length: this letter alone becomes two."""
    return text.replace("\u0130", "i").lower()


def _base64_parts(encoded: bytes) -> Iterator[tuple[str, str, str]]:
    """For each offset within a longer text: what its base64 always is, between patterns of characters that it shares
    with its neighbours."""
    for offset in range(3):
        start, end = -(-8 * offset // 6), 8 * (offset + len(encoded)) // 6
        text = base64.b64encode(bytes(offset) + encoded + bytes(3)).decode()
        shared_end = (8 * (offset + len(encoded))) % 6 != 0
        yield f"{_BASE64}?" if offset else "", text[start:end], f"{_BASE64}?" if shared_end else ""


def _of_base64(character: str) -> str:
    """A character of base64, of the alphabet for URLs too, and as it is written in JSON, HTML and URLs."""
    if character == "+":
        return r"(?:[+-]|%(?:25){0,3}2[Bb]|\\{1,8}u002[Bb]|&#43;|&#[xX]2[Bb];)"
    if character == "/":
        return r"(?:\\{0,8}/|_|%(?:25){0,3}2[Ff]|\\{1,8}u002[Ff]|&#47;|&#[xX]2[Ff];)"
    return character


@functools.lru_cache(maxsize=4096)
def _written(character: str, is_long: bool) -> str:
    """A pattern of the ways of writing a character. Those of a long value write letters and digits as they are."""
    if character[0] == "\\":
        count = len(character)
        one = r"(?:%(?:25){0,3}5c|&(?:amp;){0,2}#0{0,4}92;|&(?:amp;){0,2}#x0{0,4}5c;|\\{1,8}u005c)"
        return rf"(?:\\{{{count},{8 * count}}}|{one}{{{count}}})"
    if is_long and character.isascii() and character.isalnum():
        return character
    # Two ways that match the same text would make a search take exponential time: in any case it is one.
    variants = {
        (len(each), each.casefold()): each for each in (character.upper(), character.lower(), character)
    }.values()
    ways: list[str] = [*_SPECIAL_WAYS.get(character, ()), *map(re.escape, variants)]
    for variant in {character, character.lower(), character.upper()}:
        ways.append("".join(f"%(?:25){{0,3}}{byte:02x}" for byte in variant.encode("utf-8", "surrogatepass")))
        units = variant.encode("utf-16-be", "surrogatepass")
        ways.append("".join(rf"\\{{1,8}}u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)))
        if len(variant) == 1 and not (variant.isascii() and variant.isalnum()):
            ways += _written_by_number(ord(variant))
    return f"(?:{'|'.join(dict.fromkeys(ways))})"


_SPECIAL_WAYS = {
    "\n": (r"\\{1,8}n", r"(?:\r|\\{1,8}r|%(?:25){0,3}0d)(?:\n|\\{1,8}n|%(?:25){0,3}0a)"),
    "\r": (r"\\{1,8}r",),
    "\t": (r"\\{1,8}t",),
    "\b": (r"\\{1,8}b",),
    "\f": (r"\\{1,8}f",),
    " ": (r"\+",),
    '"': (r"\\{1,8}\"",),
    "'": (r"\\{1,8}'", r"&(?:amp;){0,2}apos;"),
    "/": (r"\\{1,8}/",),
}


def _written_by_number(code: int) -> Iterator[str]:
    """In Python and in HTML."""
    yield rf"\\{{1,8}}U{code:08x}"
    yield f"&(?:amp;){{0,2}}#0{{0,4}}{code};"
    yield f"&(?:amp;){{0,2}}#x0{{0,4}}{code:x};"
    if code < 256:
        yield rf"\\{{1,8}}x{code:02x}"
    if code in html.entities.codepoint2name:
        yield f"&(?:amp;){{0,2}}{html.entities.codepoint2name[code]};"


class Secrets:
    """The secrets that a try of a step knows: those of its organization, and what is derived or fetched on the way."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._hidden: dict[str, Hidden] = {}
        self._short: set[str] = set()
        for value in values:
            self._add(value)
            if 0 < len(value) < SHORTEST:
                self._short.add(value)

    def __bool__(self) -> bool:
        return bool(self._hidden or self._short)

    def copy(self) -> Secrets:
        """The same secrets, to be added to; what was prepared for finding them is shared."""
        copied = Secrets()
        copied._hidden, copied._short = dict(self._hidden), set(self._short)
        return copied

    def add(self, *values: str | None) -> None:
        """From now on hide these too: what was made of a secret, or was fetched with one."""
        for value in values:
            self._add(value or "")

    def _add(self, value: str) -> None:
        lines = [line.strip() for line in value.splitlines()] if "\n" in value else []
        long_lines = [line for line in lines if len(line) >= _LINE and not _MARKER.fullmatch(line)]
        for each in (value, value.strip(), *long_lines):
            if len(each) >= SHORTEST and each not in self._hidden:
                self._hidden[each] = Hidden(each)

    def holds(self, text: str) -> bool:
        """Whether a text holds one of them."""
        return self.mask(text) != text

    def mask(self, text: str) -> str:
        """The text with `***` in the place of every secret."""
        if text in self._short:
            return MASK
        return _masked(text, self._hidden.values())

    def mask_json(self, value: Any, dumped: str | None = None) -> Any:
        """The JSON value with the secrets replaced in every text, keys included. `dumped`: its JSON text, where that
        is known: a value without secrets is then given back as it is."""
        hidden = [*self._hidden.values()]
        if dumped is not None:
            lowered = _lowered(dumped)
            hidden = [each for each in hidden if any(True for _ in each.spans(dumped, lowered))]
            if not hidden and not any(json.dumps(short, ensure_ascii=False) in dumped for short in self._short):
                return value
        return self._mask_json(value, hidden)

    def _mask_json(self, value: Any, hidden: list[Hidden]) -> Any:
        if isinstance(value, str):
            return MASK if value in self._short else _masked(value, hidden)
        if isinstance(value, dict):
            return {self._mask_json(key, hidden): self._mask_json(item, hidden) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._mask_json(item, hidden) for item in value]
        return value


def _masked(text: str, hidden: Iterable[Hidden]) -> str:
    """Every secret is sought in the whole text, so that of two that overlap no part is left."""
    lowered = _lowered(text)
    spans = sorted(span for each in hidden for span in each.spans(text, lowered))
    if not spans:
        return text
    pieces, end = [text[: spans[0][0]], MASK], spans[0][1]
    for start, stop in spans[1:]:
        if start > end:
            pieces += [text[end:start], MASK]
        end = max(end, stop)
    return "".join([*pieces, text[end:]])


def of(secrets: Secrets | Iterable[str]) -> Secrets:
    """The secrets, where values are given for them."""
    return secrets if isinstance(secrets, Secrets) else Secrets(secrets)


def mask(text: str, values: Iterable[str]) -> str:
    """The text with every one of the values replaced."""
    return Secrets(values).mask(text)


def mask_json(value: Any, values: Iterable[str]) -> Any:
    """The JSON value with every one of the values replaced, in keys too."""
    return Secrets(values).mask_json(value)
