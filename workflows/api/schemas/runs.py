"""The forms of runs, steps, jobs and flows as the API answers them, for its OpenAPI document."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from ninja import Schema
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel


class Out(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class RunStarted(Out):
    success: bool = True
    queued: bool = True
    job_id: UUID
    run_id: UUID
    existing: bool = False
    pruned: bool = Field(False, description="That run has ended and is deleted (retention); its key outlives it.")
    message: str


class RefusedOut(Out):
    index: int = Field(description="Its place in the array, from 0.")
    code: str
    reason: str


class RunsStarted(Out):
    success: bool = True
    queued: bool = True
    run_ids: list[UUID] = Field(description="A run for each of the array, in its order.")
    existing_ids: list[UUID] = Field(description="Those of them that were made before.")
    pruned_ids: list[UUID] = Field(
        default_factory=list, description="Those of the earlier ones that have ended and are deleted."
    )
    refused: list[RefusedOut] = Field(description="Those that the flow's controls did not let be made.")
    message: str


class RepeatOut(Out):
    run_id: UUID | None = Field(description="The new run; none in a dry run.")
    origin_id: UUID
    version: int
    dry_run: bool
    kept: list[str] = Field(description="The steps whose outcomes are taken over.")
    runs: list[str] = Field(description="The steps that run.")
    changes: list[dict[str, Any]] = Field(description="Of the input, as a JSON Patch (RFC 6902).")


class OperationOut(Out):
    id: UUID | None = Field(description="None in a dry run.")
    action: str
    filter: dict[str, Any]
    options: dict[str, Any]
    per_second: float
    status: str
    matched: int
    matched_at_least: bool = Field(description="There may be more: counting stopped there, to last no longer.")
    done: int
    passed_over: int
    repaired_before: int = Field(description="What somebody else had repaired or dealt with.")
    problems: list[dict[str, str]]
    created_by: str
    created_at: dt.datetime | None
    ended_at: dt.datetime | None
    changes: list[dict[str, Any]]


class AttemptOut(Out):
    number: int
    status: str
    ready_at: dt.datetime | None
    started_at: dt.datetime | None
    ended_at: dt.datetime
    duration: int | None = Field(description="Milliseconds.")
    queued: int | None = Field(description="Milliseconds from ready to started.")
    error: dict[str, Any] | None
    logs: list[dict[str, str]] = Field(description="What the handler logged: at, level, message.")


class StepOut(Out):
    id: str
    step_run_id: UUID
    index: int | None
    type: str
    status: str
    attempt: int
    input: Any
    output: Any
    error: dict[str, Any] | None
    created_at: dt.datetime
    ready_at: dt.datetime | None
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    duration: int | None
    total_step_time: int | None
    throttling_overhead: int | None
    retry_count: int
    throttling_config: dict[str, Any]
    waiting_for: str | None
    waiting_reason: str | None = Field(
        description="Why it has not started: the limit, the position, the expected start."
    )
    wake_at: dt.datetime | None
    reason: str | None = Field(description="Why it was skipped or cancelled: condition, deadline_passed, …")
    memoized_from: UUID | None = Field(description="The step run of an earlier run whose outcome was taken over.")
    progress: dict[str, Any] | None = Field(description="What its handler reported: percent, message.")
    items: dict[str, int] | None = Field(description="Of a container: total, open, ended, failed, parallelism.")
    attempts: list[AttemptOut]


class RunSummaryOut(Out):
    id: UUID
    flow: str
    workflow: str = Field(description="The old name of `flow`.")
    version: int
    status: str
    priority: int
    trigger: str
    user_id: str
    tags: list[str]
    event: str | None
    event_id: UUID | None
    error: dict[str, Any] | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    duration: int | None


class RunOut(RunSummaryOut):
    cancel_reason: str | None
    origin_id: UUID | None = Field(description="The run that it repeats, or whose failure it handles.")
    origin_kind: str | None = Field(description="replay, resume, fork or on_failure.")
    repaired_by: UUID | None = Field(description="The first repair that came after it; a second one needs `force`.")
    repeats: list[dict[str, str]] = Field(description="The runs that repeat it, or handle its failure: id, kind.")
    parent_id: UUID | None
    timeout_at: dt.datetime | None
    input: Any
    output: Any
    total_steps: int
    completed_steps: int
    failed_steps: int
    throttling_insights: dict[str, Any]
    steps: list[StepOut]


class RunsOut(Out):
    runs: list[RunSummaryOut]
    next_cursor: str | None
    searched_to: dt.datetime | None = Field(
        None, description="Of a search by tag that was stopped before it had a page: how far back it came."
    )


class JobOut(Out):
    job_id: UUID
    run_id: UUID | None
    state: str
    progress: int
    result: Any
    error: dict[str, Any] | None


class WorkflowOut(Out):
    slug: str
    name: str
    description: str
    version: int | None
    triggers: list[str]
    steps: list[dict[str, Any]]
    live_runs: int
    archived_at: dt.datetime | None


class ArchivedOut(Out):
    slug: str
    archived: bool


class FlowRemovedOut(Out):
    slug: str
    history: str
    done: bool = Field(description="False: its history is still being deleted.")


class WorkflowsOut(Out):
    workflows: list[WorkflowOut]
