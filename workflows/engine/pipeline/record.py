"""Recording a group of outcomes: one statement, in a transaction with dead letters and run outputs where there are any.

A group that can't be recorded is halved until only the culprit is left, which fails alone (`invalid_output` where
Postgres refuses it).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import UUID

import psycopg
import structlog

from workflows import signals
from workflows.definitions.compiled import NOBODY, CompiledFlow
from workflows.edge.unavailable import is_database_away
from workflows.engine.containers import fan_out
from workflows.engine.pipeline.retry_decision import describe
from workflows.engine.sql import record as sql
from workflows.engine.state import database, expression_context, flow_cache
from workflows.engine.state.records import MayContinue, ReadyStep, Recorded, StepFailed, Verdict, always
from workflows.engine.state.transitions import runs as run_transitions
from workflows.engine.state.transitions import steps as step_transitions
from workflows.engine.state.transitions.steps import Recording
from workflows.engine.telemetry import job_log, sentry, step_events
from workflows.engine.waits import waits
from workflows.engine.worker import ending
from workflows.errors import Category, PayloadTooLarge
from workflows.payload import MAX_RUN_BYTES, dump
from workflows.steps.outcome import Completed, Failed, FanOut, HandBack, Skipped, Sleep, StepError, WaitFor

log = structlog.get_logger(__name__)
T = TypeVar("T")
DEADLOCK_TRIES = 5
RECONNECT_FOR_S = 8.0
LARGE_CHARACTERS = 16 * 1024
LEFT_TO_OTHERS_S = 5.0
"""Seconds until a step is offered again that only a process of a newer release can perform, or go on after."""
_CONTENTION = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


def record(
    verdicts: Sequence[Verdict],
    *,
    worker: UUID = NOBODY,
    queues: frozenset[str] = frozenset(),
    budget: int = 0,
    may_continue: MayContinue = always,
) -> Recorded:
    """Record the verdicts, and settle the runs that are bound to stop.

    Verdicts whose lease was lost meanwhile are dropped: the answer's `landed` names those that counted. Raises
    psycopg.OperationalError where the database stays away for longer than leases live; nothing is half-recorded then.
    """
    going = _Going(worker=worker, queues=queues, budget=budget, may_continue=may_continue)
    given = _of_loadable(verdicts)
    result = _record_and_settle(given, going)
    part = result
    while part.waiting or part.children or part.over:
        try:
            ended, ready = _over(given, part)
            given = _of_loadable(ended)  # they are of other runs, whose versions this process may not know
            result.ready.extend(ready)
            part = _record_and_settle(given, replace(going, budget=0))
            result.add(part)
            forget([verdict for verdict in given if verdict.claim.id in part.landed])
        except BaseException as error:  # what was recorded counts, and the caller goes on with it
            ending.raise_if_ending(error)
            log.exception("what waits could not be looked at; rescue will", steps=len(part.waiting) + len(part.over))
            break
    tell(result)
    return result


def tell(result: Recorded) -> None:
    """After the commit: the log, and Sentry, of the runs that ended and of what failed for good."""
    if result.ended:
        job_log.ended(result.ended, versions=result.versions, sizes=result.sizes)
    if result.ended or result.failures:
        sentry.tell(result.failures, [run_id for run_id, _ in result.ended])


def forget(verdicts: Sequence[Verdict]) -> None:
    """The ends of waiting steps are recorded: their waits and containers need no more care."""
    waits.drop([verdict.claim.id for verdict in verdicts if verdict.claim.waited_for != fan_out.WAITS_FOR])
    fan_out.close([verdict.claim.id for verdict in verdicts if verdict.claim.waited_for == fan_out.WAITS_FOR])


def _over(verdicts: Sequence[Verdict], result: Recorded) -> tuple[list[Verdict], list[ReadyStep]]:
    """The ends of steps that wait no more since these outcomes are recorded; and what became ready in containers."""
    met = [*waits.over_already(result.waiting, verdicts), *waits.take_for_runs(result.children)]
    concluded, ready = fan_out.conclude(sorted(set(result.over)))
    return [*(waits.verdicts(met) if met else ()), *concluded], ready


_NEEDS_THE_FLOW = (Completed, Failed, Skipped, Sleep, WaitFor, FanOut)
"""What follows such an outcome, the version says."""


def _of_loadable(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts that can be recorded here. A step whose version nobody can load fails, since nobody knows what would
    follow it. One whose version another process may load is left to that: a claimed step goes back, and what belongs to
    no worker stays as it is, to be found again."""
    refused = _patiently(lambda: flow_cache.load({verdict.claim.version_id for verdict in verdicts})).refused
    if not refused:
        return list(verdicts)
    judged = []
    for verdict in verdicts:
        error = refused.get(verdict.claim.version_id)
        if error is None or not isinstance(verdict.outcome, _NEEDS_THE_FLOW):
            judged.append(verdict)
        elif not flow_cache.is_newer(error):
            failed = isinstance(verdict.outcome, Failed)
            judged.append(verdict if failed else replace(verdict, outcome=Failed(error=describe(error)), output=None))
        elif verdict.claim.lease is not None:
            back = HandBack(after_s=LEFT_TO_OTHERS_S)
            judged.append(Verdict(claim=verdict.claim, outcome=back))
    return judged


