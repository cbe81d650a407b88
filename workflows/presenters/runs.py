"""Runs and steps as JSON (camelCase), the same for REST, CLI and live updates. Durations are in milliseconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from workflows.engine.pipeline import admit
from workflows.engine.pipeline.facts import facts_of
from workflows.engine.telemetry.step_log import config_of, throttling_config
from workflows.models import Attempt, BulkOperation, Event, EventSchema, FanOut, Run, StepRun, TriggerOutcome
from workflows.models.run import ENDED_STEP
from workflows.presenters import step_metrics
from workflows.presenters.step_metrics import ms
from workflows.selectors import limits, run_lists
from workflows.selectors.events import EventDetail
from workflows.selectors.items import ItemDetail
from workflows.selectors.limits import Reason
from workflows.selectors.runs import RunDetail, StepDetail
from workflows.services.repair import Repeat
from workflows.steps.registry import StepType

NOBODY_LISTENS = "no trigger listens to this name"
"""Of an event, as it was when the event was matched; waits and `cancel_on` count as triggers do."""


def run_summary(run: Run, status: str) -> dict[str, Any]:
    """A run without its steps. `status`: as it is shown, which is *waiting* while nothing of it is ready or running."""
    error = run.error
    return {
        "id": str(run.id),
        "flow": run.flow.slug,
        "workflow": run.flow.slug,
        "version": run.version.number,
        "status": status,
        "priority": run.priority,
        "trigger": run.trigger,
        "userId": run.user_id,
        "tags": list(run.tags),
        "event": run.event_name or None,
        "eventId": str(run.event_id) if run.event_id else None,
        "error": {"code": f"{error.get('category', 'unknown')}".upper(), **error} if error else None,
        "createdAt": run.created_at,
        "startedAt": run.started_at,
        "endedAt": run.ended_at,
        "duration": ms(run.created_at, run.ended_at),
    }


def run_summaries(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Runs of a list, with the status that they have on their pages."""
    shown = run_lists.shown_statuses(runs)
    return [run_summary(run, shown[run.id]) for run in runs]


def run_out(detail: RunDetail) -> dict[str, Any]:
    """A run with input, output, steps, attempts and timings."""
    waiting = reasons(detail)
    steps = [step_out(step, waiting.get(step.step_run.id)) for step in detail.steps]
    return {
        **run_summary(detail.run, detail.status),
        "cancelReason": detail.run.cancel_reason or None,
        "originId": str(detail.run.origin_id) if detail.run.origin_id else None,
        "originKind": detail.run.origin_kind or None,
        "repairedBy": str(detail.repaired_by) if detail.repaired_by else None,
        "repeats": detail.repeats,
        "parentId": str(detail.run.parent_id) if detail.run.parent_id else None,
        "timeoutAt": detail.run.timeout_at,
        "input": detail.run.input,
        "output": run_output(detail),
        "totalSteps": len(steps),
        "completedSteps": detail.counts.get("completed", 0),
        "failedSteps": detail.counts.get("failed", 0),
        "throttlingInsights": insights(detail, steps),
        "steps": steps,
    }


def run_output(detail: RunDetail) -> Any:
    """What the flow's `output` gave; without one, the output of its only last step."""
    if detail.run.output is not None or (detail.flow is not None and detail.flow.output is not None):
        return detail.run.output
    sinks = [step.step_run for step in detail.steps if step.step_run.is_sink]
    return sinks[0].output if len(sinks) == 1 and detail.run.status == "completed" else None


MAX_EXPLAINED = 25


def reasons(detail: RunDetail) -> dict[UUID, Reason]:
    """Why the steps that could start have not (the first of them: each is a question to the store)."""
    ready = [step.step_run for step in detail.steps if step.step_run.status in {"ready", "waiting"}]
    return {row.id: limits.reason_of(row) for row in ready[:MAX_EXPLAINED]}


