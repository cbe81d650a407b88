"""The tokens of CEL: names, numbers, texts with their escapes, operators."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from workflows.errors import ExpressionError

KEYWORDS = frozenset({"in", "true", "false", "null"})

_TOKEN = re.compile(
    r"""(?P<space>[ \t\n\f\r]+|//[^\n]*)
    |(?P<text>[rR]?[bB]?[rR]?(?:'''|\"\"\"|'|"))
    |(?P<uint>(?:0[xX][0-9a-fA-F]+|[0-9]+)[uU])
    |(?P<double>[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
    |(?P<int>0[xX][0-9a-fA-F]+|[0-9]+)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<operator>&&|\|\||<=|>=|==|!=|[-+*/%!<>?:.,()\[\]{}])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:([abfnrtv\\?\"'`])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2}))")
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Token(NamedTuple):
    kind: str
    text: str
    at: int


def scan(source: str) -> tuple[list[Token], dict[int, str | bytes]]:
    """The tokens of an expression, and the values of its text literals by where they begin. Raises ExpressionError."""
    scanner = _Scanner(source)
    return list(scanner.tokens()), scanner.literals


def fail(source: str, at: int, reason: str) -> NoReturn:
    """Raises ExpressionError with the line and column of a position."""
    line = source.count("\n", 0, at) + 1
    column = at - (source.rfind("\n", 0, at) + 1) + 1
    raise ExpressionError(f"line {line}, column {column}: {reason}")


class _Scanner:
    def __init__(self, source: str) -> None:
        self.source = source
        self.literals: dict[int, str | bytes] = {}

    def tokens(self) -> Iterator[Token]:
        position = 0
        while position < len(self.source):
            found = _TOKEN.match(self.source, position)
            if found is None:
                fail(self.source, position, f"{self.source[position]!r} is not expected here")
            kind, text = str(found.lastgroup), found.group()
            if kind == "text":
                end, value = self._string(position, text)
                self.literals[position] = value
                yield Token("literal", self.source[position:end], position)
                position = end
                continue
            if kind != "space":
                is_word = kind == "name" and text in KEYWORDS
                yield Token("operator" if is_word and text == "in" else kind, text, position)
            position = found.end()
        yield Token("end", "", len(self.source))

    def _string(self, start: int, opening: str) -> tuple[int, str | bytes]:
        marks = opening.rstrip("'\"").lower()
        quote = opening[len(marks) :]
        position, pieces = start + len(opening), []
        while not self.source.startswith(quote, position):
            if position >= len(self.source) or (len(quote) == 1 and self.source[position] in "\r\n"):
                fail(self.source, start, "a text is never closed")
            if self.source[position] == "\\" and "r" not in marks:
                found = _ESCAPE.match(self.source, position)
                if found is None:
                    fail(self.source, position, "an unknown escape in a text; write \\\\ for a backslash")
                pieces.append(self._escaped(found, position, in_bytes="b" in marks))
                position = found.end()
            else:
                pieces.append(self.source[position].encode("utf-8", "surrogatepass"))
                position += 1
        whole = b"".join(pieces)
        return position + len(quote), whole if "b" in marks else whole.decode("utf-8", "surrogatepass")

    def _escaped(self, found: re.Match[str], at: int, *, in_bytes: bool) -> bytes:
        simple, byte, short, long, octal = found.groups()
        if simple:
            return _SIMPLE.get(simple, simple).encode()
        code = int(byte or short or long, 16) if octal is None else int(octal, 8)
        if in_bytes and not (short or long):
            return bytes([code])
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            fail(self.source, at, "no such character")
        return chr(code).encode()
