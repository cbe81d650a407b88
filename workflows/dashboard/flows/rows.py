"""What lists and pages say of a flow and its triggers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from workflows.edge.path_tokens import mask_path_tokens
from workflows.models import Flow, Trigger
from workflows.selectors.pages.flows import Health
from workflows.services import schedules
from workflows.this_process.configuration import configuration

SHOWN_FIRES = 3
STATES = {"pause": "paused", "drain": "draining"}


def state_of(flow: Flow, stop: Mapping[str, Any] | None) -> str:
    """One word for how a flow is: active, paused, draining, archived, or deleted while its history goes."""
    if flow.deletion_asked_at is not None:
        return "deleting"
    if flow.archived_at is not None:
        return "archived"
    return STATES[stop["mode"]] if stop is not None else "active"


def flow_row(
    flow: Flow, stop: Mapping[str, Any] | None, health: Health, live: Mapping[UUID, int], *, in_clear: bool
) -> dict[str, Any]:
    """A flow in a list. `in_clear`: with the addresses of its webhooks."""
    triggers = [trigger_row(each, in_clear=in_clear) for each in flow.triggers.all()]
    fires = sorted(at for each in triggers if each["enabled"] for at in each["next_fires"])
    return {
        "flow": flow,
        "state": state_of(flow, stop),
        "stop": stop,
        "triggers": triggers,
        "next_fire": fires[0] if fires and flow.archived_at is None else None,
        "live_runs": live.get(flow.id, 0),
        "health": health,
    }


def trigger_row(trigger: Trigger, *, in_clear: bool, fires: int = SHOWN_FIRES) -> dict[str, Any]:
    """A trigger: what it is in words, when it fires next, and the address of a webhook (masked without the right)."""
    text = f"webhook {trigger.event_name}" if trigger.kind == Trigger.Kind.WEBHOOK else str(trigger)
    address = f"{configuration().public_url}/hooks/{trigger.token}" if trigger.token else ""
    config = trigger.config
    return {
        "id": trigger.id,
        "key": trigger.key,
        "kind": trigger.kind,
        "text": text,
        "event_name": trigger.event_name,
        "condition": trigger.condition,
        "enabled": trigger.enabled,
        "schedule": config.get("schedule", ""),
        "timezone": config.get("timezone", ""),
        "overlap": config.get("overlap", ""),
        "catch_up": config.get("catch_up", ""),
        "signature": config.get("webhook", ""),
        "secret": config.get("secret", ""),
        "is_masked": bool(address) and not in_clear,
        "address": address if in_clear else mask_path_tokens(address),
        "next_fires": schedules.next_fires(trigger, fires) if trigger.kind == Trigger.Kind.CRON else [],
    }