def step_out(step: StepDetail, reason: Reason | None = None) -> dict[str, Any]:
    """A step with its attempts. `duration`: executing; `throttlingOverhead`: ready, not executing; of all tries."""
    row, attempts = step.step_run, step.attempts
    first_ready = attempts[0].ready_at if attempts else row.ready_at
    figures = step_metrics.figures(row, attempts)
    return {
        "id": row.key,
        "stepRunId": str(row.id),
        "index": row.index,
        "type": row.type,
        "status": row.status,
        "attempt": row.attempt,
        "input": _input(step),
        "output": row.output,
        "error": figures.error,
        "createdAt": row.created_at,
        "readyAt": first_ready,
        "startedAt": attempts[0].started_at if attempts else row.started_at,
        "endedAt": row.ended_at,
        "duration": figures.duration_ms,
        "totalStepTime": ms(first_ready, row.ended_at),
        "throttlingOverhead": figures.overhead_ms,
        "retryCount": figures.retries,
        "throttlingConfig": _limits(step),
        "waitingFor": None if row.status in ENDED_STEP else _waiting_for(row, reason),
        "waitingReason": reason.sentence if reason else None,
        "wakeAt": row.wake_at,
        "reason": row.reason or None,
        "memoizedFrom": str(row.memoized_from) if row.memoized_from else None,
        "progress": progress(step),
        "items": items_summary(step.fan_out) if step.fan_out else None,
        "attempts": [attempt_out(attempt) for attempt in attempts],
    }


def _limits(step: StepDetail) -> Mapping[str, Any]:
    if step.compiled is None:
        return throttling_config(admit.policies().globals())
    return config_of(step.step_run.version_id, step.compiled)


def items_summary(fan_out: FanOut) -> dict[str, Any]:
    """How far a container is."""
    return {
        "total": fan_out.total,
        "open": fan_out.open,
        "ended": fan_out.ended,
        "failed": fan_out.failed,
        "parallelism": fan_out.parallelism,
    }


def item_out(detail: ItemDetail) -> dict[str, Any]:
    """An item of a container with its steps."""
    item = detail.item
    return {
        "index": item.index,
        "position": item.position,
        "size": item.size,
        "value": item.value,
        "status": item.status,
        "error": item.error,
        "steps": [step_out(step) for step in detail.steps],
    }


def progress(step: StepDetail) -> dict[str, Any] | None:
    """What the handler reported; of a container its ended items."""
    if step.step_run.progress:
        return dict(step.step_run.progress)
    percent = step_metrics.percent_of(step.fan_out)
    if step.fan_out is None or percent is None:
        return None
    return {"percent": percent, "message": f"{step.fan_out.ended} of {step.fan_out.total}"}


def _waiting_for(row: StepRun, reason: Reason | None) -> str | None:
    return "limit" if reason and reason.limit else row.waiting_for or None


def _input(step: StepDetail) -> Any:
    """The configuration of the latest try, as it was rendered; a constant one is kept in the definition only."""
    if not step.attempts:
        return None
    kept = step.attempts[-1].input
    return step.compiled.template.source if kept is None and step.compiled else kept


def attempt_out(attempt: Attempt) -> dict[str, Any]:
    """A try with the lines that it logged."""
    return {**attempt_line(attempt), "logs": attempt.logs or []}


def attempt_line(attempt: Attempt) -> dict[str, Any]:
    """A try without its log: nothing that lists leave in the database."""
    return {
        "number": attempt.number,
        "status": attempt.status,
        "readyAt": attempt.ready_at,
        "startedAt": attempt.started_at,
        "endedAt": attempt.ended_at,
        "duration": ms(attempt.started_at, attempt.ended_at),
        "queued": ms(attempt.ready_at, attempt.started_at),
        "error": attempt.error,
    }


