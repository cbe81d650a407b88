"""Tags of runs: short words by which people find runs again. One rule for every way in."""

from __future__ import annotations

import re
from collections.abc import Iterable

from workflows.errors import InvalidInput

MAX_TAGS = 20
MAX_CHARACTERS = 64
FORM = (
    f"a tag has 1 to {MAX_CHARACTERS} letters (a–z, A–Z), digits and the signs _ - . : / @ +, "
    "and begins with a letter or digit"
)
SHOWN = 80
_TAG = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.:/@+-]{{0,{MAX_CHARACTERS - 1}}}", re.ASCII)


def is_tag(text: object) -> bool:
    """Whether a tag may be written so."""
    return isinstance(text, str) and _TAG.fullmatch(text) is not None


def checked(given: Iterable[object], *, what: str = "tags") -> tuple[str, ...]:
    """The tags, each once, in their order. Raises InvalidInput for one of another form, and for too many."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InvalidInput(f'{what}: give a list of texts, such as ["nightly"].')
    found: dict[str, None] = {}
    for place, tag in enumerate(given):
        found[check(tag, f"{what}[{place}]")] = None
        if len(found) > MAX_TAGS:
            raise InvalidInput(f"{what}: a run has at most {MAX_TAGS} tags, those of its flow included.")
    return tuple(found)


def check(tag: object, where: str) -> str:
    """The tag. Raises InvalidInput, with its place, for what is none."""
    if not isinstance(tag, str) or not is_tag(tag):
        raise InvalidInput(f"{where}: {shown(tag)} is no tag; {FORM}.")
    return tag


def shown(value: object) -> str:
    """A value in the sentence that refuses it, cut."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def wanted(text: str) -> tuple[str, ...]:
    """The tags of a filter: several stand between commas, and a run has to have all of them. Raises InvalidInput."""
    return checked([part for each in text.split(",") if (part := each.strip())], what="tag")


def as_array(tags: Iterable[str]) -> str:
    """Tags that were checked, as Postgres writes an array of texts: none of their characters has to be escaped."""
    return "{" + ",".join(f'"{tag}"' for tag in tags) + "}"
