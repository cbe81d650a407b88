"""Values that somebody sends back as they were shown to them, hidden: what is stored is never the mask.

Who repeats a run or sends an input again with changes has seen `***` where the rules of the organization hide a value.
At such a place the value of the original is taken; where it can't be told which one is meant, it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from workflows.edge import redaction
from workflows.edge.redaction import MASK
from workflows.errors import InvalidInput

NOTHING: Any = object()
"""For `original`: the value is made from no other one."""


def restored(org_id: UUID, given: Any, original: Any, *, what: str, ids: Iterable[UUID] = ()) -> Any:
    """The given value with the original's where it has a mask. `ids`: the runs whose hidden values may stand within
    its texts. Raises InvalidInput for a mask that stands for nothing that can be told."""
    if not _has_mask(given) or not redaction.rules_of(org_id):
        return given
    known = [*redaction.rules_of(org_id).values({what: original}, original), *redaction.known_values([*ids])]
    return put_in(given, original, known, what=what)


def put_in(given: Any, original: Any, known: Sequence[str] = (), *, what: str) -> Any:
    """The given value with the original's where it has a mask; `known`: texts that are hidden wherever they stand.
    Raises InvalidInput."""
    return _Original(known).take(given, original, what)


def _has_mask(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_mask(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_has_mask(item) for item in value)
    return isinstance(value, str) and MASK in value


def _fits(parts: list[str], text: str) -> bool:
    """Whether the text has these parts in this order, with anything between them."""
    first, *middle, last = parts
    if not (text.startswith(first) and text.endswith(last) and len(text) >= len(first) + len(last)):
        return False
    position, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


class _Original:
    """What the masks of a value stand for. `known`: the texts that are hidden wherever they stand."""

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known

    def take(self, given: Any, original: Any, place: str) -> Any:
        """The value as it is meant."""
        if not _has_mask(given):
            return given
        if original is not NOTHING and self._is_shown_as(original, given):
            return original
        if isinstance(given, dict):
            inner = original if isinstance(original, dict) else {}
            return {name: self.take(item, inner.get(name, NOTHING), f"{place}.{name}") for name, item in given.items()}
        if isinstance(given, list):
            return self._items(given, original if isinstance(original, list) else [], place)
        if given == MASK or self._hides(original):
            raise InvalidInput(
                f"{place[:200]}: {MASK} stands for a value that is hidden from you, and here it can't be told for "
                "which one. Write the value in full, or leave this part as it was."
            )
        return given

    def _items(self, given: list[Any], original: list[Any], place: str) -> list[Any]:
        """Each item from that which was shown so: the one at its place where none was added, removed or moved, else the
        only one that looks like it."""
        is_same = len(given) == len(original)
        found = []
        for index, item in enumerate(given):
            alike = [each for each in original if self._is_shown_as(each, item)] if _has_mask(item) else []
            before = original[index] if is_same else NOTHING
            if alike and (len(alike) == 1 or all(each == alike[0] for each in alike)):
                before = alike[0]
            elif alike:  # several look so: only a list in which nothing else was moved tells them apart
                before = before if is_same and self._stays(given, original, index) else NOTHING
            found.append(self.take(item, before, f"{place}.{index}"))
        return found

    def _stays(self, given: list[Any], original: list[Any], index: int) -> bool:
        """Whether the item is at its place, as all those are that look like it."""
        item = given[index]
        before = [place for place, each in enumerate(original) if self._is_shown_as(each, item)]
        after = [place for place, each in enumerate(given) if each == item]
        return before == after

    def _is_shown_as(self, original: Any, given: Any) -> bool:
        """Whether the value was shown so, as far as the masks let one tell."""
        if isinstance(given, dict) and isinstance(original, dict):
            return given.keys() == original.keys() and all(
                self._is_shown_as(original[name], item) for name, item in given.items()
            )
        if isinstance(given, list) and isinstance(original, list):
            return len(given) == len(original) and all(map(self._is_shown_as, original, given))
        if given == MASK:
            return original is not None and original is not NOTHING
        if isinstance(given, str) and isinstance(original, str) and MASK in given:
            return _fits(given.split(MASK), original)
        return bool(given == original and isinstance(given, bool) == isinstance(original, bool))

    def _hides(self, original: Any) -> bool:
        return isinstance(original, str) and any(value in original for value in self._known)
