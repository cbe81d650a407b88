"""The forms of reference pages: a page with its note, tables, and types as readers know them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_NOTE = "<!-- Made from the code by `manage.py reference`; change the code instead. -->\n"


def page(title: str, *parts: str) -> str:
    return f"{_NOTE}\n# {title}\n\n" + "\n".join(part.rstrip() + "\n" for part in parts)


def rows_of(header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def type_of(field: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in field:
        target = schema["$defs"][field["$ref"].rsplit("/", 1)[1]]
        return (
            f"object: {', '.join(f'`{name}`' for name in target.get('properties', {}))}"
            if "properties" in target
            else type_of(target, schema)
        )
    if field.get("format") == "duration":
        return "duration"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(type_of(option, schema) for option in field["anyOf"]))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {type_of(field.get('items', {}), schema)}"
    return str(field.get("type", "any JSON"))
