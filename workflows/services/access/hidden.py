"""Values that somebody sends back as they were shown to them, hidden: what is stored is never the mask.

A login or key that repeats a run or sends an input again with changes has seen `***` where the rules of the
organization hide a value. What comes back exactly as it was shown is the original's; every other mask at the place of
something hidden is refused. Only what was shown is compared, so no answer tells anything about what was not.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Any
from uuid import UUID

from workflows.edge import redaction
from workflows.edge.redaction import MASK
from workflows.errors import InvalidInput
from workflows.steps.masking import Secrets

NOTHING: Any = object()
"""For `original` and `shown`: the value is made from no other one."""


class Known:
    """Values that are masked wherever they stand: within texts and names, and as numbers."""

    def __init__(self, values: Iterable[str]) -> None:
        self._exact = set(values)
        self._secrets = Secrets(self._exact)

    def hide(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._secrets.mask(value) if self._exact else value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return MASK if str(value) in self._exact else value
        if isinstance(value, dict):
            return {self.hide(name): self.hide(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide(item) for item in value]
        return value


def editable(org_id: UUID, value: Any, name: str, ids: Iterable[UUID] = ()) -> Any:
    """A payload that somebody may change and send back: hidden values are `***` as JSON texts, wherever they stand.

    `name`: what it is; empty where its own names say so (events). `ids`: the runs whose hidden values may stand within
    its texts.
    """
    rules = redaction.rules_of(org_id)
    if not rules or value is NOTHING:
        return value
    named = {name: value} if name else value
    own, found = rules.values(named), redaction.find_values([*ids], {org_id})
    masked = rules.masked(named)
    shown = masked[name] if name else masked
    if len(own) >= redaction.MOST_VALUES or found.unread:
        return _whole(shown)
    return Known([*own, *found.values]).hide(shown)


def _whole(value: Any) -> Any:
    """The value without its leaves, where it is not known which of them are hidden."""
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return value if value is None or isinstance(value, bool) else MASK


def restored(org_id: UUID, given: Any, original: Any, *, name: str, ids: Iterable[UUID] = ()) -> Any:
    """The given value with the original's where it has a mask; `name`, `ids`: those with which `editable` showed it.

    Raises InvalidInput for a mask of which it can't be told what it hides.
    """
    if not _has_mask(given) or not redaction.rules_of(org_id):
        return given
    return put_in(given, original, editable(org_id, original, name, ids), what=name or "events")


def put_in(given: Any, original: Any, shown: Any, *, what: str) -> Any:
    """The given value with the original's where it has a mask; `shown`: the original as it was shown.

    Raises InvalidInput.
    """
    if not _has_mask(given):
        return given
    if original is not NOTHING and _is_as_shown(given, shown):
        return original
    if isinstance(given, dict):
        return _members(given, original, shown, what)
    if isinstance(given, list):
        return _items(given, original, shown, what)
    if given == MASK or shown != original:
        raise InvalidInput(
            f"{what[:200]}: {MASK} stands for a value that is hidden from you, and here it can't be told for "
            "which one. Write the value in full, or leave this part as it was."
        )
    return given


def _has_mask(value: Any) -> bool:
    if isinstance(value, dict):
        return any(MASK in name or _has_mask(item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return any(_has_mask(item) for item in value)
    return isinstance(value, str) and MASK in value


def _is_as_shown(given: Any, shown: Any) -> bool:
    """Whether the value is what was shown; `***` is in the place of any value."""
    if given == MASK:
        return shown is not None
    if isinstance(given, dict) and isinstance(shown, dict):
        return given.keys() == shown.keys() and all(_is_as_shown(item, shown[name]) for name, item in given.items())
    if isinstance(given, list) and isinstance(shown, list | tuple):
        return len(given) == len(shown) and all(map(_is_as_shown, given, shown))
    return bool(_form(given) == _form(shown))


def _members(given: dict[str, Any], original: Any, shown: Any, place: str) -> dict[str, Any]:
    """Each member from that of its name. A name is shown hidden where it holds a known value: such a one is refused."""
    before = original if isinstance(original, dict) else {}
    seen = shown if isinstance(shown, dict) else {}
    found = {}
    for name, item in given.items():
        if MASK in name and not (name in before and name in seen):
            raise InvalidInput(
                f"{place[:200]}: {MASK} in the name {name[:100]!r} stands for something that is hidden from you, and "
                "it can't be told for what. Write the name in full, or leave the whole object as it was."
            )
        found[name] = put_in(item, before.get(name, NOTHING), seen.get(name, NOTHING), what=f"{place}.{name}")
    return found


def _items(given: list[Any], original: Any, shown: Any, place: str) -> list[Any]:
    """Each item from the only one that was shown so; else, where none was added, removed or moved, from that at its
    place."""
    before = original if isinstance(original, list) else []
    seen = shown if isinstance(shown, list | tuple) else []
    origins = _Origins(given, before, seen)
    found = []
    for index, item in enumerate(given):
        origin = origins.of(index)
        if origin is None:
            found.append(put_in(item, NOTHING, NOTHING, what=f"{place}.{index}"))
        else:
            found.append(put_in(item, before[origin], seen[origin], what=f"{place}.{index}"))
    return found


class _Origins:
    """From which item of a list each given one is made. Each item is looked at once, however many look alike."""

    def __init__(self, given: list[Any], original: list[Any], shown: Iterable[Any]) -> None:
        self._forms = [_form(item) for item in given]
        self._shown = _places(_form(item) for item in shown)
        self._given = _places(self._forms)
        self._is_as_long = len(given) == len(original)
        self._only = {
            form: places[0]
            for form, places in self._shown.items()
            if form in self._given and len({_form(original[place]) for place in places}) == 1
        }
        self._is_moved = any(self._given.get(form, places) != places for form, places in self._shown.items())

    def of(self, index: int) -> int | None:
        """The place of the original; None where it can't be told."""
        form = self._forms[index]
        if form in self._only:
            return self._only[form]
        if form in self._stay:
            return index
        return index if self._is_as_long and not self._is_moved and form not in self._shown else None

    @functools.cached_property
    def _stay(self) -> set[Hashable]:
        """Several look so: they are told apart by their places, where all of them have stayed."""
        if not self._is_as_long:
            return set()
        return {form for form, places in self._shown.items() if self._given.get(form) == places}


def _places(forms: Iterable[Hashable]) -> dict[Hashable, list[int]]:
    found: dict[Hashable, list[int]] = defaultdict(list)
    for index, form in enumerate(forms):
        found[form].append(index)
    return dict(found)


def _form(value: Any) -> Hashable:
    """Something that is equal for equal JSON values, and found in a dict at once."""
    if isinstance(value, dict):
        return "object", frozenset((name, _form(item)) for name, item in value.items())
    if isinstance(value, list | tuple):
        return "array", tuple(_form(item) for item in value)
    return ("bool", value) if isinstance(value, bool) else value
