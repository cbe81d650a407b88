"""The form of what the API answers, for its OpenAPI document; `schemas.runs` has those of runs and flows.

Nothing is checked against them while the API serves: `tests/integration/api/test_openapi.py` holds every answer against
its form.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from workflows.api.schemas.runs import Out, RunSummaryOut, StepOut

# --- flows --------------------------------------------------------------------------------------------------------


class StepTypeOut(Out):
    type: str
    summary: str
    queue: str
    max_batch: int = Field(description="Steps to a message, at most.")
    config_schema: dict[str, Any] = Field(description="JSON Schema of its configuration.")


class CronFireOut(Out):
    fire_at: dt.datetime
    outcome: str = Field(description="queued, started, skipped, missed or refused.")
    run_id: UUID | None


class ScheduleOut(Out):
    flow: str
    workflow: str = Field(description="The old name of `flow`.")
    schedule: str = Field(description="Five fields of cron.")
    timezone: str
    overlap: str
    catch_up: str
    enabled: bool
    next_fires: list[dt.datetime] = Field(description="The next five; none while it is switched off.")
    latest: list[CronFireOut]


class SchedulerOut(Out):
    success: bool
    scheduled_workflows: int


class RunCountsOut(Out):
    waiting: int
    active: int
    completed: int = Field(description="Within 24 hours.")
    failed: int = Field(description="Within 7 days.")
    delayed: int
    total: int


class QueueOut(Out):
    available: bool
    redis: bool
    stats: RunCountsOut


class SchedulerStateOut(Out):
    initialized: bool = Field(description="An I/O worker leads.")
    scheduled_workflows: int


class CapacityOut(Out):
    message: str


class QueueStatsOut(Out):
    queue: QueueOut
    scheduler: SchedulerStateOut
    capacity: CapacityOut


class NoQueueOut(Out):
    available: bool
    redis: bool
    stats: None


class NoCapacityOut(Out):
    recommendation: str


class NoStoreOut(Out):
    """While the store does not answer: runs are accepted, and start when it is back."""

    queue: NoQueueOut
    capacity: NoCapacityOut


# --- runs ---------------------------------------------------------------------------------------------------------


class ItemOut(Out):
    index: int
    position: int = Field(description="Of its first element in the list.")
    size: int = Field(description="How many elements of the list it has.")
    value: Any
    status: str
    error: dict[str, Any] | None
    steps: list[StepOut]


class ItemsOut(Out):
    items: list[ItemOut]
    next_cursor: str | None


class ApprovalOut(Out):
    id: UUID
    run_id: UUID
    title: str
    message: str
    details: Any
    approvers: list[str] = Field(description="user:…, group:… or key:…; none: everybody who may change runs.")
    requested_at: dt.datetime
    expires_at: dt.datetime | None
    flow: str
    workflow: str = Field(description="The old name of `flow`.")


class ApprovalsOut(Out):
    approvals: list[ApprovalOut]


class DecisionOut(Out):
    """The output of the step."""

    approved: bool
    by: str
    comment: str
    at: dt.datetime
    as_operator: bool = Field(False, description="Only where an operator has decided in the place of the approvers.")


# --- events -------------------------------------------------------------------------------------------------------


class EventOut(Out):
    id: UUID
    external_id: str | None = Field(description="The sender's id of it.")
    name: str
    data: Any
    user: Any
    ts: int = Field(description="When it happened, in milliseconds since 1970.")
    received_at: dt.datetime
    matched_at: dt.datetime | None
    rejected: str | None = Field(description="Why it was refused by its schema.")
    outcome: str | None = Field(description="That nobody listened to its name.")


class EventsOut(Out):
    events: list[EventOut]
    next_cursor: str | None


class OutcomeOut(Out):
    flow: str | None
    workflow: str | None = Field(description="The old name of `flow`.")
    code: str = Field(description="rate_limited, singleton, debounced, batched, duplicate, paused, invalid, …")
    reason: str
    run_id: UUID | None = Field(description="The run that stands in its place, or that it joined.")
    at: dt.datetime


class EventDetailOut(EventOut):
    runs: list[RunSummaryOut]
    outcomes: list[OutcomeOut] = Field(description="Of each flow that heard it and has no run of its own for it: why.")


class EventSchemaOut(Out):
    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    updated_at: dt.datetime


class SchemaRemovedOut(Out):
    removed: bool = Field(description="False: there was none.")


# --- limits -------------------------------------------------------------------------------------------------------


class GlobalLimitsOut(Out):
    concurrency: int
    rate_limit: str
    retry: str


class LimitOut(Out):
    limit: str
    description: str
    source: str
    bound: str
    max: int | None = Field(description="This and what follows is null while the store does not answer.")
    period_ms: int | None
    in_use: int | None
    started_in_period: int | None
    waiting: int | None
    refused: int | None
    next_free_in_ms: int | None
    paused_for_ms: int | None
    mean_hold_ms: float | None


class OverrideRateOut(Out):
    limit: int
    period_ms: int
    algorithm: Literal["window", "gcra"]
    burst: int


class OverrideRetryOut(Out):
    attempts: int | None
    backoff: str | None
    delay_ms: int | None
    max_delay_ms: int | None


class OverrideOut(Out):
    scope: str
    type: str | None
    flow_id: UUID | None
    name: str | None
    organization: str = Field(description="Its id, or `all`.")
    concurrency: int | None
    rate: OverrideRateOut | None
    key: str | None
    retry: OverrideRetryOut
    weight: float | None
    note: str
    changed_by: str
    changed_at: dt.datetime


class LimitsOut(Out):
    global_defaults: GlobalLimitsOut
    limits: list[LimitOut]
    overrides: list[OverrideOut]
    never_binding: list[str] = Field(description="Shipped limits that can't bind, since the global one is lower.")
    revision: int


class LimitRemovedOut(Out):
    removed: OverrideOut


class ReasonOut(Out):
    sentence: str
    limit: str | None
    description: str | None
    used: int
    max: int
    position: int | None = Field(description="Among the waiting steps of the organization.")
    waiting_of_organization: int
    ahead: int
    waiting: int
    expected_in_ms: int | None
    waited_ms: int


class LimitChangeOut(Out):
    revision: int
    at: dt.datetime
    by: str
    what: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class OverheadOut(Out):
    """What the tries of a step type waited; times in milliseconds."""

    step_type: str
    tries: int
    average_throttling_overhead: float
    p95_throttling_overhead: float
    longest_throttling_overhead: float
    total_overhead: float = Field(description="Seconds.")
    average_duration: float
    failed_tries: int


# --- pauses -------------------------------------------------------------------------------------------------------


class PauseOut(Out):
    what: Literal["flow", "queue", "organization"]
    flow: str | None
    queue: str | None
    mode: Literal["pause", "drain"]
    arrivals: Literal["queue", "skip"]
    reason: str
    by: str
    since: dt.datetime


class ResumedOut(Out):
    resumed: bool
