"""What expressions read of an event and of an organization: the same before a run is made and in its steps."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from cachetools import TTLCache

from workflows import this_process
from workflows.engine.sql.waits import LookBackRow
from workflows.models import Event, Organization
from workflows.models.event import SYSTEM

MANUAL_EVENT = f"{SYSTEM}manual"
MAX_USER_ID = 200
SLUG_TTL_S = 10.0


class Slugs:
    """The slugs of organizations, kept for a few seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: TTLCache[UUID, str] = TTLCache(10_000, SLUG_TTL_S)

    def of(self, org_id: UUID) -> str:
        with self._lock:
            slug = self._kept.get(org_id)
        if slug is None:
            slug = Organization.objects.values_list("slug", flat=True).get(id=org_id)
            with self._lock:
                self._kept[org_id] = slug
        return slug


def event_facts(*, id_: UUID, name: str, data: Any, user: Mapping[str, Any] | None, ts: dt.datetime) -> dict[str, Any]:
    """{id, name, data, user, ts}; `ts` in milliseconds since 1970. A run without an event is one of its own."""
    millis = int(ts.timestamp() * 1000)
    return {"id": str(id_), "name": name or MANUAL_EVENT, "data": data, "user": user or {}, "ts": millis}


def facts_of(event: Event | LookBackRow) -> dict[str, Any]:
    """The facts of a stored event."""
    return event_facts(id_=event.id, name=event.name, data=event.data, user=event.user, ts=event.ts)


def user_of(user_id: str) -> dict[str, Any]:
    """The user of a run that no event tells more of."""
    return {"id": user_id} if user_id else {}


def user_id_of(user: Mapping[str, Any]) -> str:
    """The id of an event's user as the run keeps it; empty where it is neither a text nor a number."""
    found = user.get("id")
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return ""
    return str(found)[:MAX_USER_ID]


def organization_facts(org_id: UUID) -> dict[str, str]:
    """{id, slug}; a slug that is changed is seen within ten seconds."""
    return {"id": str(org_id), "slug": this_process.own(Slugs).of(org_id)}
