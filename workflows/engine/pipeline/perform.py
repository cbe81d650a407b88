"""Performing one claimed step: from its configuration to a result. No state is written here."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from threading import Event, Lock
from typing import Any
from uuid import UUID

import structlog
from structlog.stdlib import BoundLogger

from workflows.definitions.compiled import CompiledFlow, CompiledStep
from workflows.engine.pipeline import admit, retry_decision
from workflows.engine.state import expression_context as scope
from workflows.engine.state import flow_cache, needs, secret_sources
from workflows.engine.state.records import Claim, StepResult
from workflows.engine.telemetry import step_events
from workflows.engine.worker import ending
from workflows.errors import (
    ConfigurationFailure,
    DeadlinePassed,
    ResourceExhausted,
    StepCancelled,
    StepFailure,
    WorkflowsError,
)
from workflows.payload import dump
from workflows.sealing.envelope import check_open
from workflows.steps import failure_category
from workflows.steps.context import AttemptLog, StepContext
from workflows.steps.masking import Secrets
from workflows.steps.outcome import (
    Cancelled,
    Completed,
    Failed,
    FanOut,
    HandBack,
    Outcome,
    Retry,
    Skipped,
    Sleep,
    Suspended,
    WaitFor,
)
from workflows.steps.registry import StepConfig

log = structlog.get_logger("workflows.steps")
_OUTCOMES = (Completed, Failed, Retry, Sleep, WaitFor, FanOut, Suspended, Skipped, Cancelled, HandBack)
_NO_SCOPE: scope.Scope = {}
TOO_LATE = "The step did not end by its deadline."


@dataclass(kw_only=True, eq=False)
class Visit:
    """A claimed step in this process, from its claim to its result."""

    claim: Claim
    flow: CompiledFlow
    step: CompiledStep
    scope: scope.Scope = field(default_factory=lambda: _NO_SCOPE)
    claimed_at: float = field(default_factory=time.monotonic)
    performed_since: float | None = None
    """When its handler began, where that is later than the claim: blocking ones wait for a thread."""
    cancelled: Event = field(default_factory=Event)
    stoppers: list[Callable[[], None]] = field(default_factory=list)
    cancelled_at: float | None = None
    """When this worker saw that the run was cancelled, by the monotonic clock."""
    is_elsewhere: bool = False
    """Another thread, or the event loop, performs it and ends it."""
    performs_here: bool = False
    """Its handler is being executed by the thread that visits: in a compute child the only one there is."""
    due_at: float = math.inf
    """The step's own deadline, by the monotonic clock."""
    task: asyncio.Task[Any] | None = None
    start_by: float = math.inf
    """When its stamp at the gate gets too old to start by, by the monotonic clock."""
    leave_for_s: float | None = None
    """Seconds that the step rests where it is handed back: no worker could start it now."""
    started: float | None = None
    around: Visit | None = None
    """The visit of the function that performs the step itself."""
    progress: dict[str, Any] | None = None
    """What its handler reported, until that is stored."""
    _closed: bool = False
    _lock: Lock = field(default_factory=Lock)

    @property
    def deadline(self) -> float:
        return min((self.performed_since or self.claimed_at) + self.claim.timeout_ms / 1000, self.due_at)

    @property
    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> bool:
        """True for the first caller: of several outcomes (late, timed out, cancelled) only one counts."""
        with self._lock:
            first, self._closed = not self._closed, True
            return first

    def handed_back(self) -> StepResult:
        """The result where this worker could not start or finish the step: another may take it."""
        return StepResult(claim=self.claim, outcome=HandBack(after_s=self.leave_for_s))


def open_visits(claims: list[Claim]) -> list[Visit]:
    """Visits with the scopes that their steps read, loaded by one statement for all of them.

    Claims whose versions can't be loaded have been taken out before, by `flow_cache.divide`.
    """
    visits = []
    keys: set[str] = set()
    readers: list[tuple[UUID, UUID]] = []
    for claim in claims:
        flow = flow_cache.flow_of(claim.version_id)
        step = flow.steps[claim.key]
        visits.append(Visit(claim=claim, flow=flow, step=step))
        if step.reads_scope:
            readers.append((claim.id, claim.run_id))
            keys |= step.reads_steps
    if readers:
        inner = [visit.claim.id for visit in visits if visit.step.container and visit.step.reads_scope]
        scopes = scope.load_steps(readers, keys, inner=inner)
        for visit in visits:
            if visit.step.reads_scope:
                visit.scope = scopes[visit.claim.id]
    return visits


@dataclass(frozen=True, kw_only=True)
class RenderedStep:
    """A step whose configuration is rendered: ready for its handler."""

    visit: Visit
    context: StepContext
    input: str | None
    secrets: Secrets


