"""What a visit of a flow's code has at hand, whether the code is sync or async: its journal, its claim, its steps."""

from __future__ import annotations

import contextlib
import datetime as dt
import inspect
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
import uuid6
from django.db import connections

from workflows.definitions.compiled import CompiledStep
from workflows.definitions.discovered import DiscoveredSteps
from workflows.engine.calls.inline import FunctionVisit
from workflows.engine.pipeline import batch_size, perform
from workflows.engine.pipeline.perform import Handler, RenderedStep, Visit
from workflows.engine.sql import calls as sql
from workflows.engine.state import database
from workflows.engine.state.records import Claim, StepResult
from workflows.engine.state.transitions.calls import NewCall
from workflows.errors import Category
from workflows.functions import payloads
from workflows.functions.calls import Call
from workflows.functions.failures import StepCallRefused, StepFailed
from workflows.functions.flows import MAIN, FunctionFlow
from workflows.functions.journal import Journal, JournalRow, Place, is_decided
from workflows.functions.surroundings import Engine, Performer, Surroundings
from workflows.sealing.envelope import check_open
from workflows.steps.context import AttemptLog, StepContext
from workflows.steps.masking import Secrets
from workflows.steps.outcome import Completed, Failed, Suspended
from workflows.steps.registry import StepConfig

MAX_CALLS = 10_000
AWAY_S = 0.015
"""What it costs a gather that its steps are dispatched: the way through the broker, and another visit of the code."""
IN_PLACE_S, IN_PLACE_OF_LOOP_S = 0.002, 0.003
"""What it costs a visit to begin a step and to have it recorded; of an async flow, which has that done by threads."""
_performing: ContextVar[StepContext | None] = ContextVar("performing", default=None)
"""The step that is being performed: its function can't ask for others."""


@contextlib.contextmanager
def performing(context: StepContext) -> Iterator[None]:
    """While the function of a step is called."""
    token = _performing.set(context)
    try:
        yield
    finally:
        _performing.reset(token)


def within(handler: Handler) -> Handler:
    """The handler, marked as that of a step while it runs: sync, or async."""
    if inspect.iscoroutinefunction(handler):

        async def perform_async(context: StepContext) -> Any:
            with performing(context):
                return await handler(context)

        return perform_async

    def perform_sync(context: StepContext) -> Any:
        with performing(context):
            value = handler(context)
        return _awaited(value, context) if inspect.isawaitable(value) else value

    return perform_sync


async def _awaited(value: Any, context: StepContext) -> Any:
    with performing(context):
        return await value


def _open_blocks() -> dict[str, int]:
    """How many blocks of atomic() are open, by database."""
    return {each.alias: len(each.atomic_blocks) for each in connections.all(initialized_only=True)}


