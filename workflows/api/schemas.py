"""Request and response bodies."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from ninja import Schema
from pydantic import ConfigDict, Field, StrictInt, StrictStr
from pydantic.alias_generators import to_camel


class Body(Schema):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Out(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class RunIn(Body):
    """How to start a run."""

    trigger_data: Any = Field(default=None, description="The run's input; also `event.data`. At most 512 KiB.")
    priority: StrictInt | StrictStr | None = Field(
        None, description="1 (first) … 10 (last), or critical, high, normal, low, background."
    )
    delay: StrictInt | StrictStr | None = Field(None, description="Milliseconds, or text such as 5m.")
    idempotency_key: str = Field("", max_length=200, description="Within 24 hours the same key gives the same run.")
    force: bool = Field(False, description="Make a run whatever idempotency keys say; it takes them over.")
    user_id: str = Field("", max_length=200)


class RunStarted(Out):
    success: bool = True
    queued: bool = True
    job_id: UUID
    run_id: UUID
    existing: bool = False
    message: str


class CancelIn(Body):
    reason: str = Field("", max_length=1_000)


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
    attempts: list[AttemptOut]


class RunSummaryOut(Out):
    id: UUID
    workflow: str
    version: int
    status: str
    priority: int
    trigger: str
    user_id: str
    event: str | None
    event_id: UUID | None
    error: dict[str, Any] | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    duration: int | None


class RunOut(RunSummaryOut):
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


class JobOut(Out):
    job_id: UUID
    run_id: UUID
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


class WorkflowsOut(Out):
    workflows: list[WorkflowOut]
