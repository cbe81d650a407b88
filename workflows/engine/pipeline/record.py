"""Recording a group of outcomes: one statement, in a transaction with dead letters and run outputs where there are any.

A group that can't be recorded is halved until only the culprit is left, which fails alone (`invalid_output` where
Postgres refuses it).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import structlog

from workflows.definitions.compiled import NIL_UUID, CompiledFlow
from workflows.edge.unavailable import is_database_away
from workflows.engine.calls import waiting as calls
from workflows.engine.containers import fan_out
from workflows.engine.pipeline import announcements, ends, hints
from workflows.engine.pipeline.retry_decision import describe
from workflows.engine.sql import record as sql
from workflows.engine.state import database, expression_context, flow_cache
from workflows.engine.state.records import MayContinue, ReadyStep, Recorded, StepResult, always
from workflows.engine.state.transitions import runs as run_transitions
from workflows.engine.state.transitions import steps as step_transitions
from workflows.engine.state.transitions.steps import Recording
from workflows.engine.telemetry import job_log, sentry, step_events
from workflows.engine.waits import waits
from workflows.engine.worker import ending
from workflows.errors import Category, PayloadTooLarge
from workflows.payload import MAX_RUN_BYTES, dump
from workflows.sealing import envelope
from workflows.steps.outcome import (
    Completed,
    Failed,
    FanOut,
    HandBack,
    Retry,
    Skipped,
    Sleep,
    StepError,
    Suspended,
    WaitFor,
)

log = structlog.get_logger(__name__)
T = TypeVar("T")
DEADLOCK_TRIES = 5
RECONNECT_FOR_S = 8.0
LARGE_CHARACTERS = 16 * 1024
LEFT_TO_OTHERS_S = 5.0
"""Seconds until a step is offered again that only a process of a newer release can perform, or go on after."""
_CONTENTION = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


def record(
    results: Sequence[StepResult],
    *,
    worker: UUID = NIL_UUID,
    queues: frozenset[str] = frozenset(),
    max_continuations: int = 0,
    may_continue: MayContinue = always,
    lease: UUID | None = None,
) -> Recorded:
    """Record the results, and stop the runs that are bound to. `lease`: that of the successors which it claims.

    Results whose lease was lost meanwhile are dropped: the answer's `statuses` names those that counted. Raises
    psycopg.OperationalError where the database stays away for longer than leases live; nothing is half-recorded then.
    """
    options = _ContinueOptions(
        worker=worker, queues=queues, max_continuations=max_continuations, may_continue=may_continue, lease=lease
    )
    given = _of_loadable(results)
    recorded = _record_and_stop(given, options)
    part = recorded
    while part.new_waits or part.ended_child_runs or part.finished_containers:
        try:
            ended, ready = _ends_of_waits(given, part)
            given = _of_loadable(ended)  # they are of other runs, whose versions this process may not know
            recorded.ready.extend(ready)
            part = _record_and_stop(given, replace(options, max_continuations=0))
            recorded.add(part)
            forget([result for result in given if result.claim.id in part.statuses])
        except BaseException as error:  # what was recorded counts, and the caller goes on with it
            ending.raise_if_ending(error)
            log.exception(
                "what waits could not be looked at; rescue will",
                steps=len(part.new_waits) + len(part.finished_containers),
            )
            break
    report(recorded)
    return recorded


def report(recorded: Recorded) -> None:
    """After the commit: the log, and Sentry, of the runs that ended and of what failed for good."""
    if recorded.ended:
        job_log.ended(recorded.ended, versions=recorded.versions, sizes=recorded.sizes)
    if recorded.ended or recorded.failures:
        sentry.report(recorded.failures, [run_id for run_id, _ in recorded.ended])


def forget(results: Sequence[StepResult]) -> None:
    """Delete the waits and containers of waiting steps whose ends are recorded."""
    waits.drop([result.claim.id for result in results if result.claim.waited_for != fan_out.WAITS_FOR])
    fan_out.close([result.claim.id for result in results if result.claim.waited_for == fan_out.WAITS_FOR])


def _ends_of_waits(results: Sequence[StepResult], recorded: Recorded) -> tuple[list[StepResult], list[ReadyStep]]:
    """The results of waiting steps that these outcomes end, and the steps in containers that became ready."""
    met = [*waits.over_already(recorded.new_waits, results), *waits.take_for_runs(recorded.ended_child_runs)]
    concluded, ready = fan_out.conclude(sorted(set(recorded.finished_containers)))
    return [*(waits.results(met) if met else ()), *concluded], ready


_NEEDS_THE_FLOW = (Completed, Failed, Skipped, Sleep, WaitFor, FanOut, Suspended)
"""Outcomes whose consequences depend on the version."""


def _of_loadable(results: Sequence[StepResult]) -> list[StepResult]:
    """The results that can be recorded here. A step whose version nobody can load fails, since nobody knows what would
    follow it. One whose version another process may load is left to that: a claimed step goes back, and what belongs to
    no worker stays as it is, to be found again."""
    refused = _patiently(lambda: flow_cache.load({result.claim.version_id for result in results})).refused
    if not refused:
        return list(results)
    judged = []
    for result in results:
        error = refused.get(result.claim.version_id)
        if error is None or not isinstance(result.outcome, _NEEDS_THE_FLOW):
            judged.append(result)
        elif not flow_cache.is_newer(error):
            failed = isinstance(result.outcome, Failed)
            judged.append(result if failed else replace(result, outcome=Failed(error=describe(error)), output=None))
        elif result.claim.lease is not None:
            back = HandBack(after_s=LEFT_TO_OTHERS_S)
            judged.append(StepResult(claim=result.claim, outcome=back))
    return judged


def _record_and_stop(results: list[StepResult], options: _ContinueOptions) -> Recorded:
    recorded = _record(_within_run_limit(results), options)
    step_events.ended(results, recorded.statuses)
    ends.tell_types(results, recorded.statuses)
    if recorded.runs_to_stop:
        try:
            stopped = _patiently(lambda: run_transitions.stop_runs(sorted(set(recorded.runs_to_stop))))
            recorded.ended.extend(stopped.ended)
            recorded.ended_child_runs.extend(run_id for run_id, _ in stopped.ended)
            recorded.unstarted.extend(stopped.unstarted)
            recorded.ready.extend(stopped.ready)
        except BaseException as error:
            ending.raise_if_ending(error)
            log.warning("runs could not be settled; rescue will", runs=len(recorded.runs_to_stop), exc_info=error)
    return recorded


def _within_run_limit(results: list[StepResult]) -> list[StepResult]:
    """Refuse outputs that would take a run over its limit. Small ones need no look: a run has 1,000 steps at most."""
    large = [result for result in results if result.output and len(result.output) > LARGE_CHARACTERS]
    if not large:
        return results
    rows = _patiently(lambda: sql.run_sizes(run_ids={result.claim.run_id for result in large}))
    sizes = {row.run_id: envelope.payload_bytes(row.clear, row.number, row.sealed) for row in rows}
    refused: dict[UUID, StepResult] = {}
    for result in large:
        sizes[result.claim.run_id] += len((result.output or "").encode())
        if sizes[result.claim.run_id] > MAX_RUN_BYTES:
            error = PayloadTooLarge(f"The run's outputs would have more than {MAX_RUN_BYTES:,} bytes together.")
            refused[result.claim.id] = replace(result, outcome=Failed(error=describe(error)), output=None)
    return [refused.get(result.claim.id, result) for result in results]


@dataclass(frozen=True, kw_only=True)
class _ContinueOptions:
    """Which successors the recording statement claims at once: for which worker, of which queues, and how many."""

    worker: UUID
    queues: frozenset[str]
    max_continuations: int
    may_continue: MayContinue
    lease: UUID | None


def _record(results: list[StepResult], options: _ContinueOptions) -> Recorded:
    if not results:
        return Recorded()
    try:
        return _write(results, options)
    except BaseException as error:
        ending.raise_if_ending(error)
        if is_database_away(error):
            raise
        if len(results) == 1:
            if isinstance(results[0].outcome, Failed) and not isinstance(error, psycopg.Error):
                raise  # what announces failures is at fault: another one would fare no better
            log.warning("an outcome can't be recorded", step_run_id=str(results[0].claim.id), error=str(error))
            return _write([_refused(results[0], error)], options)
        return _record_halves(results, options)


def _record_halves(results: list[StepResult], options: _ContinueOptions) -> Recorded:
    """Record a group in halves. Returns what could be recorded; raises where nothing could."""
    middle = len(results) // 2
    recorded: Recorded | None = None
    for half, max_continuations in ((results[:middle], options.max_continuations), (results[middle:], 0)):
        try:
            part = _record(half, replace(options, max_continuations=max_continuations if recorded is None else 0))
        except BaseException as error:
            ending.raise_if_ending(error)
            if recorded is None and half[0] is not results[0]:
                raise
            log.exception("half of a group could not be recorded; rescue will run its steps again", steps=len(half))
            continue
        if recorded is None:
            recorded = part
        else:
            recorded.add(part)
    return recorded if recorded is not None else Recorded()


def _refused(result: StepResult, error: BaseException) -> StepResult:
    described = describe(error)
    if isinstance(error, psycopg.Error):
        described = StepError(
            category=Category.INVALID_OUTPUT,
            name="InvalidOutput",
            message=f"Postgres refuses the output: {[*str(error).splitlines(), ''][0]}",
        )
    return replace(result, outcome=Failed(error=described), output=None, input=None)


def _write(results: list[StepResult], options: _ContinueOptions) -> Recorded:
    recording = step_transitions.prepare_recording(
        results,
        worker=options.worker,
        queues=options.queues,
        max_continuations=options.max_continuations,
        may_continue=options.may_continue,
        lease=options.lease,
    )

    def write() -> Recorded:
        if recording.needs_transaction:
            with database.transaction() as cursor:
                return _write_in_transaction(results, recording, cursor)
        return step_transitions.record(recording)

    recorded = _patiently(write)
    if any(hints.is_soon(_pause_s(result)) for result in results):
        hints.send()
    job_log.note_results(results, recorded)
    return recorded


def _pause_s(result: StepResult) -> float | None:
    """Seconds until the step wakes again; None where it does not, by a timer."""
    find = _PAUSES.get(type(result.outcome))
    return find(result.outcome) if find else None


_PAUSES: dict[type[Any], Callable[[Any], float | None]] = {
    Retry: attrgetter("delay_s"),
    Sleep: attrgetter("seconds"),
    WaitFor: attrgetter("timeout_s"),
    HandBack: attrgetter("after_s"),
}


def _patiently(work: Callable[[], T]) -> T:
    """Try again after a deadlock, and for a while where the database is away."""
    give_up = time.monotonic() + RECONNECT_FOR_S
    tries = 0
    while True:
        tries += 1
        try:
            return work()
        except _CONTENTION:
            if tries >= DEADLOCK_TRIES:
                raise
        except psycopg.OperationalError as error:
            if not is_database_away(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.1)


def _write_in_transaction(results: list[StepResult], recording: Recording, cursor: database.Cursor) -> Recorded:
    """Record in one transaction with new waits, dead letters and run outputs."""
    calls.lock(results, cursor)
    compensating = step_transitions.compensate_failed(results, cursor)
    recorded = step_transitions.record(recording, cursor)
    recorded.ready.extend(compensating)
    orphan_steps = fan_out.stop_orphan_steps(results, recorded, cursor)
    recorded.new_waits = waits.store_new(results, recorded, cursor)
    recorded.ready.extend(calls.advance(results, recorded, cursor))
    split_items: set[UUID] = set()
    for part in (orphan_steps, fan_out.begin(results, recorded, cursor), fan_out.advance(results, recorded, cursor)):
        recorded.ready.extend(part.ready)
        recorded.unstarted.extend(part.unstarted)
        recorded.finished_containers.extend(part.finished_containers)
        split_items |= part.split_items
    failed = (result for result in results if isinstance(result.outcome, Failed))
    lasting = (each for each in failed if each.claim.id not in split_items)
    announced = (
        announcements.of_step(each, _flow_of(each.claim.version_id))
        for each in lasting
        if recorded.statuses.get(each.claim.id) == "failed"
    )
    failures = [failure for failure in announced if failure is not None]
    versions = {result.claim.run_id: result.claim.version_id for result in results}
    completed = [run_id for run_id, status in recorded.ended if status == "completed"]
    for run_id in completed:
        flow = _flow_of(versions[run_id])
        if flow is not None and flow.output is not None:
            output, error = _output_of_driver(flow, run_id, results) or _run_output(flow, run_id, cursor)
            run_transitions.set_output(run_id, flow.org_id, output=output, error=error, cursor=cursor)
            recorded.sizes[run_id] = len((output or "").encode())
            if error is not None:
                recorded.ended[recorded.ended.index((run_id, "completed"))] = (run_id, "failed")
                failures.append(announcements.of_run(flow, run_id, error))
    announcements.announce(failures, cursor)
    recorded.failures = failures
    return recorded


def finish(run_ids: Sequence[UUID]) -> None:
    """End runs whose steps have all ended although nobody ended them, with their outputs.

    Raises UnloadableVersion where only another process knows a run's output; that run does not end then.
    """
    for run_id in run_ids:
        recorded = Recorded()
        with database.transaction() as cursor:
            version_id = run_transitions.finish(run_id, cursor=cursor)
            if version_id is not None:
                flow = flow_cache.find_or_leave(version_id)
                if flow is not None and flow.output is not None:
                    output, error = _run_output(flow, run_id, cursor)
                    run_transitions.set_output(run_id, flow.org_id, output=output, error=error, cursor=cursor)
                    recorded.sizes[run_id] = len((output or "").encode())
                    recorded.failures = [announcements.of_run(flow, run_id, error)] if error else []
                    announcements.announce(recorded.failures, cursor)
                recorded.versions[run_id] = version_id
                recorded.ended.append((run_id, "failed" if recorded.failures else "completed"))
        report(recorded)


def _output_of_driver(
    flow: CompiledFlow, run_id: UUID, results: Sequence[StepResult]
) -> tuple[str | None, StepError | None] | None:
    """Of a flow in Python: what its function has returned, where that is among these results."""
    for result in results if flow.driver is not None else ():
        if result.claim.run_id == run_id and result.claim.key == flow.driver:
            return result.output, None
    return None


def _run_output(flow: CompiledFlow, run_id: UUID, cursor: database.Cursor) -> tuple[str | None, StepError | None]:
    assert flow.output is not None
    try:
        loaded = expression_context.load([run_id], flow.with_fallbacks(flow.output.steps), cursor)
        value = flow.output.render(loaded[run_id])
        return dump(value, what="The run's output"), None
    except BaseException as error:
        ending.raise_if_ending(error)
        if is_database_away(error):
            raise
        described = describe(error)
        return None, replace(described, message=f"The flow's output can't be rendered: {described.message}")


def _flow_of(version_id: UUID) -> CompiledFlow | None:
    """None for a version that this process can't load."""
    return flow_cache.find(version_id)
