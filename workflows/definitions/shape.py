"""A document as a FlowSpec, with every misfit at once: each names its path and the fields that are valid there."""

from __future__ import annotations

import copy
import difflib
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic.fields import FieldInfo

from workflows.definitions.schema import FlowSpec

MAX_ROUNDS = 20
Location = tuple[int | str, ...]
_NAMES = ("flow", "id", "type")
"""Required texts: one that does not fit, or is not there, is replaced, so that the rest can be looked at."""


class Shape:
    """`spec` as far as the document fits the format, else None; `problems`: (path, reason) of what does not."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.problems: list[tuple[Location, str]] = []
        self._left_out: set[Location] = set()
        self.spec = self._read(copy.deepcopy(document))

    def is_incomplete(self, path: str) -> bool:
        """Whether a known field was left out at or around a path: what follows from that is no news."""
        return any(path.startswith(path_text(location[:2])) for location in self._left_out)

    def _read(self, document: dict[str, Any]) -> FlowSpec | None:
        """Leave out what does not fit, and look again: one misfit hides no other."""
        for _ in range(MAX_ROUNDS):
            try:
                return FlowSpec.model_validate(document)
            except ValidationError as error:
                items = error.errors()
                places = {item["loc"] for item in items}
                inner = [item for item in items if not any(_is_within(place, item["loc"]) for place in places)]
                removed = [self._leave_out(document, item) for item in inner]
                if not any(removed):
                    return None
        return None

    def _leave_out(self, document: dict[str, Any], item: Any) -> bool:
        location: Location = item["loc"]
        is_unknown = item["type"] == "extra_forbidden"
        reason = unknown_field(location) if is_unknown else item["msg"].removeprefix("Value error, ")
        follows = any(place == location or _is_within(place, location) for place in self._left_out)
        if not follows and (location, reason) not in self.problems:
            self.problems.append((location, reason))
        if not is_unknown:
            self._left_out.add(location)
        while location and not self._without(document, location):
            location = location[:-1]
            if location:
                self._left_out.add(location)
        return bool(location)

    def _without(self, document: dict[str, Any], location: Location) -> bool:
        """Take out what stands at a location, or put a stand-in there. False where that can't be done."""
        holder: Any = document
        for part in location[:-1]:
            try:
                holder = holder[part]
            except (KeyError, IndexError, TypeError):
                return False
        last = location[-1]
        if len(location) == 2 and location[0] == "on" and isinstance(holder, list):
            holder[int(last)] = {"event": "left/out"}
        elif isinstance(holder, dict) and last in _NAMES:
            holder[last] = f"x{len(self._left_out)}"
        elif isinstance(holder, dict) and last in holder and last != "steps":
            del holder[last]
        else:
            return False
        return True


def _is_within(place: Location, other: Location) -> bool:
    return len(place) > len(other) and place[: len(other)] == other


def unknown_field(location: Location) -> str:
    """What is said of a field that is not known at its place."""
    return f"unknown field{did_you_mean(str(location[-1]), _field_names(_model_at(location[:-1])))}"


def did_you_mean(name: str, known: set[str] | frozenset[str]) -> str:
    """A close name, or all that there are."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"


def path_text(location: Location, prefix: str = "") -> str:
    """`steps[2].config.url`."""
    path = prefix
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.lstrip(".")


def _model_at(location: Location) -> type[BaseModel]:
    model: type[BaseModel] = FlowSpec
    is_key = False
    for part in location:
        if isinstance(part, int) or is_key:
            is_key = False
            continue
        found = next((field for name, field in model.model_fields.items() if part in _spellings(name, field)), None)
        inner = next(_models_in(found.annotation), None) if found is not None else None
        if inner is None:
            return model
        is_key = typing.get_origin(found.annotation) is dict if found is not None else False
        model = inner
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _spellings(name: str, field: FieldInfo) -> set[str]:
    alias = field.validation_alias
    others = {str(choice) for choice in alias.choices} if isinstance(alias, AliasChoices) else {str(alias or name)}
    return {name, field.alias or name, *others}


def _field_names(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}
