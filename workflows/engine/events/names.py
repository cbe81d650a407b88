"""The names of events and the patterns that they fit: a name itself, `prefix/*`, and `*`, which hears no system events.

`look_back.sql` has the same rule for the events that were there before a wait.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Q

from workflows.models.event import SYSTEM

EVERYTHING = "*"


def patterns(name: str) -> list[str]:
    """The event's name, and the patterns that it fits."""
    everything = [] if name.startswith(SYSTEM) else [EVERYTHING]
    return [name, *(f"{name[:i]}/*" for i, character in enumerate(name) if character == "/"), *everything]


def may_fit(wanted: Iterable[str]) -> Q:
    """Of a query of events: those whose names fit one of these patterns. `*` finds system events too; look at the
    `patterns` of what is found."""
    names = list(wanted)
    found = Q(name__in=names)
    for name in names:
        found |= Q(name__startswith=name.removesuffix("*")) if name.endswith("*") else Q()
    return found
