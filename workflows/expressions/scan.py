"""The one scan over an expression's text that knows its string literals."""

from collections.abc import Iterator


def outside_strings(source: str, start: int = 0) -> Iterator[tuple[int, str]]:
    """Each (index, character) from `start` that stands outside string literals; their quotes are left out too."""
    quote, position = "", start
    while position < len(source):
        character = source[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        else:
            yield position, character
        position += 1
