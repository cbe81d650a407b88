"""Arguments and return values of tasks as plain JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from workflows.payload import Json

SHOWN_CHARACTERS = 80


def plain(value: object, what: str) -> Json:
    """The value as JSON holds it: tuples are lists then, bytes in UTF-8 are text. `what` names it in an error.

    Raises TypeError for what JSON does not have (keys that are no text among it: they would come back as text) and
    ValueError for numbers and bytes that it can't hold.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{what} is {value!r}: JSON has finite numbers only.")
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ValueError(
                f"{what}: unsupported value, bytes that are no text in UTF-8: encode them first."
            ) from None
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{what}: unsupported type of a key, {type(key).__name__}: JSON has text keys only.")
        return {str(key): plain(item, _inner(what, f".{key}")) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item, _inner(what, f"[{position}]")) for position, item in enumerate(value)]
    raise TypeError(
        f"{what}: unsupported type {type(value).__module__}.{type(value).__qualname__}, which is no JSON. "
        "Give text, numbers, booleans, None, lists and dicts: of a model instance its primary key, of a time its text."
    )


def _inner(what: str, step: str) -> str:
    path = what + step
    return path if len(path) <= SHOWN_CHARACTERS else f"{path[:SHOWN_CHARACTERS]}…"