@dataclass(kw_only=True)
class FunctionRun:
    """One visit of the code of a flow.

    `target`: the step for which it is visited; None: the visit belongs to the function itself, and goes on with what
    the code asks for.
    """

    flow: FunctionFlow
    context: StepContext
    journal: Journal
    is_same_code: bool
    function_id: UUID
    target: UUID | None = None
    only_finds: bool = False
    """The step is only looked for: the visit gives its call, and does not perform it."""
    around: Surroundings = field(default_factory=Engine)
    worker: Performer | None = None
    visit: FunctionVisit | None = None
    failed: list[UUID] = field(default_factory=list)
    """The steps whose failures the code has seen: where it goes on, it has handled them."""
    handled: int = 0
    """How many more were noted as handled in this visit."""
    awaited: list[UUID] = field(default_factory=list)
    new: list[NewCall] = field(default_factory=list)
    calls: dict[UUID, Call] = field(default_factory=dict)
    """By step run: those that are new."""
    any_of: bool = False
    leaving: BaseException | None = None
    """Why the code is left. From then on only its blocks of `finally` run: they begin no step, and say nothing."""
    goes_on: bool = False
    """The next visit follows at once, with what is new."""
    branch: str = ""
    """Of sync code that is in one: its way through the gathers of the code."""
    draws: Counter[str] = field(default_factory=Counter)
    """Of ids and random numbers, by branch: each has its own, since visits go through branches in various orders."""
    path: str = MAIN
    """That of the steps in the journal."""
    _blocks: Mapping[str, int] = field(default_factory=_open_blocks)
    """Those around the visit itself, as tests have them."""

    @property
    def claim(self) -> Claim:
        claim: Claim = self.context.claim
        return claim

    def event(self) -> payloads.ReceivedEvent:
        """What has started the run."""
        facts = self.context.scope["event"]
        return payloads.ReceivedEvent.of(facts, self.flow.model_of(facts["name"]))

    def secret(self, name: str) -> str:
        """A secret, masked from now on. Raises StepCallRefused without one, ConfigurationFailure for a lost one."""
        try:
            value = self.around.secrets_of(self.claim.org_id)[name]
        except KeyError:
            raise StepCallRefused(f"There is no secret {name!r}; store it with: manage.py secret set {name}") from None
        self.context.secrets.add(value)
        return value

    @property
    def current(self) -> StepContext:
        """What is being executed: a step, or else the code itself."""
        return _performing.get() or self.context

    @property
    def log(self) -> AttemptLog:
        """The log of the try; of code that is only replayed, one that keeps nothing."""
        if (inner := _performing.get()) is not None:
            return inner.log
        if self._is_muted:
            return AttemptLog(structlog.get_logger, self.context.secrets, is_muted=True)
        return self.context.log

    def progress(self, percent: float, message: str) -> None:
        """Report the progress of the step or of the run; of code that is only replayed, nothing."""
        if (inner := _performing.get()) is not None:
            inner.progress(percent, message)
        elif not self._is_muted:
            self.context.progress(percent, message)

    @property
    def _is_muted(self) -> bool:
        return self.target is not None or self.journal.is_replaying or self.leaving is not None

    def enter(self, call: Call) -> Place:
        """The place of a call in the journal. Raises StepCallRefused where no step can be called now."""
        if _performing.get() is not None:
            raise StepCallRefused(
                f"The step {call.name!r} is called within another one: return from that first, or call a function."
            )
        self.context.check_cancelled()
        return self.journal.enter(call.name, call.options.type)

    def check_may_perform(self, call: Call) -> None:
        """Raises StepCallRefused where what the step does could be undone by a transaction that is open."""
        if open_ := [alias for alias, count in _open_blocks().items() if count > self._blocks.get(alias, 0)]:
            raise StepCallRefused(
                f"The step {call.name!r} is called within atomic() on {open_[0]!r}: what it does and its record could "
                "not be undone with that. Close the block first, or use step.atomic(name, function)."
            )

    def value(self, call: Call, row: JournalRow) -> Any:
        """The value of a step that has ended. Raises StepFailed."""
        if row.ended_at is not None:
            self.journal.ended(row.ended_at)
        if row.status == "failed":
            self.failed.append(row.id)
            raise StepFailed.of(call.name, row.error, row.attempt, row.ended_at)
        return call.value_of(row.output)

    def is_target(self, place: Place) -> bool:
        """Whether the visit is made for this step."""
        return self.target is not None and place.row is not None and place.row.id == self.target

    def wait_for(self, row: JournalRow) -> None:
        """Note a step that has not ended."""
        self.awaited.append(row.id)

    def make_new(self, call: Call, place: Place) -> NewCall:
        """A step that is not in the journal. Raises StepCallRefused where there are too many, or where its options are
        not those of its name."""
        self.check_may_perform(call)
        if place.position >= MAX_CALLS:
            raise StepCallRefused(
                f"A run has {MAX_CALLS:,} steps at most: let parts of the work be runs of their own (step.invoke)."
            )
        new = NewCall(id=uuid6.uuid7(), key=place.key, position=place.position, step=self._step(call, place.key))
        self.calls[new.id] = call
        return new

    def _step(self, call: Call, key: str) -> CompiledStep:
        flow = self.around.flow_of(self.claim.version_id)
        assert isinstance(flow.steps, DiscoveredSteps)
        steps: DiscoveredSteps[CompiledStep] = flow.steps
        with database.borrowed():
            if call.name not in steps:
                self.around.note_discovered(self.claim.version_id, call.name, call.options)
            step = steps[key]
        given = {name: getattr(call.options, name) for name in type(call.options).model_fields}
        if step.type.name != call.options.type or (self.is_same_code and steps.options_of(call.name) != given):
            raise StepCallRefused(
                f"The step {call.name!r} has been called with other options in this version of the flow: options "
                "belong to a name. Give this call a name of its own."
            )
        return step

    def may_perform(self, new: NewCall) -> bool:
        """Whether this visit may perform the step itself."""
        if self.worker is None or self.visit is None or self.calls[new.id].is_long:
            return False
        return self.worker.may_begin(self.visit, new)

    @property
    def _in_place_s(self) -> float:
        return IN_PLACE_OF_LOOP_S if self.flow.is_async else IN_PLACE_S

    def _seconds_of(self, new: NewCall) -> float | None:
        """How long a step lately took that is a plain call of a function; None where nobody knows, and of others."""
        call = self.calls[new.id]
        if call.is_atomic or call.config is not None or call.options.throttling is not None:
            return None
        return batch_size.mean_s(self.claim.version_id, new.key)

    def is_quick(self, new: Iterable[NewCall], within_s: float) -> bool:
        """Whether these steps of a gather are performed within this, one after the other in this visit.

        Where they are, that is quicker than having them dispatched. Only where the code has asked for all of the
        journal: a branch that is still to come may have to wait, or the code may not fit.
        """
        if self.journal.is_replaying:
            return False
        left_s = within_s
        for each in new:
            lately_s = self._seconds_of(each)
            if lately_s is None:
                return False
            left_s -= lately_s + self._in_place_s
        return left_s >= 0

    def spent_on(self, new: NewCall, seconds: float) -> float:
        """Note how long a step of a gather took in this visit. Returns what it has cost that."""
        if self.calls[new.id].is_async:
            batch_size.observe_awaited(self.claim.version_id, new.key, seconds)
        else:
            batch_size.observe_blocking(self.claim.version_id, new.key, new.step.type.name, seconds)
        return seconds + self._in_place_s

    def begin(self, new: NewCall, *, handled: int | None = None) -> Visit | None:
        """Begin a step; None where the function has to wait for it, or to end. `handled`: after how many of the
        failures that it has seen the code goes on; all, unless those of a gather are still to be raised."""
        assert self.worker is not None
        assert self.visit is not None
        self._note_handled(handled)
        begun = self.worker.begin(self.visit, new)
        if begun is None:
            self.awaited.append(new.id)
        return begun

    def rendered(self, visit: Visit) -> RenderedStep:
        """The step, as it is performed."""
        secrets: Secrets = self.context.secrets
        context = perform.context_of(visit, StepConfig(), secrets)
        context.now = self.around.now
        return RenderedStep(visit=visit, context=context, input=None, secrets=secrets)

    def take(self, call: Call, visit: Visit, result: StepResult) -> Any:
        """The value of a step that has just been performed. Raises StepFailed, or Unfinished where the function has to
        wait for it."""
        assert self.worker is not None
        assert self.visit is not None
        outcome = result.outcome
        if isinstance(outcome, Failed):
            if not self.worker.record(self.visit, visit, result):
                raise Unfinished(visit.claim.id)
            now = self.around.now()
            self.journal.ended(now)
            self.failed.append(visit.claim.id)
            raise StepFailed.of(call.name, outcome.error.as_json(), visit.claim.attempt, now)
        if call.is_atomic and isinstance(outcome, Completed):
            self.worker.recorded(self.visit, visit, result)
        elif not self.worker.end(self.visit, visit, result) or not isinstance(outcome, Completed):
            raise Unfinished(visit.claim.id)
        self.journal.ended(self.around.now())
        return call.value_of(None if result.output is None else json.loads(result.output))

    def suspended(self, handled: int | None = None) -> Suspended:
        """The end of the visit: what is new is dispatched. `handled`: as `begin` has it. Raises Nondeterminism where
        the code has left out steps."""
        if self.new:
            self._note_handled(handled)
            self.journal.check_new(Place(self.new[0].key, self.new[0].position, None))
            opened = self.around.open_steps(self.claim, self.new, self.calls)
            if len(opened) < len(self.new):
                return Suspended()
            self.awaited += opened
        if self.goes_on:
            return Suspended()
        return Suspended(awaited=tuple(self.awaited), any_of=self.any_of)

    def completed(self, value: Any) -> Completed:
        """The end of the run. Raises Nondeterminism where the code has left out steps."""
        self.journal.check_end()
        self._note_handled()
        if self.flow.output_model is not None and not isinstance(value, self.flow.output_model):
            value = payloads.typed(value, self.flow.output_model, Category.INVALID_OUTPUT)
        return Completed(output=payloads.plain(value))

    def _note_handled(self, count: int | None = None) -> None:
        """The code goes on after the first failures, or all: their dead letters are for nobody to repair."""
        handled = self.failed[:count]
        if handled and self.target is None:
            self.around.note_handled(handled)
            self.failed = self.failed[len(handled) :]
            self.handled += len(handled)

    def close(self) -> None:
        """Have recorded what the visit has performed."""
        if self.worker is not None and self.visit is not None:
            self.worker.close(self.visit)


class Unfinished(BaseException):
    """A step that was performed in the visit has not ended: it is tried again, sleeps, or waits."""

    def __init__(self, step_run_id: UUID) -> None:
        super().__init__()
        self.step_run_id = step_run_id


def load_journal(function_id: UUID, scope: Any) -> Journal:
    """The journal of a function's step run. Raises EncryptionKeyMissing where an output in it can't be opened."""
    began_at = dt.datetime.fromisoformat(scope["run"]["createdAt"])
    with database.borrowed():
        rows = sql.load_journal(function=function_id)
    check_open([row.output for row in rows])
    return Journal(rows, began_at=began_at)


def is_ended(row: JournalRow | None) -> bool:
    """Whether there is a step, and it has ended."""
    return row is not None and is_decided(row)
