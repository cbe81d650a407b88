"""Everything that happened to a run, in the order of time: events, tries, waits, repairs, dead letters."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from workflows.models import Attempt, Event, Run, StepRun, Wait
from workflows.selectors.around_run.letters import Letter
from workflows.selectors.runs import RunDetail

MAX_SHOWN = 1_000
MAX_CHILDREN = 100
WAITS_FOR = {
    "retry": "its next try",
    "sleep": "the end of its sleep",
    "delay": "the start of the run",
    "event": "an event",
    "approval": "a decision",
    "run": "the end of the run that it started",
    "items": "its items",
    "steps": "steps that its code has asked for",
    "pause": "the end of a pause",
}
ORIGINS = {
    "replay": "Replayed", "resume": "Resumed", "fork": "Forked", "on_failure": "Its failure was handed over",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Happening:
    """Something that happened: `kind` is a status or a word for its mark; at most one of the ids is given."""

    at: dt.datetime
    kind: str
    what: str
    step: str = ""
    run_id: UUID | None = None
    letter_id: UUID | None = None
    event_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class Relatives:
    """The runs around a run."""

    parent: UUID | None
    children: list[Run]
    event: Event | None


def relatives(run: Run) -> Relatives:
    """The run that started it, those that it started (the first of them), and the event that did."""
    children = Run.objects.filter(parent_id=run.id).select_related("flow").defer("input", "output").order_by("id")
    sent = Event.objects.filter(org_id=run.org_id).defer("data", "user")
    event = sent.filter(id=run.event_id).first() if run.event_id else None
    return Relatives(parent=run.parent_id, children=list(children[:MAX_CHILDREN]), event=event)


def history(detail: RunDetail, around: Relatives, letters: Sequence[Letter]) -> list[Happening]:
    """What happened to the run and its steps at the top, the oldest first; the first of it where there is much."""
    found = [
        *_of_run(detail.run, around),
        *(each for step in detail.steps for each in _of_step(step.step_run)),
        *(each for step in detail.steps for each in _tries(step.step_run.key, step.attempts)),
        *_waits(detail),
        *_later(detail),
        *_letters(letters),
    ]
    return sorted(found, key=lambda each: each.at)[:MAX_SHOWN]


def _of_run(run: Run, around: Relatives) -> Iterator[Happening]:
    if around.event:
        sent = f"The event {around.event.name} was received"
        yield Happening(at=around.event.received_at, kind="event", what=sent, event_id=around.event.id)
    by = f" for {run.user_id}" if run.user_id else ""
    made = f"The run was made: {run.origin_kind or run.trigger}{by}, version {run.version.number}"
    yield Happening(at=run.created_at, kind="queued", what=made, run_id=run.origin_id)
    if run.started_at:
        yield Happening(at=run.started_at, kind="running", what="The run started")
    for child in around.children:
        yield Happening(at=child.created_at, kind="run", what=f"It started a run of {child.flow.slug}", run_id=child.id)
    if run.cancel_requested_at:
        why = f": {run.cancel_reason}" if run.cancel_reason else ""
        yield Happening(at=run.cancel_requested_at, kind="cancelled", what=f"Its cancellation was asked for{why}")
    if run.ended_at:
        yield Happening(at=run.ended_at, kind=run.status, what=f"The run ended: {run.status}")


def _of_step(row: StepRun) -> Iterator[Happening]:
    if row.memoized_from and row.ended_at:
        what = "has the outcome of the run that this one repeats"
        yield Happening(at=row.ended_at, kind=row.status, step=row.key, what=what)
    elif row.ended_at and row.status in {"skipped", "cancelled"}:
        why = f": {row.reason}" if row.reason else ""
        yield Happening(at=row.ended_at, kind=row.status, step=row.key, what=f"was {row.status}{why}")
    elif row.status == "waiting":
        since = row.started_at or row.ready_at or row.created_at
        what = f"waits for {WAITS_FOR.get(row.waiting_for, row.waiting_for)}"
        yield Happening(at=since, kind="waiting", step=row.key, what=what)


def _tries(key: str, attempts: Sequence[Attempt]) -> Iterator[Happening]:
    named = len(attempts) > 1 or any(each.status != "completed" for each in attempts)
    for attempt in attempts:
        which = f"try {attempt.number} " if named else ""
        if attempt.started_at:
            yield Happening(at=attempt.started_at, kind="running", step=key, what=f"{which}started")
        yield Happening(at=attempt.ended_at, kind=attempt.status, step=key, what=f"{which}{attempt.status}")


def _waits(detail: RunDetail) -> Iterator[Happening]:
    """What open waits were taken by (they are gone once the outcome of their step is recorded)."""
    keys = {step.step_run.id: step.step_run.key for step in detail.steps}
    if not detail.run.is_live:
        return
    for wait in Wait.objects.filter(step_run_id__in=list(keys)).exclude(taken_at=None):
        key = keys[wait.step_run_id]
        at, what = wait.taken_at or wait.created_at, f"its wait ended: {wait.taken_by}"
        yield Happening(at=at, kind="event", step=key, what=what, event_id=wait.event_id)


def _later(detail: RunDetail) -> Iterator[Happening]:
    ids = [each["id"] for each in detail.repeats]
    for run in Run.objects.filter(id__in=ids).only("id", "origin_kind", "created_at"):
        word = ORIGINS.get(run.origin_kind, run.origin_kind)
        yield Happening(at=run.created_at, kind="run", what=f"{word} as another run", run_id=run.id)


def _letters(letters: Sequence[Letter]) -> Iterator[Happening]:
    for letter in letters:
        yield Happening(
            at=letter.failed_at, kind="failed", step=letter.step_key, letter_id=letter.id,
            what="became a dead letter" if letter.step_key else "The run became a dead letter",
        )  # fmt: skip
        for change in letter.changes:
            why = f": {change.reason}" if change.reason else ""
            what = f"its dead letter: {change.what} by {change.by}{why}"
            yield Happening(at=change.at, kind="letter", step=letter.step_key, letter_id=letter.id, what=what)
