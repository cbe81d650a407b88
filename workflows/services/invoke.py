"""Flows that start others."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from workflows import services
from workflows.engine.sql import services as sql
from workflows.errors import (
    FlowArchived,
    FlowNotFound,
    FlowNotPublished,
    FlowPaused,
    InvalidInput,
    NonRetriable,
    PayloadTooLarge,
    RetryAfter,
    RunRateLimited,
)
from workflows.models import Organization

MAX_DEPTH = 20


def invoke(
    org_id: UUID,
    slug: str,
    data: Any,
    *,
    parent: UUID,
    on_parent_cancel: Literal["cancel", "abandon"],
    once: str,
    priority: str | int | None,
    awaited: bool,
) -> UUID:
    """Start a run of a flow as the child of another run, once for each value of `once`. Returns the run.

    Raises RetryAfter beyond the flow's rate_limit; NonRetriable where there is no such flow, where it does not take the
    data, and where runs start each other too deeply.
    """
    above = {row.id for row in sql.runs_above(id=parent, limit=MAX_DEPTH)}
    if len(above) > MAX_DEPTH:
        raise NonRetriable(f"Runs start each other {MAX_DEPTH} levels deep: does a flow invoke itself?")
    organization = Organization.objects.get(id=org_id)
    try:
        made = services.trigger(
            organization,
            slug,
            data,
            priority=priority,
            idempotency_key=once,
            kind="invoke",
            parent=parent,
            on_parent_cancel=on_parent_cancel,
            awaited=awaited,
        )
    except RunRateLimited as error:
        raise RetryAfter(error.retry_after_s, str(error)) from error
    except (FlowNotFound, FlowArchived, FlowNotPublished, FlowPaused, InvalidInput, PayloadTooLarge) as error:
        raise NonRetriable(f"The flow {slug!r} can't be started: {error}") from error
    if made.run_ids[0] in above:
        raise NonRetriable(f"The flow {slug!r} gives the run {made.run_ids[0]}, which waits for this one.")
    return made.run_ids[0]
