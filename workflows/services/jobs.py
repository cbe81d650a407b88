"""Jobs by priority level, as events (`queueJob` of TypeScript clients)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from throttling.policy import PRIORITY_LEVELS
from workflows.engine.events import receive
from workflows.engine.events.receive import NewEvent
from workflows.errors import InvalidInput
from workflows.models import Organization


def queue_job(organization: Organization, name: str, data: Mapping[str, Any], priority: str = "NORMAL") -> UUID:
    """Send the event `job/<level>` with the data, `_priority` and `_originalJobType`. Returns the event's id.

    `priority`: CRITICAL, HIGH, NORMAL, LOW or BACKGROUND, in any case. Raises InvalidInput for another.
    """
    level = priority.lower()
    if level not in PRIORITY_LEVELS:
        raise InvalidInput(f"priority {priority!r} is unknown; use {', '.join(PRIORITY_LEVELS)}.")
    payload = {**data, "_priority": priority.upper(), "_originalJobType": name}
    return receive.receive(organization.id, [NewEvent(name=f"job/{level}", data=payload)])[0]