def insights(detail: RunDetail, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """`throttlingInsights`: the limits of all steps, and what they cost this run."""
    policy = admit.policies().globals()
    overheads = [step["throttlingOverhead"] for step in steps if step["throttlingOverhead"] is not None]
    return {
        "globalDefaults": {
            "concurrency": policy.concurrency,
            "rateLimit": str(policy.rate),
            "retry": str(policy.retry),
        },
        "stepTypeDistribution": dict(Counter(step.step_run.type for step in detail.steps)),
        "averageThrottlingOverhead": round(sum(overheads) / len(overheads)) if overheads else 0,
        "totalRetries": sum(step["retryCount"] for step in steps),
    }


def repeat_out(repeat: Repeat) -> dict[str, Any]:
    """What repeating a run did, or in a dry run would do."""
    return {
        "runId": str(repeat.run_id) if repeat.run_id else None,
        "originId": str(repeat.origin_id),
        "version": repeat.version,
        "dryRun": repeat.run_id is None,
        "kept": repeat.kept,
        "runs": repeat.runs,
        "changes": repeat.changes,
    }


def operation_out(operation: BulkOperation) -> dict[str, Any]:
    """A bulk operation with its progress and audit trail."""
    return {
        "id": str(operation.id),
        "action": operation.action,
        "filter": operation.filter,
        "options": operation.options,
        "perSecond": operation.per_second,
        "status": operation.status,
        "matched": operation.matched,
        "matchedAtLeast": operation.matched_at_least,
        "done": operation.done,
        "passedOver": operation.passed_over,
        "repairedBefore": operation.repaired_before,
        "problems": operation.problems,
        "createdBy": operation.created_by,
        "createdAt": operation.created_at,
        "endedAt": operation.ended_at,
        "changes": [{"what": each.what, "by": each.by, "at": each.at} for each in operation.changes.all()],
    }


def event_out(event: Event) -> dict[str, Any]:
    """An event as expressions read it, and what became of it. `id` is ours, `externalId` the sender's."""
    facts = facts_of(event)
    return {
        "id": facts["id"],
        "externalId": event.external_id or None,
        "name": facts["name"],
        "data": facts["data"],
        "user": facts["user"],
        "ts": facts["ts"],
        "receivedAt": event.received_at,
        "matchedAt": event.matched_at if not event.rejected else None,
        "rejected": event.rejected or None,
        "outcome": NOBODY_LISTENS if event.unheard else None,
    }


def event_detail_out(detail: EventDetail) -> dict[str, Any]:
    """An event with the runs that it started, and why flows that heard it have none of their own."""
    return {
        **event_out(detail.event),
        "runs": run_summaries(detail.runs),
        "outcomes": [outcome_out(each, detail.flows) for each in detail.outcomes],
    }


def outcome_out(outcome: TriggerOutcome, flows: dict[UUID, str]) -> dict[str, Any]:
    """Why an event has no run of its own of a flow."""
    return {
        "flow": flows.get(outcome.flow_id),
        "workflow": flows.get(outcome.flow_id),
        "code": outcome.code,
        "reason": outcome.reason,
        "runId": str(outcome.run_id) if outcome.run_id else None,
        "at": outcome.created_at,
    }


def event_schema_out(row: EventSchema) -> dict[str, Any]:
    return {"name": row.name, "schema": row.schema, "updatedAt": row.updated_at}


def step_type_out(step_type: StepType) -> dict[str, Any]:
    return {
        "type": step_type.name,
        "summary": step_type.summary,
        "queue": step_type.queue,
        "maxBatch": step_type.max_batch,
        "configSchema": step_type.config_model.model_json_schema(by_alias=True),
    }


def job_out(detail: RunDetail) -> dict[str, Any]:
    """A run as the status of a job of a queue, in the legacy format."""
    run = detail.run
    state = {"queued": "waiting", "running": "active", "cancelled": "failed"}.get(run.status, run.status)
    if detail.status == "waiting":
        state = "delayed"
    return {
        "jobId": str(run.id),
        "runId": str(run.id),
        "state": state,
        "progress": job_progress(detail),
        "result": run_output(detail),
        "error": run_summary(run, detail.status)["error"],
    }


def job_of_event(event_id: UUID) -> dict[str, Any]:
    """The job of an event that has been stored, and whose run will be made in a moment."""
    return {"jobId": str(event_id), "runId": None, "state": "waiting", "progress": 0, "result": None, "error": None}


def job_progress(detail: RunDetail) -> int:
    """Percent: each step counts alike, and for as much of it as it reported. 100 is for completed jobs only."""
    if detail.run.status == "completed":
        return 100
    shares = [
        100.0 if step.step_run.status in {"completed", "skipped"} else (progress(step) or {}).get("percent", 0.0)
        for step in detail.steps
    ]
    return min(99, int(sum(shares) / len(shares))) if shares else 0
