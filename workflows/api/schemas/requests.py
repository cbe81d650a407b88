"""Request and response bodies."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal
from uuid import UUID

from ninja import Schema
from pydantic import ConfigDict, Field, StrictInt, StrictStr, model_validator
from pydantic.alias_generators import to_camel

from workflows.duration import parse_ms
from workflows.errors import InvalidInput
from workflows.payload import fault


def milliseconds(value: int | str, what: str) -> int:
    """A duration of a request: whole milliseconds, or text such as 5m. Raises InvalidInput."""
    try:
        return parse_ms(value)
    except ValueError as error:
        raise InvalidInput(f"{what}: {error}") from None


class Body(Schema):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    @model_validator(mode="wrap")
    @classmethod
    def _storable(cls, value: Any, handler: Any) -> Any:
        """Every text can be stored. (The run's own data is checked, and refused, as a whole.)"""
        made = handler(value)
        texts = {name: getattr(made, name) for name in cls.model_fields if name not in {"trigger_data", "input"}}
        if found := fault({name: text for name, text in texts.items() if isinstance(text, str | dict | list)}):
            raise ValueError(found)
        return made


class Out(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class RunIn(Body):
    """How to start a run."""

    trigger_data: Any = Field(default=None, description="The run's input; also `event.data`. At most 512 KiB.")
    priority: StrictInt | StrictStr | None = Field(
        None, description="1 (first) … 10 (last), or critical, high, normal, low, background."
    )
    delay: StrictInt | StrictStr | None = Field(None, description="Milliseconds, or text such as 5m; a year at most.")
    run_at: dt.datetime | None = Field(None, description="When it starts, instead of a delay; with its time zone.")
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


class RepeatIn(Body):
    """How to repeat a run. Without `input`, that of the run counts; `null` is an input too."""

    mode: Literal["start", "resume"] = Field("start", description="`resume` keeps the outcomes of what was done.")
    version: Literal["current", "same"] | None = Field(
        None, description="Of the flow: current (the default from the start) or the run's own (that of a resume)."
    )
    input: Any = None
    force: bool = Field(False, description="Repair it although it was repaired already.")
    dry_run: bool = False


class ForkIn(Body):
    """From which steps to run again. Everything that needs them runs too, the rest is taken over."""

    from_steps: list[str] = Field(min_length=1, max_length=1_000)
    version: Literal["current", "same"] = "same"
    input: Any = None
    dry_run: bool = False


class RepeatOut(Out):
    run_id: UUID | None = Field(description="The new run; none in a dry run.")
    origin_id: UUID
    version: int
    dry_run: bool
    kept: list[str] = Field(description="The steps whose outcomes are taken over.")
    runs: list[str] = Field(description="The steps that run.")
    changes: list[dict[str, Any]] = Field(description="Of the input, as a JSON Patch (RFC 6902).")


class BulkIn(Body):
    """What to do it to, and how fast. `filter` has the names of the list's query."""

    filter: dict[str, str] = Field(default_factory=dict)
    all: bool = Field(False, description="Without a filter, say so: everything.")
    per_second: float | None = Field(None, description="At most so many a second (more than 0, at most 1,000).")
    dry_run: bool = Field(False, description="Only say how many it would be.")


class BulkCancelIn(BulkIn):
    reason: str = Field("", max_length=1_000)


class BulkReplayIn(BulkIn):
    mode: Literal["start", "resume"] = "start"
    version: Literal["current", "same"] | None = None
    force: bool = Field(False, description="Repair those too that were repaired already.")


class OperationOut(Out):
    id: UUID | None = Field(description="None in a dry run.")
    action: str
    filter: dict[str, Any]
    options: dict[str, Any]
    per_second: float
    status: str
    matched: int
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
