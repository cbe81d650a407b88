"""What the kit keeps of a run: its steps, and what a test reads of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from workflows.definitions.compiled import CompiledStep
from workflows.models.run import ENDED_STEP
from workflows.steps.outcome import WaitFor


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A step of a journal, in the order in which the code has asked for it. `status`: `ready`, `waiting`, `completed`,
    `failed`, `cancelled`. `error`: `{category, name, message, traceback}` of its last try that failed."""

    name: str
    type: str
    status: str
    attempts: int
    output: Any = None
    error: Any = None

    def __str__(self) -> str:
        tries = "" if self.attempts == 1 else f" after {self.attempts} tries"
        said = f": {self.error['name']}: {self.error['message']}" if self.status == "failed" and self.error else ""
        return f"{self.name} {self.status}{tries}{said}"


@dataclass(frozen=True, kw_only=True)
class StepCall:
    """A call of a step's function, or of what stands in for it: with which arguments, at which try."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    config: Any = None
    """Of a step type of Headrace (`fetch`, `invoke`, …): its configuration."""
    attempt: int = 1
    at: dt.datetime | None = None


@dataclass(frozen=True, kw_only=True)
class SentEvent:
    """An event, with its place in the order of all that happens in the kit."""

    facts: dict[str, Any]
    at: dt.datetime
    number: int

    @property
    def name(self) -> str:
        return str(self.facts["name"])

    @property
    def data(self) -> Any:
        return self.facts["data"]


@dataclass(kw_only=True, eq=False)
class Row:
    """A step of a run in the kit; what `load_journal` would give of it, and what the engine has beside."""

    id: UUID
    key: str
    position: int
    step: CompiledStep
    status: str = "ready"
    attempt: int = 1
    output: Any = None
    error: Any = None
    ended_at: dt.datetime | None = None
    ready_at: dt.datetime
    ready_number: int
    wake_at: dt.datetime | None = None
    wake_seq: int = 0
    told_waits: int = 0
    lease: UUID | None = None
    wait: WaitFor | None = None
    sleeps: bool = False

    @property
    def type(self) -> str:
        return self.step.type.name

    @property
    def is_open(self) -> bool:
        return self.status not in ENDED_STEP

    def entry(self) -> Entry:
        return Entry(
            name=self.key,
            type=self.type,
            status=self.status,
            attempts=self.attempt,
            output=self.output,
            error=self.error,
        )

    def waits_for(self) -> str:
        """What it waits for, in words."""
        until = f" until {self.wake_at.isoformat()}" if self.wake_at is not None else ""
        if self.wait is None:
            if self.sleeps or self.error is None:
                return f"{self.key}: sleeps{until}"
            return f"{self.key}: is tried again{until}, after {self.error['name']}: {self.error['message']}"
        if self.wait.kind == "event" and self.wait.options.get("callback"):
            return f"{self.key}: its callback{until}"
        what = {"event": f"the event {self.wait.event_name}", "approval": "a decision", "run": "a run"}[self.wait.kind]
        return f"{self.key}: {what}{until}"


Expected = str | tuple[Any, ...] | Entry


def difference(found: Sequence[Entry], expected: Sequence[Expected]) -> str:
    """How a journal differs from what was expected; empty where it does not."""
    lines = []
    same = len(found) == len(expected)
    for number in range(max(len(found), len(expected))):
        entry = found[number] if number < len(found) else None
        wanted = expected[number] if number < len(expected) else None
        fits = entry is not None and wanted is not None and _fits(entry, wanted)
        same = same and fits
        mark = "  " if fits else "! "
        said = "" if fits else f"   expected {_shown(wanted)}"
        lines.append(f"{mark}{number + 1}. {entry or 'nothing'}{said}")
    return "" if same else "The journal is not as expected:\n" + "\n".join(lines)


def _fits(entry: Entry, wanted: Expected) -> bool:
    if isinstance(wanted, Entry):
        return entry == wanted
    if isinstance(wanted, str):
        return entry.name == wanted
    return (entry.name, entry.status, entry.attempts, entry.output)[: len(wanted)] == wanted


def _shown(wanted: Expected | None) -> str:
    return "nothing" if wanted is None else str(wanted)
