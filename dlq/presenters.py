"""Dead letters and alerts as JSON (camelCase), the same for REST and CLI."""

from __future__ import annotations

from typing import Any

from dlq.models import Alert, DeadLetter
from dlq.selectors import GroupSummary, LetterDetail


def letter_out(letter: DeadLetter) -> dict[str, Any]:
    """A letter without its audit trail."""
    return {
        "id": str(letter.id),
        "status": letter.status,
        "eventName": letter.event_name,
        "eventId": str(letter.event_id) if letter.event_id else None,
        "eventData": letter.event_data,
        "errorName": letter.error_name,
        "errorMessage": letter.error_message,
        "attempts": letter.attempts,
        "category": letter.category,
        "flow": letter.flow.slug,
        "workflow": letter.flow.slug,
        "runId": str(letter.run_id),
        "firstRunId": str(letter.first_run_id),
        "step": letter.step_key or None,
        "stepType": letter.step_type,
        "groupId": str(letter.group_id),
        "fingerprint": letter.group.fingerprint,
        "reason": letter.reason or None,
        "replayRunId": str(letter.replay_run_id) if letter.replay_run_id else None,
        "autoReplayAt": letter.auto_replay_at,
        "failedAt": letter.failed_at,
        "reprocessedAt": letter.reprocessed_at,
        "createdAt": letter.created_at,
    }


def detail_out(detail: LetterDetail) -> dict[str, Any]:
    """A letter with its stack and audit trail."""
    return {
        **letter_out(detail.letter),
        "errorStack": detail.letter.error_stack,
        "changes": [
            {
                "what": change.what,
                "by": change.by,
                "at": change.at,
                "reason": change.reason or None,
                "runId": str(change.run_id) if change.run_id else None,
                "patch": change.patch,
            }
            for change in detail.changes
        ],
    }


def group_out(summary: GroupSummary) -> dict[str, Any]:
    """A group with its counts and the hours of its history."""
    group = summary.group
    return {
        "id": str(group.id),
        "fingerprint": group.fingerprint,
        "stepType": group.step_type,
        "category": group.category,
        "errorName": group.error_name,
        "message": group.message,
        "location": group.location or None,
        "failed": summary.failed,
        "reprocessed": summary.reprocessed,
        "ignored": summary.ignored,
        "handled": summary.handled,
        "total": summary.total,
        "firstSeen": group.first_seen,
        "lastSeen": summary.last_seen,
        "history": summary.history,
        "assignedTo": group.assigned_to or None,
        "snoozedUntil": group.snoozed_until,
        "autoReplayS": group.auto_replay_s,
        "comments": [{"by": each.by, "text": each.text, "at": each.at} for each in summary.comments],
    }


def alert_out(alert: Alert) -> dict[str, Any]:
    """An alert, from its firing to its recovery."""
    return {
        "id": str(alert.id),
        "rule": alert.rule.name if alert.rule else None,
        "severity": alert.severity,
        "title": alert.title,
        "message": alert.message,
        "value": alert.value,
        "execution": str(alert.execution) if alert.execution else None,
        "step": alert.step or None,
        "firedAt": alert.fired_at,
        "recoveredAt": alert.recovered_at,
    }
