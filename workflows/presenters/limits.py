"""Limits, their changes, and why a step waits for one, as JSON (camelCase). Durations are in milliseconds."""

from __future__ import annotations

from typing import Any

from throttling.models import ThrottleChange, ThrottleOverride
from workflows.selectors.limits import LimitLine, Reason


def override_out(row: ThrottleOverride) -> dict[str, Any]:
    rate = None
    if row.rate_limit is not None:
        rate = {
            "limit": row.rate_limit,
            "periodMs": row.rate_period_ms,
            "algorithm": row.rate_algorithm,
            "burst": row.rate_burst,
        }
    return {
        "scope": row.scope,
        "type": row.type or None,
        "flowId": str(row.flow_id) if row.flow_id else None,
        "name": row.name or None,
        "organization": str(row.org_id) if row.org_id else "all",
        "concurrency": row.concurrency,
        "rate": rate,
        "key": row.key or None,
        "retry": {
            "attempts": row.max_attempts,
            "backoff": row.backoff or None,
            "delayMs": row.delay_ms,
            "maxDelayMs": row.max_delay_ms,
        },
        "weight": row.weight,
        "note": row.note,
        "changedBy": row.changed_by,
        "changedAt": row.changed_at,
    }


def line_out(line: LimitLine) -> dict[str, Any]:
    state = line.state
    return {
        "limit": line.instance,
        "description": line.what,
        "source": line.source,
        "bound": line.bound,
        "max": state.bound if state else None,
        "periodMs": (state.period_us // 1000 or None) if state else None,
        "inUse": state.in_use if state else None,
        "startedInPeriod": state.started if state and state.kind == "w" else None,
        "waiting": state.waiting if state else None,
        "refused": state.refused if state else None,
        "nextFreeInMs": round(state.next_free_s * 1000) if state and state.next_free_s is not None else None,
        "pausedForMs": round(state.paused_s * 1000) if state and state.paused_s is not None else None,
        "meanHoldMs": round(state.mean_hold_s * 1000, 3) if state and state.mean_hold_s else None,
    }


def reason_out(reason: Reason) -> dict[str, Any]:
    return {
        "sentence": reason.sentence,
        "limit": reason.instance or None,
        "description": reason.limit or None,
        "used": reason.used,
        "max": reason.bound,
        "position": reason.place or None,
        "waitingOfOrganization": reason.of_tenant,
        "ahead": reason.ahead,
        "waiting": reason.waiting,
        "expectedInMs": round(reason.expected_in_s * 1000) if reason.expected_in_s is not None else None,
        "waitedMs": round(reason.waited_s * 1000),
    }


def change_out(change: ThrottleChange) -> dict[str, Any]:
    return {
        "revision": change.id,
        "at": change.at,
        "by": change.by,
        "what": change.place,
        "before": change.before,
        "after": change.after,
    }
