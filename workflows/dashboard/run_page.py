"""What the page of a run shows: parts about the run, and a line for each step; bodies are read when they are opened.

A live page asks for the hashes of its parts and lines, and fetches those that differ from what it shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from workflows import presenters
from workflows.dashboard.timeline import Bar, bars, executed_ms
from workflows.selectors.runs import RunDetail, StepDetail

MAX_SHOWN = 200_000
"""Characters of a body on a page; the whole of it is a download."""
SMALL = 20_000
"""Bytes up to which the input and output of a run are shown at once."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A step without its bodies.

    `ran_ms`: executing, of the tries that have ended; `running_since`: of one that has not, in milliseconds after the
    run's creation.
    """

    key: str
    type: str
    status: str
    tries: int
    is_taken_over: bool
    progress: dict[str, Any] | None
    failed_items: int
    reason: str
    waiting_reason: str
    bars: list[Bar] = field(default_factory=list)

    @property
    def ran_ms(self) -> int | None:
        return executed_ms(self.bars)

    @property
    def running_since(self) -> int | None:
        return next((bar.since for bar in self.bars if bar.kind == "running" and bar.until is None), None)

    @cached_property
    def hash(self) -> str:
        return _hash(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the page that is about the run itself: its template and what that shows."""

    name: str
    facts: dict[str, Any]

    @property
    def template(self) -> str:
        return f"headrace/run/_{self.name}.html"

    @cached_property
    def hash(self) -> str:
        return _hash(self.facts)


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """The parts by name and the lines in the order of the definition."""

    parts: dict[str, Part]
    lines: list[Line]

    @cached_property
    def state(self) -> dict[str, Any]:
        """The hashes of the parts by name, of the list of steps, and of the lines by their position."""
        return {
            "parts": {name: part.hash for name, part in self.parts.items()},
            "steps": _hash([line.key for line in self.lines]),
            "lines": [line.hash for line in self.lines],
        }


def run_page(detail: RunDetail) -> RunPage:
    """The page of a run that was read without bodies."""
    run = detail.run
    summary = presenters.run_summary(run, detail.status)
    title = {name: summary[name] for name in ("flow", "status")}
    facts = {
        **{name: summary[name] for name in ("id", "version", "event", "trigger", "userId", "createdAt", "duration")},
        "completed": detail.counts.get("completed", 0),
        "failed": detail.counts.get("failed", 0),
        "total": len(detail.steps),
        "originId": str(run.origin_id) if run.origin_id else "",
        "originKind": run.origin_kind,
        "repeats": detail.repeats,
        "cancelReason": run.cancel_reason,
    }
    actions = {
        "id": summary["id"],
        "is_live": run.is_live,
        "can_resume": not run.is_live and run.status != "completed",
        "repaired_by": str(detail.repaired_by) if detail.repaired_by else "",
    }
    problem = {"error": summary["error"]}
    output = {"is_live": run.is_live}
    named = {"title": title, "facts": facts, "actions": actions, "problem": problem, "output": output}
    return RunPage(parts={name: Part(name=name, facts=shown) for name, shown in named.items()}, lines=_lines(detail))


def shown_body(value: Any) -> tuple[str, bool]:
    """A value as indented JSON, at most so much of it; and whether it was cut."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return text[:MAX_SHOWN], len(text) > MAX_SHOWN


def _lines(detail: RunDetail) -> list[Line]:
    waiting, drawn = presenters.reasons(detail), bars(detail)
    lines = []
    for step in detail.steps:
        row, reason = step.step_run, waiting.get(step.step_run.id)
        lines.append(
            Line(
                key=row.key,
                type=row.type,
                status=row.status,
                tries=len(step.attempts),
                is_taken_over=row.memoized_from is not None,
                progress=presenters.progress(step),
                failed_items=step.fan_out.failed if step.fan_out else 0,
                reason=row.reason,
                waiting_reason=reason.sentence if reason else "",
                bars=drawn[row.key],
            )
        )
    return lines


def input_of(step: StepDetail) -> Any:
    """The configuration of the step's latest try."""
    return presenters.step_out(step)["input"]


def _hash(shown: dict[str, Any] | Sequence[str]) -> str:
    text = json.dumps(shown, default=str, sort_keys=True)
    return hashlib.blake2s(text.encode(), digest_size=5).hexdigest()
