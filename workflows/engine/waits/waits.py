"""Waits: stored with their steps, taken once (by an event, an answer, a run's end or a timeout), then recorded.

An event and a wait never miss each other: events are committed first and matched afterwards, in a new snapshot; a wait
is committed first, and looks back afterwards. The one that commits second sees the other. Where both do, the wait is
still taken only once. Where the process dies in between, rescue looks back for it.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

import structlog

from workflows.engine.events.names import patterns
from workflows.engine.pipeline.facts import event_facts, facts_of
from workflows.engine.pipeline.retry_decision import describe
from workflows.engine.sql import waits as sql
from workflows.engine.sql.waits import LookBackRow, TakenWaitsRow
from workflows.engine.state import database, expression_context, flow_cache, sealed
from workflows.engine.state.records import Claim, Recorded, StepResult
from workflows.engine.worker import ending
from workflows.errors import Category, EncryptionKeyMissing, UnloadableVersion
from workflows.expressions import Expression, compile_expression
from workflows.expressions.equality import MISSING, NO_TERM, hash_of, value_at
from workflows.models import Event
from workflows.payload import dump
from workflows.sealing import envelope, shapes
from workflows.sealing.envelope import UnopenedText, open_text
from workflows.steps.outcome import Completed, Failed, Outcome, StepError, WaitFor

log = structlog.get_logger(__name__)
PAGE = 200
GRACE_S = 2.0
NOBODY_CAME = "Nothing came within the wait's timeout."


# --- storing --------------------------------------------------------------------------------------------------------


def store_new(results: Iterable[StepResult], recorded: Recorded, cursor: database.Cursor) -> list[UUID]:
    """Within the transaction that has made steps wait: store what for. Returns those step runs."""
    new = [
        {
            "id": str(result.claim.id),
            "kind": wait.kind,
            "event_name": wait.event_name,
            "match_path": wait.match_path,
            "value_hash": wait.value_hash,
            "condition": sealed.plain_text(wait.condition, result.claim.org_id),
            "lookback_s": wait.lookback_s,
            "since_run": wait.since_run,
            "child_id": str(wait.child_id) if wait.child_id else None,
            "remind_s": wait.remind_s,
            "options": sealed.shaped(wait.options, result.claim.org_id, shapes.wait_options),
        }
        for result in results
        if isinstance(wait := result.outcome, WaitFor) and recorded.statuses.get(result.claim.id) == "waiting"
    ]
    if not new:
        return []
    return [row.step_run_id for row in sql.insert_waits(waits=json.dumps(new), cursor=cursor)]


# --- taking ---------------------------------------------------------------------------------------------------------


def over_already(step_run_ids: Sequence[UUID], results: Iterable[StepResult]) -> list[UUID]:
    """After the commit of new waits: take those for which what they wait for has happened."""
    if not step_run_ids:
        return []
    wanted = set(step_run_ids)
    waits = {each.claim.id: each.outcome for each in results if isinstance(each.outcome, WaitFor)}
    children = [wait.child_id for id_, wait in waits.items() if id_ in wanted and wait.child_id]
    found = look_back([id_ for id_ in step_run_ids if waits[id_].kind == "event"])
    return [*found, *take_for_runs(children)]


def look_back(step_run_ids: Sequence[UUID]) -> list[UUID]:
    """Take those of new waits for which an event is there already: the earliest that fits. Returns them."""
    if not step_run_ids:
        return []
    met: dict[UUID, UUID] = {}
    pages: list[tuple[list[UUID], dt.datetime | None, UUID | None]] = [(list(step_run_ids), None, None)]
    while pages:
        ids, after_at, after_id = pages.pop()
        by_wait: dict[UUID, list[LookBackRow]] = defaultdict(list)
        for row in sql.look_back(ids=ids, after_at=after_at, after_id=after_id, page=PAGE):
            by_wait[row.step_run_id].append(row)
        met |= _first_that_fit([(rows[0], rows) for rows in by_wait.values()])
        pages += [
            ([id_], rows[-1].received_at, rows[-1].id)
            for id_, rows in by_wait.items()
            if len(rows) == PAGE and id_ not in met
        ]
    taken = claim_waits(met, by="event")
    left = set(met) - set(taken)
    if left and (
        lost := [row.step_run_id for row in sql.waits_without_event(ids=left, event_ids=[met[id_] for id_ in left])]
    ):
        taken += look_back(lost)  # their event was deleted meanwhile (retention): another may be there
    sql.looked_back(ids=step_run_ids)
    return taken


def meet(org_id: UUID, events: Sequence[Event]) -> list[UUID]:
    """Take the waits of an organization that these events end, within the transaction that matches them.

    Waits with an equality term are found by the index, however many there are; the others are compared one by one.
    """
    names = sorted({name for event in events for name in patterns(event.name)})
    terms: dict[str, list[str]] = defaultdict(list)
    for row in sql.wait_terms(org=org_id, names=names):
        terms[row.name].append(row.path)
    if not terms:
        return []
    places: dict[tuple[str, str, str], list[Event]] = defaultdict(list)
    for event in events:
        facts = facts_of(event)
        for name in patterns(event.name):
            for path in terms.get(name, ()):
                value = value_at(facts, path) if path else MISSING
                if not path:
                    places[name, *NO_TERM].append(event)
                elif value is not MISSING:
                    places[name, path, hash_of(value)].append(event)
    if not places:
        return []
    rows = sql.waits_at(
        org=org_id,
        names=[name for name, _, _ in places],
        paths=[path for _, path, _ in places],
        hashes=[hash_ for _, _, hash_ in places],
    )
    return claim_waits(
        _first_that_fit([(row, places[row.event_name, row.match_path, row.value_hash]) for row in rows]), by="event"
    )


class _Wait(Protocol):
    """What a row says of a wait for an event."""

    @property
    def step_run_id(self) -> UUID: ...
    @property
    def run_id(self) -> UUID: ...
    @property
    def version_id(self) -> UUID: ...
    @property
    def match_path(self) -> str: ...
    @property
    def value_hash(self) -> str: ...
    @property
    def condition(self) -> str: ...


_Event = Event | LookBackRow


def _first_that_fit(candidates: Sequence[tuple[_Wait, Sequence[_Event]]]) -> dict[UUID, UUID]:
    """By wait: the first of its events whose value and condition fit."""
    met: dict[UUID, UUID] = {}
    open_: list[tuple[_Wait, list[_Event]]] = []
    for wait, events in candidates:
        fitting = [event for event in events if _has_value(wait, event)]
        if fitting and (
            not wait.condition or _is_unloadable(wait) or _is_unopened(wait)
        ):  # (its end says why it fails)
            met[wait.step_run_id] = fitting[0].id
        elif fitting:
            open_.append((wait, fitting))
    for first in range(0, len(open_), PAGE):
        page = open_[first : first + PAGE]
        keys = {key for wait, _ in page for key in _read(wait)}
        pairs = [(wait.step_run_id, wait.run_id) for wait, _ in page]
        scopes = expression_context.load_steps(pairs, keys, inner=[id_ for id_, _ in pairs])
        for wait, events in page:
            own = scopes[wait.step_run_id]
            for event in events:
                if _holds(wait, {**own, "async": facts_of(event)}):
                    met[wait.step_run_id] = event.id
                    break
    return met


def _condition_of(wait: _Wait) -> Expression:
    return compile_expression(open_text(wait.condition), owner=flow_cache.flow_of(wait.version_id).org_id)


def _is_unloadable(wait: _Wait) -> bool:
    """Whether nobody can evaluate the wait's condition. Raises UnloadableVersion where another process may."""
    refused = flow_cache.load([wait.version_id]).refused.get(wait.version_id)
    if isinstance(refused, UnloadableVersion) and refused.newer:
        raise refused
    return refused is not None


