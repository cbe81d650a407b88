"""Observed Celery tasks as JSON."""

from __future__ import annotations

from typing import Any

from workflows.models import ObservedTask
from workflows.selectors.observed import shown_state


def observed_out(task: ObservedTask) -> dict[str, Any]:
    """A task as it was observed; times in UTC, durations in seconds."""
    return {
        "id": task.id,
        "name": task.name,
        "state": shown_state(task),
        "queue": task.queue or None,
        "worker": task.hostname or None,
        "rootId": task.root_id or None,
        "parentId": task.parent_id or None,
        "groupId": task.group_id or None,
        "retries": task.retries,
        "starts": task.starts,
        "arguments": task.arguments or None,
        "error": {"name": task.error, "message": task.message} if task.error else None,
        "sentAt": task.sent_at,
        "startedAt": task.started_at,
        "endedAt": task.ended_at,
        "seenAt": task.seen_at,
        "waited": _seconds(task.sent_at, task.started_at) if task.starts == 1 else None,
        "duration": _seconds(task.started_at, task.ended_at),
    }


def _seconds(start: Any, end: Any) -> float | None:
    return max(0.0, (end - start).total_seconds()) if start is not None and end is not None else None
