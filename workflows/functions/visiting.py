"""The handlers of `function` and `python` steps: a visit of a flow's code, for itself or for one of its steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog

from workflows import this_process
from workflows.definitions.compiled import CompiledFlow
from workflows.engine.calls.inline import Inline
from workflows.engine.pipeline import retry_decision
from workflows.engine.state import flow_cache
from workflows.engine.worker import bootstep
from workflows.engine.worker.bootstep import NoRuntime
from workflows.functions import code_versions, flows, visits
from workflows.functions.calls import Call
from workflows.functions.driving import async_driver, sync_driver
from workflows.functions.failures import Nondeterminism, TargetDone
from workflows.functions.flows import MAIN
from workflows.functions.performing import background
from workflows.functions.performing.local_calls import LocalCalls
from workflows.functions.surroundings import Engine
from workflows.functions.visits import FunctionRun
from workflows.steps.context import StepContext
from workflows.steps.failure_category import MAX_SERVER_RETRY_WAITS, MAX_TOLD_WAIT_S
from workflows.steps.outcome import HandBack, Outcome, Retry
from workflows.steps.registry import Mode
from workflows.steps.types.delay import handle as wake_up

log = structlog.get_logger(__name__)
FIRST_WAIT_S = 5.0
"""Seconds until code that does not fit a run's journal is tried again; doubled each time, up to an hour."""


def visit_function(context: StepContext) -> Any:
    """Visit the code of a flow: a result, or in an async flow what gives one."""
    return _visit(context, function_id=context.step_run_id, target=None)


def perform_call(context: StepContext) -> Any:
    """Visit the code of a flow to perform one of its steps: what that gives. Raises what it raises."""
    if context.claim.type == "delay" and context.wake_seq > 0:
        return _later(wake_up(context)) if _is_async(context) else wake_up(context)
    call = this_process.own(LocalCalls).take(context.step_run_id) if context.attempt == 1 else None
    if call is not None and _is_async(context):
        return async_driver.perform_step(call, context, Engine())
    if call is not None:
        return sync_driver.perform_step(call, context, Engine(), wakes=True)
    version = flow_cache.flow_of(context.claim.version_id)
    if _is_async(context) and version.steps[MAIN].mode is not Mode.ASYNC:
        return _perform_on_loop(context, version)
    return _visit(context, function_id=context.claim.container_id, target=context.step_run_id)


async def _perform_on_loop(context: StepContext, version: CompiledFlow) -> Any:
    """An async step of a sync flow: the code is gone through in a thread, up to its call."""
    around = Engine()
    run = await around.off_loop(_prepare, context, version, context.claim.container_id, context.step_run_id)
    if isinstance(run, HandBack):
        return run
    run.only_finds = True
    found = await around.in_thread(_judged, run, sync_driver.Driver(run).drive)
    return await async_driver.perform_step(found, context, around) if isinstance(found, Call) else found


def _is_async(context: StepContext) -> bool:
    """Whether the step runs on the event loop."""
    return flow_cache.flow_of(context.claim.version_id).steps[context.key].mode is Mode.ASYNC


async def _later(value: Any) -> Any:
    return value


def _visit(context: StepContext, *, function_id: UUID, target: UUID | None) -> Any:
    version = flow_cache.flow_of(context.claim.version_id)
    if version.steps[MAIN].mode is Mode.ASYNC:
        return _visit_async(context, version, function_id, target)
    run = _prepare(context, version, function_id, target)
    return run if isinstance(run, HandBack) else _judged(run, sync_driver.Driver(run).drive)


async def _visit_async(context: StepContext, version: CompiledFlow, function_id: UUID, target: UUID | None) -> Any:
    threads = background.engine_threads()
    run = await asyncio.get_running_loop().run_in_executor(threads, _prepare, context, version, function_id, target)
    return run if isinstance(run, HandBack) else await _drive_async(run)


def _prepare(
    context: StepContext, version: CompiledFlow, function_id: UUID, target: UUID | None
) -> FunctionRun | HandBack:
    """What the visit needs; the step goes back where another worker has the code for it."""
    config = version.steps[MAIN].constant
    found = flows.find(version.slug)
    if (
        found is None
        or found.is_async != getattr(config, "is_async", False)
        or (not code_versions.may_visit(found, version, config))
    ):
        log.warning(
            "this worker does not have the code of the flow; another may",
            flow=version.slug,
            run_id=str(context.run_id),
            function=getattr(config, "function", ""),
        )
        return HandBack(after_s=this_process.own(code_versions.Refused).pause_s(context.step_run_id))
    worker = _worker() if target is None else None
    return FunctionRun(
        flow=found,
        context=context,
        journal=visits.load_journal(function_id, context.scope),
        is_same_code=found.digest == getattr(config, "digest", ""),
        function_id=function_id,
        target=target,
        worker=worker,
        visit=worker.visit_of(function_id) if worker is not None else None,
    )


def _worker() -> Inline | None:
    """What performs steps within visits; None in a process that only performs a step alone."""
    try:
        return bootstep.current().inline
    except NoRuntime:
        return None


def _judged(run: FunctionRun, drive: Callable[[], Outcome]) -> Any:
    try:
        outcome = drive()
    except TargetDone as done:
        return _value_of(done)
    except Nondeterminism as error:
        return _wait_for_code(run, error)
    return outcome if run.target is None else _wait_for_code(run, _not_reached(run))


async def _drive_async(run: FunctionRun) -> Any:
    try:
        outcome = await async_driver.AsyncDriver(run).drive()
    except TargetDone as done:
        return _value_of(done)
    except Nondeterminism as error:
        return _wait_for_code(run, error)
    return outcome if run.target is None else _wait_for_code(run, _not_reached(run))


def _value_of(done: TargetDone) -> Any:
    if done.error is not None:
        raise done.error
    return done.value


def _not_reached(run: FunctionRun) -> Nondeterminism:
    return Nondeterminism(f"The code does not ask for the step {run.claim.key!r} any more.")


def _wait_for_code(run: FunctionRun, error: Nondeterminism) -> Outcome:
    """The try has failed, and nothing is lost: other code may fit. Raises the error once that has been hoped for ten
    times."""
    waits = run.claim.server_retry_waits
    if waits >= MAX_SERVER_RETRY_WAITS:
        raise error
    delay_s = min(MAX_TOLD_WAIT_S, FIRST_WAIT_S * 2**waits)
    return Retry(error=retry_decision.describe(error, run.context.secrets), delay_s=delay_s, by_server=True)