def _is_unopened(wait: _Wait) -> bool:
    """Whether the wait's condition is encrypted under a key that is not here."""
    return isinstance(open_text(wait.condition), UnopenedText)


def _read(wait: _Wait) -> set[str]:
    """The steps that a condition reads, and those that may stand in for them."""
    return flow_cache.flow_of(wait.version_id).with_fallbacks(_condition_of(wait).steps)


def _has_value(wait: _Wait, event: _Event) -> bool:
    if not wait.match_path:
        return True
    value = value_at(facts_of(event), wait.match_path)
    return value is not MISSING and hash_of(value) == wait.value_hash


def _holds(wait: _Wait, scope_: Mapping[str, Any]) -> bool:
    try:
        return _condition_of(wait).is_true(scope_)
    except EncryptionKeyMissing:
        return True  # its end says why it fails
    except BaseException as error:  # whatever it is, it is about this wait only
        ending.raise_if_ending(error)
        log.info("a wait's condition does not hold", run_id=str(wait.run_id), error=str(error))
        return False


def claim_waits(
    met: Mapping[UUID, UUID | None], *, by: str, answer: Any = None, org_id: UUID | None = None
) -> list[UUID]:
    """Take waits (step run → the event, if any) that nobody has taken. Returns those that are taken now."""
    if not met:
        return []
    text = None if answer is None else dump(answer, what="The answer")
    if text is not None and org_id is not None:
        text = sealed.value(text, org_id)
    rows = sql.take_waits(ids=met, event_ids=met.values(), taken_by=by, answer=text, org=org_id)
    return [row.step_run_id for row in rows]