def render(visit: Visit) -> RenderedStep | StepResult:
    """Evaluate the condition, render and validate the configuration; a result where that already decides."""
    claim, step = visit.claim, visit.step
    secrets = Secrets()
    try:
        check_open(visit.scope)
        if reason := needs.reason_to_skip(claim, step, visit.scope):
            return StepResult(claim=claim, outcome=Skipped(reason=reason))
        if step.deadline is not None:
            left_s = _left_s(step.deadline.evaluate(visit.scope), step.deadline.source)
            if left_s <= 0:
                return StepResult(claim=claim, outcome=Skipped(reason="deadline_passed"))
            visit.due_at = time.monotonic() + left_s
        admit.check(claim, visit.scope)
        scope_ = visit.scope
        if step.reads_secrets:
            values, secrets = secret_sources.secrets_of(claim.org_id)
            scope_ = {**visit.scope, "secrets": values}
        config, rendered = step.render(scope_)
        kept = _kept_input(rendered, secrets)
    except BaseException as error:  # whatever it is, it must not take the worker's slot along
        ending.raise_if_ending(error)
        return judge_error(visit, error, secrets)
    return RenderedStep(visit=visit, context=context_of(visit, config, secrets), input=kept, secrets=secrets)


def _left_s(value: Any, source: str) -> float:
    """Seconds until a deadline: a time with its zone (as text too), or milliseconds of the epoch.

    Raises ConfigurationFailure for anything else.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value / 1000 - time.time()
    at = value
    if isinstance(value, str):
        try:
            at = dt.datetime.fromisoformat(value)
        except ValueError:
            at = None
    if not isinstance(at, dt.datetime) or at.tzinfo is None:
        raise ConfigurationFailure(
            f"deadline: `{source}` gives {value!r}; it must be a time with its zone, or milliseconds of the epoch."
        )
    return at.timestamp() - time.time()


def _kept_input(rendered: Any, secrets: Secrets) -> str | None:
    """The rendered configuration as JSON, masked. It is searched as one text; each of its texts only where that holds a
    secret."""
    if rendered is None:
        return None
    what = "The rendered configuration"
    try:
        text = dump(rendered, what=what)
    except WorkflowsError:  # its message may hold a secret, as a key: that of the masked one does not
        return dump(secrets.mask_json(rendered), what=what)
    masked = secrets.mask_json(rendered, text)
    return text if masked is rendered else dump(masked, what=what)


def context_of(visit: Visit, config: StepConfig, secrets: Secrets) -> StepContext:
    """What the handler of a visit gets to see."""
    claim = visit.claim
    return StepContext(
        config=config,
        scope=visit.scope,
        org_id=claim.org_id,
        run_id=claim.run_id,
        step_run_id=claim.id,
        flow=visit.flow.slug,
        key=claim.key,
        path=claim.path,
        attempt=claim.attempt,
        wake_seq=claim.wake_seq,
        server_retry_waits=claim.server_retry_waits,
        earlier_tries=claim.attempt - 1 + claim.losses + claim.server_retry_waits,
        deadline=visit.deadline,
        log=AttemptLog(functools.partial(_bound_log, visit), secrets),
        secrets=secrets,
        cancelled=visit.cancelled,
        stoppers=visit.stoppers,
        report=functools.partial(setattr, visit, "progress"),
        end_by=functools.partial(setattr, visit, "due_at"),
        claim=claim,
        given_timeout_ms=visit.step.given_timeout_ms,
    )


def _bound_log(visit: Visit) -> BoundLogger:
    claim = visit.claim
    bound: BoundLogger = log.bind(
        flow=visit.flow.slug, run_id=str(claim.run_id), step_run_id=str(claim.id), step=claim.key, attempt=claim.attempt
    )
    return bound


Handler = Callable[[StepContext], Any]


def perform(rendered: RenderedStep, handler: Handler | None = None) -> StepResult:
    """Run a synchronous handler to its result: that of the step's type, unless another is given."""
    rendered.visit.started = time.monotonic()
    step_events.started(rendered.visit.claim)
    try:
        return judge_value(rendered, (handler or rendered.visit.step.type.handler)(rendered.context))
    except BaseException as error:
        ending.raise_if_ending(error)
        return _judge_performed(rendered, error)


async def perform_async(rendered: RenderedStep, handler: Handler | None = None) -> StepResult:
    """Run an asynchronous handler to its result, within its deadline: that of the step's type, unless another is
    given."""
    rendered.visit.started = time.monotonic()
    step_events.started(rendered.visit.claim)
    try:
        awaitable: Awaitable[Any] = (handler or rendered.visit.step.type.handler)(rendered.context)
        async with asyncio.timeout(max(rendered.visit.deadline - time.monotonic(), 0)) as timer:
            value = await awaitable
        return judge_value(rendered, value)
    except TimeoutError as error:
        return _judge_performed(rendered, timed_out(rendered.visit) if timer.expired() else error)
    except BaseException as error:
        return _judge_performed(rendered, error)