def _record_and_settle(verdicts: list[Verdict], going: _Going) -> Recorded:
    result = _record(_within_run_limit(verdicts), going)
    step_events.ended(verdicts, result.landed)
    if result.stopping:
        try:
            settled = _patiently(lambda: run_transitions.settle(sorted(set(result.stopping))))
            result.ended.extend(settled.ended)
            result.children.extend(run_id for run_id, _ in settled.ended)
            result.withdrawn.extend(settled.withdrawn)
            result.ready.extend(settled.ready)
        except BaseException as error:
            ending.raise_if_ending(error)
            log.warning("runs could not be settled; rescue will", runs=len(result.stopping), exc_info=error)
    return result


def _within_run_limit(verdicts: list[Verdict]) -> list[Verdict]:
    """Refuse outputs that would take a run over its limit. Small ones need no look: a run has 1,000 steps at most."""
    large = [verdict for verdict in verdicts if verdict.output and len(verdict.output) > LARGE_CHARACTERS]
    if not large:
        return verdicts
    rows = _patiently(lambda: sql.run_sizes(run_ids={verdict.claim.run_id for verdict in large}))
    sizes = {row.run_id: row.bytes for row in rows}
    refused: dict[UUID, Verdict] = {}
    for verdict in large:
        sizes[verdict.claim.run_id] += len((verdict.output or "").encode())
        if sizes[verdict.claim.run_id] > MAX_RUN_BYTES:
            error = PayloadTooLarge(f"The run's outputs would have more than {MAX_RUN_BYTES:,} bytes together.")
            refused[verdict.claim.id] = replace(verdict, outcome=Failed(error=describe(error)), output=None)
    return [refused.get(verdict.claim.id, verdict) for verdict in verdicts]


@dataclass(frozen=True, kw_only=True)
class _Going:
    """How the recorder goes on: which successors it claims at once."""

    worker: UUID
    queues: frozenset[str]
    budget: int
    may_continue: MayContinue


def _record(verdicts: list[Verdict], going: _Going) -> Recorded:
    if not verdicts:
        return Recorded()
    try:
        return _write(verdicts, going)
    except BaseException as error:
        ending.raise_if_ending(error)
        if is_database_away(error):
            raise
        if len(verdicts) == 1:
            if isinstance(verdicts[0].outcome, Failed) and not isinstance(error, psycopg.Error):
                raise  # what announces failures is at fault: another one would fare no better
            log.warning("an outcome can't be recorded", step_run_id=str(verdicts[0].claim.id), error=str(error))
            return _write([_refused(verdicts[0], error)], going)
        return _record_halves(verdicts, going)


def _record_halves(verdicts: list[Verdict], going: _Going) -> Recorded:
    """What could be recorded of a group that can't be recorded together; raises where it is nothing."""
    middle = len(verdicts) // 2
    result: Recorded | None = None
    for half, budget in ((verdicts[:middle], going.budget), (verdicts[middle:], 0)):
        try:
            part = _record(half, replace(going, budget=budget if result is None else 0))
        except BaseException as error:
            ending.raise_if_ending(error)
            if result is None and half[0] is not verdicts[0]:
                raise
            log.exception("half of a group could not be recorded; rescue will run its steps again", steps=len(half))
            continue
        if result is None:
            result = part
        else:
            result.add(part)
    return result if result is not None else Recorded()


def _refused(verdict: Verdict, error: BaseException) -> Verdict:
    described = describe(error)
    if isinstance(error, psycopg.Error):
        described = StepError(
            category=Category.INVALID_OUTPUT,
            name="InvalidOutput",
            message=f"Postgres refuses the output: {[*str(error).splitlines(), ''][0]}",
        )
    return replace(verdict, outcome=Failed(error=described), output=None, input=None)


