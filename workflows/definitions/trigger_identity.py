"""Which trigger of a new version is which one of the version before. Pure.

An `id` says it; without one the kind and the name do (of a cron its zone, and then its place among those of the zone).
The filter is never part of it. Webhooks of one name are told apart by their scheme and secret too, crons by their
schedule. Where that leaves a choice that would change an address, or switch on what somebody has switched off, nothing
is guessed: publishing stops, and says the `id` to add.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from uuid import UUID

from workflows.definitions.triggers import TriggerSpec

MAX_BASE = 90


@dataclass(frozen=True, kw_only=True)
class Face:
    """What a trigger is known by where it has no id. `detail` tells those of one kind and name apart."""

    kind: str
    name: str
    detail: tuple[str, ...] = ()

    @property
    def group(self) -> tuple[str, str]:
        return self.kind, self.name

    def __str__(self) -> str:
        return f"cron in {self.name}" if self.kind == "cron" else f"{self.kind} {self.name}"


@dataclass(frozen=True, kw_only=True)
class Known:
    """A trigger that a flow has, or had until lately. `named`: its definition says its id (`key`)."""

    row_id: UUID
    key: str
    named: bool
    face: Face
    enabled: bool
    is_removed: bool
    place: str
    """For a message: what a person knows it by."""


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """By place in `on`: the trigger that it was before, or None for a new one; and why others could not be found."""

    known: list[Known | None]
    problems: list[tuple[str, str]]


def face_of(spec: TriggerSpec) -> Face:
    if spec.cron is not None:
        return Face(kind="cron", name=spec.timezone, detail=(spec.cron,))
    detail = (spec.webhook, spec.secret or "") if spec.webhook is not None else ()
    return Face(kind=spec.kind, name=spec.event_name, detail=detail)


def made_key(face: Face, taken: set[str]) -> str:
    """An id for a trigger whose definition has none, that no other of the flow has."""
    name = face.name.removeprefix("webhook.")
    base = f"{face.kind}-{re.sub(r'[^A-Za-z0-9_]+', '-', name).strip('-')}".strip("-")[:MAX_BASE]
    keys = (base if number == 1 else f"{base}-{number}" for number in count(1))
    return next(key for key in keys if key not in taken)


def problems(specs: Sequence[TriggerSpec]) -> Iterator[tuple[str, str]]:
    """(path, reason) of the entries of `on` that can't be told from another one, whatever was there before."""
    ids: dict[str, int] = {}
    seen: dict[tuple[object, ...], int] = {}
    for position, spec in enumerate(specs):
        if spec.id is not None:
            first = ids.setdefault(spec.id, position)
            if first != position:
                yield f"on[{position}].id", f"duplicate id {spec.id!r}; on[{first}] has it"
            continue
        face = face_of(spec)
        whole = spec.model_dump_json() if face.kind != "webhook" else ""
        first = seen.setdefault((face, whole), position)
        if first != position:
            what = f"a {face} with the same secret" if face.kind == "webhook" else "the same"
            example = made_key(face, {made_key(face, set())})
            yield (
                f"on[{position}]",
                f"on[{first}] is {what}: nothing tells them apart; add `id: {example}`, or remove it",
            )


def pair(specs: Sequence[TriggerSpec], known: Sequence[Known]) -> Pairing:
    """Find the known trigger of each entry of `on`. `known`: in the order of the version before, removed ones last."""
    work = _Work(specs, known)
    work.by_id()
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, spec in enumerate(specs):
        if work.found[position] is None:
            groups[face_of(spec).group].append(position)
    for group, positions in groups.items():
        work.by_detail(group, positions)
        for removed in (False, True):
            work.by_place(group, [each for each in positions if specs[each].id is None], removed=removed)
            work.by_place(group, [each for each in positions if specs[each].id is not None], removed=removed)
    return Pairing(known=work.found, problems=sorted(set(work.problems)))


class _Work:
    """The pairing as it is made."""

    def __init__(self, specs: Sequence[TriggerSpec], known: Sequence[Known]) -> None:
        self.specs = specs
        self.free = list(known)
        self.found: list[Known | None] = [None] * len(specs)
        self.problems: list[tuple[str, str]] = []

    def _take(self, position: int, known: Known) -> None:
        self.found[position] = known
        self.free = [each for each in self.free if each is not known]

    def _in_group(self, group: tuple[str, str], *, named_too: bool) -> list[Known]:
        """`named_too`: those that have an id of their own; they are no candidates for an entry with another one."""
        return [each for each in self.free if each.face.group == group and (named_too or not each.named)]

    def by_id(self) -> None:
        for position, spec in enumerate(self.specs):
            for known in self.free if spec.id is not None else ():
                if known.key == spec.id and (known.named or known.face.kind == spec.kind):
                    self._take(position, known)
                    break

    def by_detail(self, group: tuple[str, str], positions: Sequence[int]) -> None:
        """Those that are the same in what tells them apart, in their order. (Events have nothing of the kind.)"""
        for position in positions:
            spec = self.specs[position]
            face = face_of(spec)
            known = self._in_group(group, named_too=spec.id is None) if face.detail else []
            same = next((each for each in known if each.face.detail == face.detail), None)
            if same is not None:
                self._take(position, same)

    def by_place(self, group: tuple[str, str], positions: Sequence[int], *, removed: bool) -> None:
        """What is left of a kind and name: the only one, or by their order where it does not matter which is which."""
        positions = [each for each in positions if self.found[each] is None]
        if not positions:
            return
        named_too = self.specs[positions[0]].id is None
        known = [each for each in self._in_group(group, named_too=named_too) if each.is_removed == removed]
        if not known:
            return
        if len(known) == len(positions) == 1 or (group[0] == "cron" and len(known) == len(positions)):
            certain = True
        else:
            off = [each for each in known if not each.enabled]
            stays_off = len(off) == len(known) >= len(positions)
            certain = group[0] != "webhook" and (not off or stays_off)
        if not certain:
            self._refuse(positions, known)
            return
        for position, each in zip(positions, known, strict=False):
            self._take(position, each)

    def _refuse(self, positions: Sequence[int], known: Sequence[Known]) -> None:
        lines = "; ".join(f"`id: {each.key}` ({each.place})" for each in known)
        face = known[0].face
        why = "an address" if face.kind == "webhook" else "what was switched off"
        for position in positions:
            self.problems.append((
                f"on[{position}]",
                f"which {face} it is can't be told, and {why} depends on it. Add the line that says it, to this entry "
                f"or to the one that goes on: {lines}",
            ))  # fmt: skip
