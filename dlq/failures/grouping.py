"""Fingerprints: which dead letters have the same cause. Pure."""

from __future__ import annotations

import hashlib
import re
from uuid import UUID, uuid5

from workflows.steps.outcome import StepError

_NAMESPACE = UUID("6f1a1c52-3c0e-4c3b-9d55-0f4d6f1f7a10")
MAX_CHARACTERS = 500
_QUOTED = re.compile(r"'[^'\n]{1,200}'|\"[^\"\n]{1,200}\"|`[^`\n]{1,200}`")
_VARYING: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"), "<uuid>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"), "<time>"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "<mail>"),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b"), "<address>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<hex>"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}\b"), "<hex>"),
    (re.compile(r"\b(?:[A-Za-z]{1,12}[-_])?(?=[A-Za-z0-9]*[A-Za-z])(?=[A-Za-z0-9]*\d)[A-Za-z0-9]{6,}\b"), "<id>"),
    (re.compile(r"(?<![A-Za-z0-9])-?\d+(?:[.,]\d+)*(?:e[+-]?\d+)?"), "<n>"),
)
_FRAME = re.compile(r'File "([^"]+)", line \d+(?:, in (\S+))?')


def normalise(message: str) -> str:
    """The message without what differs from one failure to the next: ids, numbers, times, addresses, quoted values."""
    text = " ".join(message.split())[: MAX_CHARACTERS * 4]
    for pattern, placeholder in _VARYING[:3]:
        text = pattern.sub(placeholder, text)
    text = _QUOTED.sub("<value>", text)
    for pattern, placeholder in _VARYING[3:]:
        text = pattern.sub(placeholder, text)
    return text[:MAX_CHARACTERS]


def location(traceback: str) -> str:
    """File and function of the innermost frame; empty where there is none. Lines are left out: they move."""
    frames = _FRAME.findall(traceback)
    if not frames:
        return ""
    file, function = frames[-1]
    return f"{file.replace(chr(92), '/').rsplit('/', 1)[-1]}:{function or '<module>'}"[:300]


def fingerprint(step_type: str, error: StepError) -> tuple[str, str, str]:
    """(fingerprint, normalised message, location) of a failure of a step of this type."""
    message, where = normalise(error.message), location(error.traceback)
    parts = (step_type, error.category.value, error.name, message, where)
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "replace")).hexdigest()[:32], message, where


def group_id(org_id: UUID, print_: str) -> UUID:
    """The group's id: the same for everybody who computes it, so that nobody has to ask for it."""
    return uuid5(_NAMESPACE, f"{org_id}{print_}")