def _write(verdicts: list[Verdict], going: _Going) -> Recorded:
    recording = step_transitions.prepare_recording(
        verdicts, worker=going.worker, queues=going.queues, budget=going.budget, may_continue=going.may_continue
    )

    def write() -> Recorded:
        if recording.needs_company:
            with database.transaction() as cursor:
                return _write_with_company(verdicts, recording, cursor)
        return step_transitions.record(recording)

    result = _patiently(write)
    job_log.note_results(verdicts, result)
    return result


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


def _write_with_company(verdicts: list[Verdict], recording: Recording, cursor: database.Cursor) -> Recorded:
    """The statement, and in the same transaction what belongs to it: waits, dead letters and run outputs."""
    undoing = step_transitions.undo_failed(verdicts, cursor)
    result = step_transitions.record(recording, cursor)
    result.ready.extend(undoing)
    strays = fan_out.stop_strays(verdicts, result, cursor)
    result.waiting = waits.store_new(verdicts, result, cursor)
    halved: set[UUID] = set()
    for part in (strays, fan_out.begin(verdicts, result, cursor), fan_out.advance(verdicts, result, cursor)):
        result.ready.extend(part.ready)
        result.withdrawn.extend(part.withdrawn)
        result.over.extend(part.over)
        halved |= part.halved
    failed = (verdict for verdict in verdicts if isinstance(verdict.outcome, Failed))
    lasting = (each for each in failed if each.claim.id not in halved)
    announced = (_announcement(each) for each in lasting if result.landed.get(each.claim.id) == "failed")
    failures = [failure for failure in announced if failure is not None]
    versions = {verdict.claim.run_id: verdict.claim.version_id for verdict in verdicts}
    completed = [run_id for run_id, status in result.ended if status == "completed"]
    for run_id in completed:
        flow = _flow_of(versions[run_id])
        if flow is not None and flow.output is not None:
            output, error = _run_output(flow, run_id, cursor)
            run_transitions.set_output(run_id, output=output, error=error, cursor=cursor)
            result.sizes[run_id] = len((output or "").encode())
            if error is not None:
                result.ended[result.ended.index((run_id, "completed"))] = (run_id, "failed")
                failures.append(of_run(flow, run_id, error))
    announce(failures, cursor)
    result.failures = failures
    return result


def announce(failures: Sequence[StepFailed], cursor: database.Cursor) -> None:
    """Tell the rest of the project of failures for good, within the transaction that records them."""
    if failures:
        signals.steps_failed.send(sender=None, failures=failures, cursor=cursor)


def of_run(flow: CompiledFlow, run_id: UUID, error: StepError, *, what: str = "output") -> StepFailed:
    """The failure of a run by itself, and not of one of its steps."""
    return StepFailed(
        org_id=flow.org_id,
        run_id=run_id,
        step_run_id=None,
        step_key="",
        step_type=what,
        attempts=1,
        error=error,
        alert=flow.alert_on_failure,
    )


def finish(run_ids: Sequence[UUID]) -> None:
    """End runs whose steps have all ended although nobody ended them, with their outputs.

    Raises UnloadableVersion where only another process knows a run's output; that run does not end then.
    """
    for run_id in run_ids:
        result = Recorded()
        with database.transaction() as cursor:
            version_id = run_transitions.finish(run_id, cursor=cursor)
            if version_id is not None:
                flow = flow_cache.found_by_anybody(version_id)
                if flow is not None and flow.output is not None:
                    output, error = _run_output(flow, run_id, cursor)
                    run_transitions.set_output(run_id, output=output, error=error, cursor=cursor)
                    result.sizes[run_id] = len((output or "").encode())
                    result.failures = [of_run(flow, run_id, error)] if error else []
                    announce(result.failures, cursor)
                result.versions[run_id] = version_id
                result.ended.append((run_id, "failed" if result.failures else "completed"))
        tell(result)


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


def _announcement(verdict: Verdict) -> StepFailed | None:
    """None where another step stands in for the failed one, and for a container whose items have been announced."""
    claim = verdict.claim
    flow = _flow_of(claim.version_id)
    assert isinstance(verdict.outcome, Failed)
    if flow is not None and claim.key in flow.steps and flow.steps[claim.key].fallback is not None:
        return None
    if verdict.outcome.error.name == fan_out.ITEM_FAILED and claim.lease is None:
        return None
    return StepFailed(
        org_id=claim.org_id,
        run_id=claim.run_id,
        step_run_id=claim.id,
        step_key=claim.key,
        step_type=claim.type,
        attempts=claim.attempt,
        error=verdict.outcome.error,
        alert=flow is not None and flow.alert_on_failure,
    )


def _flow_of(version_id: UUID) -> CompiledFlow | None:
    """None for a version that this process can't load."""
    return flow_cache.found(version_id)