def take_for_runs(run_ids: Sequence[UUID]) -> list[UUID]:
    """Take the waits for runs that have ended."""
    if not run_ids:
        return []
    return [row.step_run_id for row in sql.take_waits_for_runs(children=run_ids)]


# --- what they came to ----------------------------------------------------------------------------------------------


def results(step_run_ids: Sequence[UUID]) -> list[StepResult]:
    """What waits that are taken came to, to be recorded; those of steps that wait no more are dropped."""
    rows = sql.taken_waits(ids=step_run_ids)
    gone = [row.id for row in rows if not row.waits]
    if gone:
        drop(gone)
    return [_result(row) for row in rows if row.waits]


def drop(step_run_ids: Sequence[UUID]) -> None:
    """Delete these waits. Call it once their outcomes are recorded."""
    if not step_run_ids:
        return
    sql.drop_waits(ids=step_run_ids)


def _result(row: TakenWaitsRow) -> StepResult:
    claim = Claim.of(row, None, waited_for=row.waiting_for)
    try:
        if row.taken_by == "event":
            _check_open(row)
        outcome = outcome_of(row)
        output = outcome.output if isinstance(outcome, Completed) else None
        return StepResult(claim=claim, outcome=outcome, output=None if output is None else dump(output))
    except BaseException as error:  # one that can't be recorded must not keep the others from it
        ending.raise_if_ending(error)
        return StepResult(claim=claim, outcome=Failed(error=describe(error)))


def _check_open(row: TakenWaitsRow) -> None:
    """Raises EncryptionKeyMissing where nobody could tell whether the event is the one that was waited for."""
    condition = open_text(row.condition)
    envelope.check_open(condition)
    if condition and envelope.keys().has_missed:  # else this process has opened all that it has read
        flow = flow_cache.flow_of(row.version_id)
        keys = flow.with_fallbacks(compile_expression(condition, owner=flow.org_id).steps)
        envelope.check_open(expression_context.load_steps([(row.id, row.run_id)], keys, inner=[row.id]))


class TakenWait(Protocol):
    """What ended a wait, and what its end depends on."""

    @property
    def taken_by(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def options(self) -> Any: ...
    @property
    def answer(self) -> Any: ...
    @property
    def event_id(self) -> UUID | None: ...
    @property
    def event_name(self) -> str | None: ...
    @property
    def event_data(self) -> Any: ...
    @property
    def event_user(self) -> Any: ...
    @property
    def event_ts(self) -> dt.datetime | None: ...
    @property
    def child_id(self) -> UUID | None: ...
    @property
    def child_status(self) -> str | None: ...
    @property
    def child_output(self) -> Any: ...
    @property
    def child_error(self) -> Any: ...


def outcome_of(row: TakenWait) -> Outcome:
    """What a wait that is taken came to."""
    if row.taken_by == "timeout":
        return _of_timeout(row)
    if row.kind == "approval":
        answer: dict[str, Any] = row.answer
        if not answer["approved"] and row.options.get("on_reject") == "fail":
            said = f": {answer['comment']}" if answer.get("comment") else "."
            return _failed(Category.BUSINESS, "Rejected", f"Rejected by {answer['by']}{said}")
        return Completed(output=answer)
    if row.kind == "run":
        return _of_child(row)
    assert row.event_id is not None
    assert row.event_name is not None
    assert row.event_ts is not None
    facts = event_facts(
        id_=row.event_id, name=row.event_name, data=row.event_data, user=row.event_user, ts=row.event_ts
    )
    return Completed(output=facts["data"] if row.options.get("callback") else facts)


def _of_timeout(row: TakenWait) -> Outcome:
    if row.options.get("on_timeout") == "fail":
        return _failed(Category.BUSINESS, "WaitTimedOut", NOBODY_CAME)
    return Completed(output={"approved": False, "timedOut": True} if row.kind == "approval" else None)


def _of_child(row: TakenWait) -> Outcome:
    if row.child_status == "completed":
        return Completed(output=row.child_output)
    if row.options.get("on_failure") == "continue":
        return Completed(output=None)
    if row.child_status is None:
        message = f"The run {row.child_id}, which the flow gave for its key, had ended and is deleted (retention)."
        return _failed(Category.BUSINESS, "ChildPruned", message)
    inner = row.child_error or {}
    said = inner.get("message") or "it was cancelled."
    category = Category(inner["category"]) if inner.get("category") in set(Category) else Category.BUSINESS
    return _failed(category, "ChildFailed", f"The run {row.child_id} {row.child_status}: {said}")


def _failed(category: Category, name: str, message: str) -> Failed:
    return Failed(error=StepError(category=category, name=name, message=message))
