"""What the page of a run shows: parts about the run, and a line for each step; bodies are read when they are opened.

A live page asks for the hashes of its parts and lines, and fetches those that differ from what it shows.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from workflows import presenters
from workflows.dashboard import links
from workflows.dashboard.run.graph import graph
from workflows.dashboard.run.timeline import Bar, bars, executed_ms
from workflows.models import Run
from workflows.selectors.around_run.letters import Letter
from workflows.selectors.around_run.newer import newer_version
from workflows.selectors.limits import Reason
from workflows.selectors.runs import RunDetail, StepDetail

MAX_SHOWN = 200_000
"""Characters of a body on a page; the whole of it is a download."""
SMALL = 20_000
"""Bytes up to which the input and output of a run are shown at once."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A step without its bodies.

    `ran_ms`: executing, of the tries that have ended; `running_since`: of one that has not, in milliseconds after the
    run's creation. `until`: of a waiting step, the moment that `until_word` names (its next try, its deadline).
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
    until: dt.datetime | None
    until_word: str
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


def run_page(detail: RunDetail, letters: Sequence[Letter] = ()) -> RunPage:
    """The page of a run that was read without bodies."""
    run, waiting = detail.run, presenters.reasons(detail)
    summary = presenters.run_summary(run, detail.status)
    drawn = graph(detail)
    named: dict[str, dict[str, Any]] = {
        "title": {name: summary[name] for name in ("flow", "status")},
        "facts": _facts(detail, summary),
        "actions": _actions(detail, summary),
        "problem": _problem(detail, summary, letters),
        "attention": _attention(detail, waiting),
        "graph": {"graph": asdict(drawn) | {"nodes": drawn.nodes} if drawn else None},
        "output": {"is_live": run.is_live},
    }
    parts = {name: Part(name=name, facts=shown) for name, shown in named.items()}
    return RunPage(parts=parts, lines=_lines(detail, waiting))


def _facts(detail: RunDetail, summary: dict[str, Any]) -> dict[str, Any]:
    run = detail.run
    names = (
        "id",
        "version",
        "event",
        "eventId",
        "trigger",
        "userId",
        "createdAt",
        "duration",
        "priority",
        "flow",
        "tags",
    )
    return {
        **{name: summary[name] for name in names},
        "eventUrl": links.event(run.event_id) if run.event_id else "",
        "completed": detail.counts.get("completed", 0),
        "failed": detail.counts.get("failed", 0),
        "total": len(detail.steps),
        "originId": str(run.origin_id) if run.origin_id else "",
        "originKind": run.origin_kind,
        "parentId": str(run.parent_id) if run.parent_id else "",
        "repeats": detail.repeats,
        "cancelReason": run.cancel_reason,
        "deadline": run.timeout_at if run.is_live else None,
        "deadlineWord": "start" if run.started_at is None else "end",
    }


def _actions(detail: RunDetail, summary: dict[str, Any]) -> dict[str, Any]:
    run = detail.run
    can_resume = not run.is_live and run.status != "completed"
    open_steps = sum(detail.counts.get(each, 0) for each in ("pending", "ready", "running", "waiting"))
    return {
        "id": summary["id"],
        "flow": summary["flow"],
        "status": summary["status"],
        "is_live": run.is_live,
        "is_cancelling": run.is_live and run.cancel_requested_at is not None,
        "open_steps": open_steps if run.is_live else 0,
        "kept": detail.counts.get("completed", 0),
        "can_resume": can_resume,
        "version": run.version.number,
        "newer": newer_version(run) if can_resume else None,
        "repaired_by": str(detail.repaired_by) if detail.repaired_by else "",
    }


def _problem(detail: RunDetail, summary: dict[str, Any], letters: Sequence[Letter]) -> dict[str, Any]:
    """The error of the run, the steps that failed, and its dead letters."""
    failed = [step.step_run.key for step in detail.steps if step.step_run.status == "failed"]
    shown = [
        {"step": each.step_key, "status": each.status, "url": links.letter(each.id), "id": str(each.id)}
        for each in letters
    ]
    return {"error": summary["error"], "failed": failed[:10], "letters": shown[:10]}


def _attention(detail: RunDetail, waiting: dict[Any, Reason]) -> dict[str, Any]:
    """What keeps a live run: decisions that somebody has to make, and a limit of all steps."""
    rows = [step.step_run for step in detail.steps]
    approvals = [
        {"step": row.key, "id": str(row.id), "deadline": row.wake_at}
        for row in rows
        if row.status == "waiting" and row.waiting_for == "approval"
    ]
    held = [(row, waiting[row.id]) for row in rows if row.id in waiting and waiting[row.id].is_global]
    return {
        "approvals": approvals,
        "held": len(held),
        "limit": held[0][1].limit if held else "",
        "bound": held[0][1].bound if held else 0,
        "limits_url": links.limits() if held else "",
    }


def shown_body(value: Any) -> tuple[str, bool]:
    """A value as indented JSON, at most so much of it; and whether it was cut."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return text[:MAX_SHOWN], len(text) > MAX_SHOWN


def opened(detail: RunDetail) -> str:
    """The step that the page shows opened: of a run that has failed, the first one that did."""
    if detail.run.status != Run.Status.FAILED:
        return ""
    return next((step.step_run.key for step in detail.steps if step.step_run.status == "failed"), "")


def _lines(detail: RunDetail, waiting: dict[Any, Reason]) -> list[Line]:
    drawn, nothing = bars(detail), Reason(sentence="")
    lines = []
    for step in detail.steps:
        row, reason = step.step_run, waiting.get(step.step_run.id, nothing)
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
                waiting_reason=reason.plain or reason.sentence,
                until=reason.until,
                until_word=reason.until_word,
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
