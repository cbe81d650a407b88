"""The form of what `/api/dlq` and `/api/alerts` answer, for the OpenAPI document."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from pydantic import Field

from workflows.api.schemas.runs import Out


class LetterOut(Out):
    id: UUID
    status: str
    event_name: str
    event_id: UUID | None
    event_data: Any
    error_name: str
    error_message: str
    attempts: int
    category: str
    flow: str
    workflow: str = Field(description="The old name of `flow`.")
    run_id: UUID = Field(description="The run that failed last.")
    first_run_id: UUID = Field(description="The run that failed first.")
    step: str | None = Field(description="None where the run failed by itself.")
    step_type: str
    group_id: UUID
    fingerprint: str
    reason: str | None = Field(description="Why it is ignored.")
    replay_run_id: UUID | None = Field(description="The run that repeats its run.")
    auto_replay_at: dt.datetime | None
    failed_at: dt.datetime
    reprocessed_at: dt.datetime | None
    created_at: dt.datetime


class LettersOut(Out):
    dead_letters: list[LetterOut]
    next_cursor: str | None


class LetterChangeOut(Out):
    what: str
    by: str
    at: dt.datetime
    reason: str | None
    run_id: UUID | None
    patch: list[dict[str, Any]] = Field(description="Of the payload, as a JSON Patch (RFC 6902).")


class LetterDetailOut(LetterOut):
    error_stack: str
    changes: list[LetterChangeOut]


class LetterStatsOut(Out):
    failed: int
    reprocessed: int
    ignored: int
    handled: int = Field(description="Whose failure the code of a flow has caught.")
    last_hour: int
    last_day: int
    oldest_failed_at: dt.datetime | None
    groups: int = Field(description="With a letter that nobody has dealt with.")
    by_category: dict[str, int]
    by_flow: dict[str, int]
    by_workflow: dict[str, int] = Field(description="The old name of `byFlow`.")


class CommentOut(Out):
    by: str
    text: str
    at: dt.datetime


class GroupOut(Out):
    id: UUID
    fingerprint: str
    step_type: str
    category: str
    error_name: str
    message: str
    location: str | None = Field(description="Where in the code.")
    failed: int
    reprocessed: int
    ignored: int
    handled: int = Field(description="Whose failure the code of a flow has caught.")
    total: int
    first_seen: dt.datetime
    last_seen: dt.datetime | None
    history: list[int] = Field(description="How many came in each of the last 24 hours, the oldest first.")
    assigned_to: str | None
    snoozed_until: dt.datetime | None
    auto_replay_s: int | None
    comments: list[CommentOut] = Field(description="In the answer about one group only.")


class AlertOut(Out):
    id: UUID
    rule: str | None
    severity: str
    title: str
    message: str
    value: float | None
    execution: UUID | None = Field(description="A run that shows it.")
    step: str | None
    fired_at: dt.datetime
    recovered_at: dt.datetime | None
