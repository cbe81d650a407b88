"""Addresses whose last part is a secret: event keys, webhooks, callbacks. In a log line they are masked."""

from __future__ import annotations

import re

MASK = "***"
_SECRET_PART = re.compile(r"""(/(?:e|hooks|callbacks)/+)[^\s"'\\<>)\]}]+""", re.IGNORECASE)
_KEY = re.compile(r"\bhr_(api|event)_[A-Za-z0-9_-]{20,}")


def mask_path_tokens(text: str) -> str:
    """The text without keys and without the secret parts of `/e/…`, `/hooks/…` and `/callbacks/…`.

    A backslash ends a secret part, so that a line of JSON stays one.
    """
    if "/" in text:  # most lines have none, and every step writes lines
        text = _SECRET_PART.sub(rf"\1{MASK}", text)
    return _KEY.sub(rf"hr_\1_{MASK}", text) if "hr_" in text else text