def _judge_performed(rendered: RenderedStep, error: BaseException) -> StepResult:
    if rendered.visit.cancelled.is_set():
        return _result(rendered, Cancelled())
    if isinstance(error, StepCancelled | asyncio.CancelledError):
        error = StepFailure("The handler stopped as if it were cancelled, but its run is not.")
    result = judge_error(rendered.visit, error, rendered.secrets, rendered.input)
    return replace(result, pause_s=rendered.context.pause_s, logs=kept_logs(rendered.context))


def timed_out(visit: Visit) -> StepFailure:
    """The failure of a step whose time is up. A definition says of its deadline that a later try is skipped: so there
    may be one."""
    if visit.due_at < math.inf and visit.deadline >= visit.due_at:
        return DeadlinePassed(TOO_LATE) if visit.step.deadline is None else ResourceExhausted(TOO_LATE)
    return ResourceExhausted(f"The step did not end within its timeout of {visit.claim.timeout_ms} ms.")


def judge_value(rendered: RenderedStep, value: Any) -> StepResult:
    """The result of a handler that has returned: an Outcome, or a plain value that is the output."""
    outcome: Outcome = value if isinstance(value, _OUTCOMES) else Completed(output=value)
    if not isinstance(outcome, Completed):
        return _result(rendered, masked_outcome(outcome, rendered.secrets))
    try:
        output = stored_output(outcome.output, rendered.secrets)
    except WorkflowsError as error:
        return judge_error(rendered.visit, error, rendered.secrets, rendered.input)
    return _result(rendered, outcome, output)


def stored_output(value: Any, secrets: Secrets) -> str | None:
    """An output as JSON text that can be stored, without secrets. Raises InvalidOutput or PayloadTooLarge."""
    if value is None:
        return None
    output = dump(value)
    if secrets:
        masked = secrets.mask_json(value, output)
        output = output if masked is value else dump(masked)
    return output


def masked_outcome(outcome: Outcome, secrets: Secrets) -> Outcome:
    """The outcome with the secrets replaced in all that is stored of it."""
    if not secrets:
        return outcome
    if isinstance(outcome, Failed | Retry):
        error = outcome.error
        message, trace = secrets.mask(error.message), secrets.mask(error.traceback)
        return replace(outcome, error=replace(error, message=message, traceback=trace))
    if isinstance(outcome, FanOut):
        items, options = secrets.mask_json(outcome.items), secrets.mask_json(outcome.options)
        return replace(outcome, items=items, options=options)
    if isinstance(outcome, WaitFor):
        return replace(outcome, options=secrets.mask_json(outcome.options))
    return replace(outcome, reason=secrets.mask(outcome.reason)) if isinstance(outcome, Skipped) else outcome


def _result(rendered: RenderedStep, outcome: Outcome, output: str | None = None) -> StepResult:
    return StepResult(
        claim=rendered.visit.claim,
        outcome=outcome,
        output=output,
        input=rendered.input,
        started=rendered.visit.started,
        pause_s=rendered.context.pause_s,
        logs=kept_logs(rendered.context),
    )


def kept_logs(context: StepContext) -> str | None:
    """The lines of a try as they are stored; None where there are none."""
    lines = context.log.lines
    if not lines:
        return None
    return dump(
        [{**line, "message": retry_decision.storable(line["message"])} for line in lines], what="The log of the attempt"
    )


def _server_wait_s(error: BaseException) -> float | None:
    """How long the other side wants to be left alone; None for an exception that can't even say so."""
    try:
        return failure_category.server_wait_s(error)
    except BaseException as another:
        ending.raise_if_ending(another)
        return None


def judge_error(
    visit: Visit, error: BaseException, secrets: Secrets | None = None, kept_input: str | None = None
) -> StepResult:
    """The result of a handler that has raised: the category, the step's policy, the tries so far and the step's own
    deadline decide."""
    described = retry_decision.describe(error, secrets or ())
    outcome = retry_decision.decide(
        described,
        policy=admit.policies().retry(visit.step.facts),
        attempt=visit.claim.attempt,
        server_retry_waits=visit.claim.server_retry_waits,
        retry_after_s=_server_wait_s(error),
        final=retry_decision.is_final(error),
    )
    is_of_call = visit.step.deadline is None  # a try that comes too late for a definition's deadline is skipped
    if is_of_call and isinstance(outcome, Retry) and time.monotonic() + outcome.delay_s >= visit.due_at:
        last = f"The next try would begin after the deadline of the step. {described.name}: {described.message}"
        described = replace(retry_decision.describe(DeadlinePassed(last)), traceback=described.traceback)
        outcome = Failed(error=described)
    log.info(
        "retry attempt" if isinstance(outcome, Retry) else "step failed",
        flow=visit.flow.slug,
        run_id=str(visit.claim.run_id),
        step_run_id=str(visit.claim.id),
        step=visit.claim.key,
        attempt=visit.claim.attempt,
        category=described.category.value,
        error=described.message,
    )
    return StepResult(claim=visit.claim, outcome=outcome, input=kept_input, started=visit.started)
