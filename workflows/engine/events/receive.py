"""Events: stored first, and matched after their commit (`matching`), so that none is lost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import uuid6
from django.db import transaction

from workflows.engine.events import matching
from workflows.models import Event
from workflows.payload import MAX_EVENT_BYTES, dump


@dataclass(frozen=True, kw_only=True)
class NewEvent:
    """An event as it was received. `ts`: when it happened, now if the sender does not say."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    user: dict[str, Any] = field(default_factory=dict)
    ts: dt.datetime | None = None
    external_id: str = ""
    trigger_id: UUID | None = None
    """The webhook trigger at whose address it came."""
    id: UUID = field(default_factory=uuid6.uuid7)


def receive(org_id: UUID, events: Sequence[NewEvent]) -> list[UUID]:
    """Store the events, all or none, and match them after the commit. An id that is stored already is left alone.

    Raises InvalidOutput or PayloadTooLarge for data that can't be stored.
    """
    for event in events:
        dump({"data": event.data, "user": event.user}, what=f"The event {event.name}", limit_bytes=MAX_EVENT_BYTES)
    now = dt.datetime.now(dt.UTC)
    with transaction.atomic():
        Event.objects.bulk_create(
            [
                Event(
                    id=event.id,
                    org_id=org_id,
                    name=event.name,
                    data=event.data,
                    user=event.user,
                    ts=event.ts or now,
                    external_id=event.external_id,
                    trigger_id=event.trigger_id,
                )
                for event in events
            ],
            ignore_conflicts=True,
        )
        ids = [event.id for event in events]
        transaction.on_commit(lambda: matching.match(ids), robust=True)
    return ids


def send(org_id: UUID, events: Sequence[tuple[UUID, str, dict[str, Any], dict[str, Any]]]) -> None:
    """Store events (id, name, data, user), all or none, once for each id. Raises as `receive` does."""
    receive(org_id, [NewEvent(id=id_, name=name, data=data, user=user) for id_, name, data, user in events])
